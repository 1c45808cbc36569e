"""What became of what operators asked for, followed from the live picture (semantics 7.4). Pure."""

from enum import StrEnum

from pydantic import BaseModel

from gateway.orders import CommandView, command_view
from gateway.picture import Picture
from gateway.redaction import clean
from pipelines.rules.reporting_compliance import by_hand
from schemas.adjustment import AdjustmentState
from schemas.connection import Command, CommandKind
from schemas.outbound import OutboundMessage, Outcome
from schemas.units import Instant

REFUSED_KIND = "command.refused"


class AskedState(StrEnum):
    """How far a request has come. ASKED is all that is known of requests about the connection itself: its timeline says the rest."""

    ASKED = "ASKED"
    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    ANSWERED = "ANSWERED"
    IN_FORCE = "IN_FORCE"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"


class Standing(BaseModel):
    """Where a request stands, and since when where that is known. `answer` is the X-Request-ID of the forecast that answers it."""

    state: AskedState
    words: str
    since: Instant | None = None
    message_id: str | None = None
    answer: str | None = None


class AskedView(CommandView):
    """A request of an operator, and what became of it."""

    standing: Standing


S = AskedState
_OF_ADJUSTMENT = {
    AdjustmentState.REQUESTED: S.WAITING,
    AdjustmentState.DELIVERED: S.DELIVERED,
    AdjustmentState.ANSWERED: S.ANSWERED,
    AdjustmentState.REFUSED: S.REFUSED,
    AdjustmentState.EXPIRED: S.EXPIRED,
}
_OF_OUTCOME = {
    Outcome.DELIVERED: S.DELIVERED,
    Outcome.REFUSED: S.REFUSED,
    Outcome.EXPIRED: S.EXPIRED,
    Outcome.DROPPED: S.EXPIRED,
}


def asked_view(picture: Picture, command: Command) -> AskedView:
    """A request with its standing."""
    return AskedView(**command_view(command).model_dump(), standing=standing_of(picture, command))


def standing_of(picture: Picture, command: Command) -> Standing:
    """Where a request stands."""
    refusal = next((one for one in picture.events if one.kind == REFUSED_KIND and one.cause_id == command.event_id), None)
    if refusal is not None:
        return Standing(state=S.REFUSED, words=clean(refusal.words), since=refusal.at)
    match command.kind:
        case CommandKind.ADJUST:
            return _adjusting(picture, command)
        case CommandKind.COMPLIANCE_ERROR:
            return _sent(picture, command)
        case CommandKind.ENVELOPE:
            return _limiting(picture, command)
        case _:
            return Standing(state=S.ASKED, words="asked; what follows stands on the partner's timeline", since=command.at)


def _adjusting(picture: Picture, command: Command) -> Standing:
    wish = picture.adjustments.get(command.event_id)
    if wish is None:
        return Standing(state=S.ASKED, words="asked", since=command.at)
    found = _OF_ADJUSTMENT[wish.state]
    return Standing(state=found, words=clean(wish.words), since=wish.at, message_id=wish.message_id, answer=wish.answer)


def _sent(picture: Picture, command: Command) -> Standing:
    said = by_hand(command, command.at)[0]
    if not isinstance(said, OutboundMessage):
        return Standing(state=S.REFUSED, words=clean(said.words), since=command.at)
    line = picture.messages.get(said.message_id)
    if line is None or line.delivery is None:
        return Standing(state=S.WAITING, words="on its way to the partner", since=command.at, message_id=said.message_id)
    delivery = line.delivery
    found = _OF_OUTCOME.get(delivery.outcome, S.WAITING)
    words = clean(delivery.words) or {S.DELIVERED: "the partner has taken it"}.get(found, "it is tried again")
    return Standing(state=found, words=words, since=delivery.at, message_id=said.message_id)


def _limiting(picture: Picture, command: Command) -> Standing:
    line = picture.envelopes.get(command.scope_id or "")
    pieces = line.pieces if line is not None else ()
    own = [piece for piece in pieces if command.event_id in (piece.import_cause, piece.export_cause)]
    if own:
        return Standing(state=S.IN_FORCE, words="it is part of the scope's envelope", since=own[0].start)
    return Standing(state=S.ASKED, words="asked; where the partner's limit is lower, or nothing is limited any more, it does not show")
