"""How a partner's queue stands, for pages, metrics and alerts: dispatch says it with its reports. Pure."""

from datetime import datetime, timedelta

from schemas.flows import QueueStanding
from schemas.units import from_ms
from sinks.oscp.breaker import BreakerState
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.waiting import Now

LONGEST_HELD = 200
"""Characters of the words of a hold: the standings of hundreds of partners go in one message."""


def standing_of(partner_id: str, queue: PartnerQueue, now: Now, at: datetime, token: tuple[float, float] | None = None) -> QueueStanding:
    """How a queue stands `now`, when the wall's instant is `at`. `token`: when the OAuth token in use was fetched and until when it
    is used, as wall seconds. Takes as long as the queue has lanes and parked messages, however many wait."""

    def instant(wall: float) -> datetime:
        return (at + timedelta(seconds=wall - now.wall)).replace(microsecond=0)

    fronts = [message for message in (*queue.lanes.oldest(), *queue.parked.values()) if not message.beat]
    oldest_ms = min((message.at_ms for message in fronts), default=None)
    paused = max(queue.paused_until, queue.breaker.opens_at if queue.breaker.state is BreakerState.OPEN else 0.0)
    free = queue.only is None and queue.hold is None and paused <= now.wall and queue.breaker.state is BreakerState.CLOSED
    backlog = any(now.clock_ms - head.at_ms > queue.pace.period_ms for head in queue.lanes.heads() if not head.beat)
    return QueueStanding(
        partner_id=partner_id,
        waiting=len(queue),
        parked=len(queue.parked),
        under_way=queue.busy,
        oldest_at=None if oldest_ms is None else from_ms(oldest_ms),
        breaker=queue.breaker.state.value,
        held=queue.hold.words[:LONGEST_HELD] if queue.hold else "",
        paused_until=instant(paused) if paused > now.wall else None,
        draining=free and backlog,
        token_at=None if token is None else instant(token[0]),
        token_until=None if token is None else instant(token[1]),
    )
