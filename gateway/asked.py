"""What became of what operators asked for, followed from the live picture (semantics 7.4). Pure."""

import json
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from gateway.orders import CommandView, command_view
from gateway.picture import Picture
from gateway.redaction import clean
from pipelines.rules.reporting_compliance import by_hand
from schemas.adjustment import AdjustmentState
from schemas.capacity import EnvelopeCommand
from schemas.connection import Command, CommandKind
from schemas.outbound import OutboundMessage, Outcome
from schemas.units import Instant, rfc3339


class AskedState(StrEnum):
    """How far a request has come. ASKED is all that is known of requests about the connection itself: its timeline says the rest."""

    ASKED = "ASKED"
    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    ANSWERED = "ANSWERED"
    IN_FORCE = "IN_FORCE"
    COMING = "COMING"
    LIFTED = "LIFTED"
    OVER = "OVER"
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


def asked_view(picture: Picture, command: Command, now: datetime) -> AskedView:
    """A request with its standing."""
    return AskedView(**command_view(command).model_dump(), standing=standing_of(picture, command, now))


def standing_of(picture: Picture, command: Command, now: datetime) -> Standing:
    """Where a request stands at `now`."""
    refusal = picture.asked.refusals.get(command.event_id)
    if refusal is not None:
        return Standing(state=S.REFUSED, words=clean(refusal.words), since=refusal.at)
    match command.kind:
        case CommandKind.ADJUST:
            return _adjusting(picture, command)
        case CommandKind.COMPLIANCE_ERROR:
            return _sent(picture, command)
        case CommandKind.ENVELOPE:
            return _limiting(picture, command, now)
        case CommandKind.RETRY_MESSAGE | CommandKind.DROP_MESSAGE:
            return _about_message(picture, command)
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
    delivery = picture.asked.deliveries.get(said.message_id)
    if delivery is None:
        return Standing(state=S.WAITING, words="on its way to the partner", since=command.at, message_id=said.message_id)
    found = _OF_OUTCOME.get(delivery.outcome, S.WAITING)
    words = clean(delivery.words) or {S.DELIVERED: "the partner has taken it"}.get(found, "it is tried again")
    return Standing(state=found, words=words, since=delivery.at, message_id=said.message_id)


def _about_message(picture: Picture, command: Command) -> Standing:
    """Of a message sent again or given up: what became of it since, as far as the picture keeps it."""
    message_id = str(json.loads(command.payload).get("message_id", ""))
    line = picture.messages.get(message_id)
    delivery = line.delivery if line is not None else None
    if delivery is None or delivery.at < command.at:
        words = "asked; the message's own page says where it stands"
        return Standing(state=S.ASKED, words=words, since=command.at, message_id=message_id)
    given_up = command.kind is CommandKind.DROP_MESSAGE and delivery.outcome is Outcome.DROPPED
    found = S.OVER if given_up else _OF_OUTCOME.get(delivery.outcome, S.WAITING)
    words = clean(delivery.words) or {S.DELIVERED: "the partner has taken it"}.get(found, "it is tried again")
    return Standing(state=found, words=words, since=delivery.at, message_id=message_id)


def _limiting(picture: Picture, command: Command, now: datetime) -> Standing:
    """An operator's own limit: whether it is what limits, or why not."""
    asked = EnvelopeCommand.model_validate_json(command.payload)
    if all(block.limit_w is None for block in asked.blocks):
        return Standing(state=S.LIFTED, words="what operators had said about this time is lifted", since=command.at)
    line = picture.envelopes.get(asked.scope_id)
    own = [
        piece for piece in (line.pieces if line else ()) if command.event_id in (piece.import_cause, piece.export_cause) and piece.end > now
    ]
    holding = next((piece for piece in own if piece.start <= now), None)
    if holding is not None:
        return Standing(state=S.IN_FORCE, words="it is the limit now", since=holding.start)
    if own:
        return Standing(state=S.COMING, words=f"it is the limit from {rfc3339(min(piece.start for piece in own))} on", since=command.at)
    if all(block.end <= now for block in asked.blocks):
        return Standing(state=S.OVER, words="its time is over", since=max(block.end for block in asked.blocks))
    return Standing(state=S.ASKED, words="it is not the limit: a partner's is lower, or an operator has said something else since")
