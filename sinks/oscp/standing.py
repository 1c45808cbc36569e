"""How the queues stand, for pages and metrics."""

from dataclasses import dataclass

from sinks.oscp.queues import PartnerQueue


@dataclass(frozen=True, slots=True)
class Standing:
    """One partner's queue: `waiting` counts all that is owed, parked and under way included; `held` says why nothing
    goes, "" if it goes."""

    partner_id: str
    waiting: int
    parked: int
    under_way: int
    breaker: str
    held: str


def standing_of(partner_id: str, queue: PartnerQueue) -> Standing:
    """How a queue stands now."""
    held = queue.hold.words if queue.hold else ""
    return Standing(partner_id, len(queue), len(queue.parked), queue.busy, queue.breaker.state.value, held)
