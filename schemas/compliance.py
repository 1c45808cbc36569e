"""Whether a group kept to its limits (semantics 5)."""

from enum import StrEnum

from schemas.facts import Fact
from schemas.units import Direction, Instant, Phase


class VerdictKind(StrEnum):
    """How a quarter hour stands against its limit."""

    WITHIN = "WITHIN"
    BREACHED = "BREACHED"
    UNKNOWN = "UNKNOWN"


class Verdict(Fact):
    """The judgement of one group, quarter, direction and phase; the highest `revision` holds.

    Phase ALL is the group's total against its whole limit; a single conductor is judged where a forecast limits it and
    the scope's connection meter measures it.

    An `at_risk` verdict is a projection inside the quarter: revision 0, verdict UNKNOWN, `projected_w` set.
    `forecasts` are the causes of the limits that concern the quarter; `reportable_forecasts` those of
    them that came as forecasts or fallbacks (never safe or operator limits), which the partner may hear of: where the
    quarter is breached, only if it is by their own measure, too.
    """

    partner_id: str
    group_id: str
    scope_id: str
    quarter: Instant
    direction: Direction
    verdict: VerdictKind
    used_wh: float
    allowed_wh: float | None = None
    reason: str = ""
    forecasts: list[str] = []
    reportable_forecasts: list[str] = []
    revision: int
    at_risk: bool = False
    projected_w: float | None = None
    phase: Phase = Phase.ALL


class BreachState(StrEnum):
    """The life of a breach."""

    OPENED = "OPENED"
    CONTINUED = "CONTINUED"
    CLOSED = "CLOSED"
    VOIDED = "VOIDED"


class Breach(Fact):
    """Consecutive breached quarters of one direction and phase; the highest `revision` of a `breach_id` holds."""

    breach_id: str
    partner_id: str
    group_id: str
    scope_id: str
    direction: Direction
    state: BreachState
    first_quarter: Instant
    last_quarter: Instant
    quarters: int
    peak_mean_w: float
    energy_over_wh: float
    forecasts: list[str] = []
    revision: int
    phase: Phase = Phase.ALL
