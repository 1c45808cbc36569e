"""How the partners' queues stand, and the last day's messages counted, as the page of messages shows them. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.messages_model import Stand
from gateway.messages_rows import brief
from gateway.page_model import State, When
from gateway.partner_card import when
from gateway.past_messages import MessageCount
from gateway.picture import Picture
from gateway.redaction import clean
from schemas.config import Configuration
from schemas.flows import QueueStanding

STALE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class QueueCard:
    """How one partner's queue stands."""

    partner_id: str
    name: str
    state: State
    waiting: str
    oldest: When | None
    words: str
    token: str


def queue_cards(
    picture: Picture, config: Configuration, zone: ZoneInfo, now: datetime, at_wall: Callable[[datetime], datetime], wall: datetime
) -> list[QueueCard]:
    """The partners that are owed something or that nothing can be sent to, the largest backlog first. `at_wall` is the clock's reading
    at an instant of the wall, `wall` the wall's now."""
    found = [queue for queue in picture.queues.values() if queue.waiting or queue.held or queue.breaker != "CLOSED"]
    names = {partner.id: partner.name or partner.id for partner in config.partners}
    found.sort(key=lambda queue: (-queue.waiting, queue.partner_id))
    return [_card(queue, names.get(queue.partner_id, queue.partner_id), zone, now, at_wall, wall) for queue in found]


def _card(
    queue: QueueStanding, name: str, zone: ZoneInfo, now: datetime, at_wall: Callable[[datetime], datetime], wall: datetime
) -> QueueCard:
    until = None if queue.paused_until is None else at_wall(queue.paused_until)
    ahead = "" if until is None or until <= now else f" until {say.moment(until, zone, now)}"
    state, words = _standing(queue, ahead)
    parked = f", {say.count(queue.parked)} set aside" if queue.parked else ""
    return QueueCard(
        partner_id=queue.partner_id,
        name=name,
        state=state,
        waiting=f"{say.count(queue.waiting)} waiting{parked}",
        oldest=None if queue.oldest_at is None else when(queue.oldest_at, zone, now),
        words=words,
        token=_token(queue, wall),
    )


def _standing(queue: QueueStanding, ahead: str) -> tuple[State, str]:
    """The chip of a queue and its words; `ahead` is until when it pauses, with a space before it."""
    if queue.held:
        return State("held", "bad"), clean(queue.held)
    if queue.breaker == "OPEN":
        return State("left alone", "bad"), f"it fails and is left alone{ahead or ' until one message on trial goes through'}"
    if queue.breaker == "HALF_OPEN":
        return State("on trial", "risk"), "one message is on its way to see whether it answers again"
    if ahead:
        return State("paused", "risk"), f"it asked for a pause{ahead}"
    if queue.draining:
        return State("drains", "risk"), "its backlog goes at a limited rate, the oldest first"
    return State("sends", "good"), ""


def _token(queue: QueueStanding, wall: datetime) -> str:
    if queue.token_at is None:
        return ""
    age = f"OAuth token {say.length(max(wall - queue.token_at, timedelta(0)))} old"
    if queue.token_until is None:
        return age
    return f"{age}, renewed in {say.length(queue.token_until - wall)}" if queue.token_until > wall else f"{age}, to be renewed"


def stale_words(picture: Picture, wall: datetime) -> str:
    """What is to be said of the queues' standing as a whole; empty where it is fresh."""
    if picture.queues_at is None:
        return "Dispatch has not said yet how its queues stand."
    age = wall - picture.queues_at
    return f"Dispatch last said {say.length(age)} ago how its queues stand; see whether it runs." if age > STALE else ""


@dataclass(frozen=True, slots=True)
class CountRow:
    """The last day of a partner's messages of one action. `figures` are the states in their order: a word, how many, and the look."""

    partner_id: str
    partner: str
    action: str
    figures: tuple[tuple[str, str, str], ...]
    p50: str
    p99: str


_STANDS = (Stand.DELIVERED, Stand.WAITING, Stand.PARKED, Stand.REFUSED, Stand.EXPIRED, Stand.DROPPED)
_LOOKS = {Stand.DELIVERED: "", Stand.WAITING: "", Stand.DROPPED: "", Stand.PARKED: "risk"}


def count_rows(counts: Sequence[MessageCount], config: Configuration) -> list[CountRow]:
    """The counts by partner and action."""
    names = {partner.id: partner.name or partner.id for partner in config.partners}
    return [
        CountRow(
            each.partner_id,
            names.get(each.partner_id, each.partner_id),
            each.action,
            tuple(_figure(stand, each) for stand in _STANDS),
            "" if each.p50_ms is None else brief(each.p50_ms),
            "" if each.p99_ms is None else brief(each.p99_ms),
        )
        for each in counts
    ]


def _figure(stand: Stand, count: MessageCount) -> tuple[str, str, str]:
    number: int = getattr(count, stand.value.lower())
    return stand.value.lower(), say.count(number) if number else "", _LOOKS.get(stand, "bad")
