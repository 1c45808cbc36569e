"""The life of a wish for another capacity: requested, delivered, answered by a new forecast, or come to nothing (semantics 7.4).

A partner that agrees answers with a new forecast, otherwise with nothing. A forecast that names the wish by its
X-Correlation-ID answers it whatever else is known. One that names none of our wishes answers what had begun to be sent before it was
received (it may overtake the end of that exchange) and was delivered, for the same group and type, if it speaks about the time asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import ValidationError

from pipelines.records import Out, Tick
from pipelines.rules.patience import AT_ONCE, Patience
from pipelines.rules.reporting_compliance import by_hand
from schemas.adjustment import Adjustment, AdjustmentState
from schemas.connection import Command, Event, InboundMessage, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.oscp.v20 import AdjustGroupCapacityForecast, UpdateGroupCapacityForecast
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import ADJUSTMENTS, EVENTS
from schemas.units import from_ms, rfc3339, to_ms

S = AdjustmentState
OPEN = frozenset({S.REQUESTED, S.DELIVERED})
KEPT = timedelta(days=7)
"""How long after its time a wish is known by its message id: an answer that names it may come late."""
HEARD_AT_MOST = 16
_ENDED = {Outcome.REFUSED: S.REFUSED, Outcome.EXPIRED: S.EXPIRED, Outcome.DROPPED: S.EXPIRED}
_SEVERITY = {S.EXPIRED: Severity.WARNING, S.REFUSED: Severity.WARNING}


class Asked(NamedTuple):
    """An operator's command of kind ADJUST, and the scope its group is bound to."""

    command: Command
    scope_id: str


class Heard(NamedTuple):
    """A forecast as far as it may answer a wish; instants in ms since 1970 UTC."""

    request_id: str
    correlation_id: str | None
    event_id: str
    type: str
    received_ms: int
    spans: tuple[tuple[int, int], ...]

    def names(self, wish: Adjustment) -> bool:
        """Whether it says that it answers just this wish; ids are of no case."""
        return self.correlation_id is not None and self.correlation_id.lower() == wish.message_id.lower()

    def speaks_of(self, wish: Adjustment) -> bool:
        """Whether it is about the same limit, and the time asked for."""
        start, until = to_ms(wish.start), to_ms(wish.until)
        return self.type == wish.type and any(begin < until and end > start for begin, end in self.spans)


Item = Asked | Delivery | InboundMessage


@dataclass(slots=True)
class WishesState:
    """One group's wishes by id, when the first attempt to send each began (ms), and the forecasts heard while one was open, oldest
    first."""

    group_id: str
    wishes: dict[str, Adjustment] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    wait_until_ms: int = 0


