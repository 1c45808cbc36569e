"""What became of our wish for another capacity (semantics 7.4)."""

from enum import StrEnum

from schemas.facts import Fact
from schemas.units import Instant


class AdjustmentState(StrEnum):
    """Asked by an operator; taken by the partner; answered by a new forecast; refused by the partner; or come to nothing."""

    REQUESTED = "REQUESTED"
    DELIVERED = "DELIVERED"
    ANSWERED = "ANSWERED"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"


class Adjustment(Fact):
    """Where an AdjustGroupCapacityForecast stands; the highest `revision` of an `adjustment_id` holds.

    `adjustment_id` is the id of the command that asked, `type` the forecast type as received from there. `until` is the end of
    the last block asked for: after it no answer is waited for. `answer` is the X-Request-ID of the forecast that answers it.
    """

    adjustment_id: str
    partner_id: str
    group_id: str
    scope_id: str
    type: str
    state: AdjustmentState
    by: str
    requested_at: Instant
    message_id: str
    start: Instant
    until: Instant
    delivered_at: Instant | None = None
    answer: str | None = None
    words: str = ""
    revision: int
