"""What a partner is owed and why it waits, as dispatch said last: for the API, and in words for the pages. Pure (semantics 8.2 to 8.6).

Dispatch works in another process, and may be gone: then its last word stays, with its age.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel

from gateway import wording as say
from gateway.picture import Picture
from gateway.redaction import clean
from schemas.config import Partner
from schemas.flows import QueueStanding
from schemas.units import Instant
from sinks.oscp.breaker import BreakerState

OLD_AFTER = timedelta(seconds=45)
"""Dispatch reports at least every 15 s (wall): what it said longer ago may not be so any more, which has to be told."""


class QueueView(BaseModel):
    """What a partner is owed. `waiting` counts all of it, heartbeats, `parked` messages and those `under_way` included; `oldest_at` is
    when the oldest that is no heartbeat was made, an instant of the system's clock. `held`: what only a person can mend; `draining`:
    a backlog that goes at the partner's `max_rate`. `paused_until` (the end of a Retry-After or of an open breaker), `token_at`,
    `token_until` (the OAuth token in use) and `as_of` (when dispatch said all this) are wall time; there is a report at least every
    15 s while dispatch runs."""

    waiting: int
    parked: int
    under_way: int
    oldest_at: Instant | None
    breaker: str
    held: str
    paused_until: Instant | None
    draining: bool
    token_at: Instant | None
    token_until: Instant | None
    as_of: Instant


@dataclass(frozen=True, slots=True)
class QueueWords:
    """For people: what is owed, how fresh that is, why it waits, and the OAuth token; each empty where there is nothing to say.
    `look` is how urgent it is, as of `page_model.State`."""

    owed: str = ""
    fresh: str = ""
    why: str = ""
    token: str = ""
    look: str = "quiet"


def queue_of(picture: Picture, partner_id: str) -> QueueStanding | None:
    """How a partner's queue stood last; None where dispatch has said nothing yet. Who is not in what it says is owed nothing."""
    if picture.queues_at is None:
        return None
    return picture.queues.get(partner_id) or QueueStanding(partner_id=partner_id)


def queue_view(picture: Picture, partner_id: str) -> QueueView | None:
    """A partner's queue for the API, without secrets; None where nothing is known."""
    queue, as_of = queue_of(picture, partner_id), picture.queues_at
    if queue is None or as_of is None:
        return None
    plain = queue.model_dump(exclude={"partner_id"})
    return QueueView.model_validate({**plain, "held": clean(queue.held), "as_of": as_of})


def queue_words(picture: Picture, partner: Partner | None, partner_id: str, now: datetime, wall: datetime) -> QueueWords:
    """A partner's queue in words, at an instant of the clock and one of the wall."""
    queue, as_of = queue_of(picture, partner_id), picture.queues_at
    if queue is None or as_of is None:
        return QueueWords()
    said = wall - as_of
    old = said > OLD_AFTER
    fresh = f"as dispatch said {say.length(said)} ago; it has not been heard since" if old else ""
    # What it was about to do at a certain instant is not known to have happened; that it holds back, is.
    why = _why(queue, None if old else wall, partner)
    troubled = bool(queue.held or queue.parked or (queue.waiting and (old or queue.breaker != BreakerState.CLOSED)))
    return QueueWords(_owed(queue, now), fresh, why, "" if old else _token(queue, wall), "risk" if troubled else "quiet")


def _owed(queue: QueueStanding, now: datetime) -> str:
    if not queue.waiting:
        return "nothing"
    if queue.oldest_at is None:
        return say.plural(queue.waiting, "heartbeat")
    aside = f", {queue.parked} of them set aside" if queue.parked else ""
    oldest = say.length(max(now - queue.oldest_at, timedelta(0)))
    age = f"{oldest} old" if queue.waiting == 1 else f"the oldest {oldest} old"
    return f"{say.count(queue.waiting)} {'message' if queue.waiting == 1 else 'messages'}{aside}, {age}"


def _why(queue: QueueStanding, wall: datetime | None, partner: Partner | None) -> str:
    """Why what is owed waits. A hold is said in full by the partner's card, with its cure."""
    left = None if wall is None or queue.paused_until is None else queue.paused_until - wall
    soon = "" if left is None else f", tried again in {say.length(left)}" if left >= timedelta(seconds=1) else ", tried again now"
    beats = "" if wall is None else "; heartbeats go on"
    if queue.held:
        return f"held back until someone mends it: {clean(queue.held)}"
    if queue.breaker == BreakerState.OPEN:
        return f"sending failed several times in a row: the partner is left alone for a while{soon}{beats}"
    if queue.breaker == BreakerState.HALF_OPEN:
        return "sending failed several times in a row: one message is being tried"
    if left is not None and left > timedelta(0):
        return f"the partner asked us to wait{soon}"
    if queue.draining:
        rate = f", at most {partner.max_rate:g} a second" if partner else ""
        return f"a backlog goes in order{rate}"
    return ""


def _token(queue: QueueStanding, wall: datetime) -> str:
    if queue.token_at is None or queue.token_until is None:
        return ""
    fetched = f"fetched {say.ago(queue.token_at, wall)}"
    if queue.token_until <= wall:
        return f"{fetched}; its time is over, the next message fetches another"
    return f"{fetched}, used for another {say.length(queue.token_until - wall)}"