class AdjustmentRule:
    """Turns commands, deliveries and forecasts of one group (the key) into `Adjustment` revisions and `Event`s."""

    def __init__(self, patience: Patience = AT_ONCE) -> None:
        self._patience = patience

    def start(self, key: str) -> WishesState:
        """A group for which nobody has asked anything."""
        return WishesState(key)

    def step(self, state: WishesState, item: Item | Tick, now: datetime) -> Iterator[Out]:
        """Take in one item; on a tick, end the wishes whose time is over."""
        match item:
            case Asked():
                yield from self._asked(state, item, now)
            case Delivery():
                yield from self._attempted(state, item, now)
            case InboundMessage():
                yield from self._heard(state, item, now)
            case Tick() if self._waits(state) <= to_ms(now):
                for wish in [one for one in state.wishes.values() if one.state in OPEN and one.until <= now]:
                    words = f"no forecast answered it by {rfc3339(wish.until)}, the end of the time it was about"
                    yield from _became(state, wish, S.EXPIRED, words, wish.cause_id, now)
        for old in [wish.adjustment_id for wish in state.wishes.values() if wish.state not in OPEN and wish.until + KEPT <= now]:
            del state.wishes[old]
            state.begun.pop(old, None)
        if not any(wish.state in OPEN for wish in state.wishes.values()):
            state.heard = []

    def due(self, state: WishesState) -> datetime | None:
        """When the first open wish's time is over."""
        first = min((wish.until for wish in state.wishes.values() if wish.state in OPEN), default=None)
        return None if first is None else max(first, from_ms(self._waits(state)))

    def _waits(self, state: WishesState) -> int:
        return max(state.wait_until_ms, self._patience.at_first())

    def _asked(self, state: WishesState, item: Asked, now: datetime) -> Iterator[Out]:
        command = item.command
        state.wait_until_ms = max(state.wait_until_ms, self._patience.after(to_ms(command.at), now))
        message = next((one for one in by_hand(command, command.at) if isinstance(one, OutboundMessage)), None)
        if message is None or command.event_id in state.wishes:
            return  # what is wrong with it the flow says where it makes messages
        body = AdjustGroupCapacityForecast.model_validate_json(message.body)
        wish = Adjustment(
            event_id="",
            at=now,
            adjustment_id=command.event_id,
            partner_id=command.partner_id,
            group_id=state.group_id,
            scope_id=item.scope_id,
            type=body.type.value,
            state=S.REQUESTED,
            by=command.by,
            requested_at=command.at,
            message_id=message.message_id,
            start=min(block.start_time for block in body.forecasted_blocks),
            until=max(block.end_time for block in body.forecasted_blocks),
            revision=0,
        )
        yield from _became(state, wish, S.REQUESTED, "it is on its way to the partner", command.event_id, now)

    def _attempted(self, state: WishesState, delivery: Delivery, now: datetime) -> Iterator[Out]:
        wish = next((one for one in state.wishes.values() if one.message_id == delivery.message_id), None)
        if wish is None or wish.state is not S.REQUESTED:
            return
        began_ms = to_ms(delivery.at) - delivery.duration_ms
        state.begun[wish.adjustment_id] = min(state.begun.get(wish.adjustment_id, began_ms), began_ms)
        if delivery.outcome is Outcome.DELIVERED:
            taken = wish.model_copy(update={"delivered_at": delivery.at})
            yield from _became(
                state, taken, S.DELIVERED, "the partner has taken it; a new forecast will be its answer", delivery.event_id, now
            )
            delivered = state.wishes[wish.adjustment_id]
            answer = next((one for one in state.heard if _answers(state, one, delivered)), None)
            if answer is not None:
                yield from _answered(state, delivered, answer, now)
        elif delivery.outcome in _ENDED:
            why = delivery.words or "it was not delivered in its time"
            yield from _became(state, wish, _ENDED[delivery.outcome], why, delivery.event_id, now)

    def _heard(self, state: WishesState, message: InboundMessage, now: datetime) -> Iterator[Out]:
        if not state.wishes or (heard := _read(message)) is None:
            return
        state.wait_until_ms = max(state.wait_until_ms, self._patience.after(heard.received_ms, now))
        for wish in list(state.wishes.values()):
            if _answers(state, heard, wish):
                yield from _answered(state, wish, heard, now)
        state.heard = [*state.heard, heard][-HEARD_AT_MOST:]


def _read(message: InboundMessage) -> Heard | None:
    try:
        body = UpdateGroupCapacityForecast.model_validate_json(message.body)
    except ValidationError:
        return None
    spans = tuple((to_ms(block.start_time), to_ms(block.end_time)) for block in body.forecasted_blocks)
    return Heard(message.request_id, message.correlation_id, message.event_id, body.type.value, to_ms(message.received_at), spans)


def _answers(state: WishesState, heard: Heard, wish: Adjustment) -> bool:
    if heard.names(wish):
        return wish.state is not S.ANSWERED
    if any(heard.names(other) for other in state.wishes.values()) or wish.state is not S.DELIVERED:
        return False
    return heard.received_ms >= state.begun.get(wish.adjustment_id, to_ms(wish.requested_at)) and heard.speaks_of(wish)


def _answered(state: WishesState, wish: Adjustment, heard: Heard, now: datetime) -> Iterator[Out]:
    named = "which names it" if heard.names(wish) else "the first one after it for this time"
    answered = wish.model_copy(update={"answer": heard.request_id})
    yield from _became(state, answered, S.ANSWERED, f"answered by forecast {heard.request_id}, {named}", heard.event_id, now)


def _became(
    state: WishesState, wish: Adjustment, became: AdjustmentState, words: str, cause_id: str | None, now: datetime
) -> Iterator[Out]:
    revision = wish.revision + 1
    changes = {
        "event_id": derived_id("adjustment", wish.adjustment_id, revision, became, wish.answer),
        "at": now,
        "cause_id": cause_id,
        "state": became,
        "words": words,
        "revision": revision,
    }
    told = state.wishes[wish.adjustment_id] = wish.model_copy(update=changes)
    yield Out(ADJUSTMENTS, state.group_id, told)
    if became is S.DELIVERED:
        return  # the exchange itself stands on the partner's timeline
    asked = f"{wish.by}'s wish for another capacity of {wish.group_id} ({wish.type}, from {rfc3339(wish.start)} to {rfc3339(wish.until)})"
    event = Event(
        event_id=derived_id("adjustment event", told.event_id),
        at=now,
        cause_id=told.event_id,
        subject_kind=SubjectKind.SCOPE,
        subject_id=wish.scope_id,
        kind=f"adjustment.{became.value.lower()}",
        severity=_SEVERITY.get(became, Severity.INFO),
        words=f"{asked}: {words}",
    )
    yield Out(EVENTS, wish.scope_id, event)
