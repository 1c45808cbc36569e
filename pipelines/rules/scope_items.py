"""What can happen to a scope's limits, in neutral terms: what the envelope's rule takes in (semantics 3).

Each item carries what the configuration says about the scope, so that the rule asks nobody.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pipelines.rules.circuits import CircuitTerms
from schemas.capacity import CapacityForecast
from schemas.units import to_ms

OPERATOR = "an operator"
"""The `source_id` of operators' own limits; no group can be called so, for ids hold no spaces."""


class GroupTerms(NamedTuple):
    """What the configuration says about a group's limits; W. `keep`: see `circuits.CircuitTerms`."""

    group_id: str
    partner_id: str
    hold_ms: int
    safe_import_w: float | None = None
    safe_export_w: float | None = None
    keep: bool = True


class ScopeTerms(NamedTuple):
    """What the configuration says about a scope: its circuit and its groups, in order of their ids."""

    circuit: CircuitTerms | None = None
    groups: tuple[GroupTerms, ...] = ()


@dataclass(frozen=True, slots=True)
class Spoken:
    """A source (a group, or operators) has spoken; it counts from its receipt."""

    forecast: CapacityForecast
    event_id: str
    terms: ScopeTerms

    @property
    def instant_ms(self) -> int:
        """When it was received."""
        return to_ms(self.forecast.received_at)


@dataclass(frozen=True, slots=True)
class Linked:
    """A partner has been away (OFFLINE or DEREGISTERED), or not, since an instant."""

    partner_id: str
    away: bool
    since: datetime
    event_id: str
    terms: ScopeTerms

    @property
    def instant_ms(self) -> int:
        """Since when."""
        return to_ms(self.since)


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration that concerns the scope may have changed."""

    at: datetime
    event_id: str
    terms: ScopeTerms

    @property
    def instant_ms(self) -> int:
        """When it was changed."""
        return to_ms(self.at)


Item = Spoken | Linked | Configured
"""What the envelope's rule takes in."""
