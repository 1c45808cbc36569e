"""Registration, both ways: who sends Register to whom, what answers it, and how it ends (semantics 6.1 to 6.3)."""

import json
from datetime import datetime

from pipelines.rules import lifecycle_tokens as tokens
from pipelines.rules.lifecycle_state import Notes, Owed, S
from pipelines.rules.lifecycle_turn import ECHO, EXCHANGE_EXPIRES, FAREWELL_EXPIRES, REPLY_AFTER, Turn, message_id
from schemas.connection import InboundMessage, Severity
from schemas.oscp.v20 import VERSION, Action, Register

KEPT_TAKEN = 8
"""The last registrations and acknowledgements a `Connection` names in `taken`."""


def used(turn: Turn, credential_digest: str) -> Owed | None:
    """The partner presented one of our tokens. The first use of C completes the exchange it came from.

    Returns the Register that is known by that to have arrived, if it was not known before. A token that has become
    void between gateway and here changes nothing.
    """
    notes, credential = turn.notes, tokens.presented(turn.state.credentials, credential_digest)
    if credential is None:
        return None
    turn.state.credentials = tokens.proven(turn.state.credentials, credential.cause)
    for owed in (notes.answer, notes.opening):
        if owed is not None and owed.about == credential.cause:
            arrived(turn, owed)
            return owed
    return None


def arrived(turn: Turn, owed: Owed) -> None:
    """A Register of ours is known to have reached the partner: it used the token in it, or answered 2xx."""
    notes = turn.notes
    turn.state.credentials = tokens.proven(turn.state.credentials, owed.about)
    if owed is notes.answer:
        notes.answer = None
        _registered(turn)
    elif owed is notes.opening:
        owed.failed = False
        if notes.registration in (S.SENDING_REGISTER, S.FAILED):
            notes.registration = S.AWAITING_REGISTER_REPLY
            turn.because(f"{turn.name} took our registration; we wait for its own")


def _registered(turn: Turn) -> None:
    notes = turn.notes
    if notes.registration is not S.DEREGISTERED:
        notes.registration = S.REGISTERED
    turn.notes.former_peer = None
    turn.state.registered_at = turn.at
    turn.because(f"{turn.name} and we have exchanged tokens")


def take_register(turn: Turn, message: InboundMessage, known_by_it: Owed | None) -> None:
    """POST is answered with our own Register unless it is itself an answer; PUT only replaces; DELETE ends the connection.

    `known_by_it` is the Register of ours whose token it used first.
    """
    if message.method == "DELETE":
        end(turn, f"{turn.name} ended the connection")
        turn.state.peer_token = None
        taken(turn, message.repeat_key)
        return
    register = Register.model_validate_json(message.body)
    state, notes = turn.state, turn.notes
    chosen = next((entry for entry in register.version_url if entry.version == VERSION), register.version_url[0])
    state.peer_base_url, state.peer_version, state.peer_token = chosen.base_url, chosen.version, register.token
    notes.former_peer = None
    takes_up_again(turn)
    taken(turn, message.repeat_key)
    if message.method == "PUT":
        words = f"{turn.name} changed its token or address; it is reached at {state.peer_base_url}"
        turn.say("register.updated", words, request_id=message.request_id)
    elif _answers_opening(turn, message):
        notes.opening = None
        _registered(turn)
        turn.say("register.answered", f"{turn.name} answered our registration", request_id=message.request_id)
    elif message.correlation_id in notes.registers or (known_by_it and message.received_at - known_by_it.at <= turn.allowance(ECHO)):
        # Not answered again: a peer that answers every Register would otherwise play ping-pong with us for ever.
        turn.say("register.updated", f"{turn.name} answered our answer; its token and address are taken", request_id=message.request_id)
    else:
        _owe_answer(turn, message)


def _answers_opening(turn: Turn, message: InboundMessage) -> bool:
    """Whether a Register answers ours, by correlation or, from peers that send none, by the token it came with."""
    opening = turn.notes.opening
    if opening is None:
        return False
    credential = tokens.presented(turn.state.credentials, message.credential_digest)
    return message.correlation_id == opening.message_id or (credential is not None and credential.cause == opening.about)


def takes_up_again(turn: Turn) -> None:
    """Our DELETE, should it still wait to be sent, must not end what begins now."""
    turn.withdraw(turn.notes.farewell)
    turn.notes.farewell = None


def _owe_answer(turn: Turn, message: InboundMessage) -> None:
    state, notes, cause = turn.state, turn.notes, message.event_id
    turn.withdraw(notes.answer)
    state.credentials = tokens.with_exchange_token(state.credentials, turn.around.token_digest(state.partner_id, cause), cause)
    notes.answer = register_owed(turn, cause, message.received_at, message.request_id)
    notes.registration = S.REPLYING
    turn.because(f"{turn.name} registered; our registration goes back to it")
    turn.say("register.received", f"{turn.name} registered, to be reached at {state.peer_base_url}", request_id=message.request_id)


def register_owed(turn: Turn, cause: str, at: datetime, correlation_id: str | None = None) -> Owed:
    """A Register of ours that carries the token made from `cause`; `correlation_id` where it answers one of theirs."""
    owed = Owed(message_id(turn.state.partner_id, Action.REGISTER, cause), cause, at, correlation_id)
    turn.notes.registers = [*turn.notes.registers, owed.message_id][-KEPT_TAKEN:]
    return owed


def end(turn: Turn, words: str) -> None:
    """The connection is over: every token void, nothing owed any more. What was seen is still remembered."""
    state, notes = turn.state, turn.notes
    state.credentials, notes.former_peer = [], None
    state.first_acknowledged_at = state.withheld_since = state.liveness_deadline = state.registered_at = None
    turn.withdraw_all()
    before = {name: getattr(notes, name) for name in ("seen", "obeyed", "inbound_through", "commands_through")}
    state.notes = turn.notes = Notes(S.DEREGISTERED, **before)
    turn.because(words)


def refused(turn: Turn, owed: Owed, words: str) -> None:
    """A Register of ours was refused or expired. Every token stays valid; a connection that works goes on working."""
    state, notes = turn.state, turn.notes
    owed.failed = True
    if notes.link is not None or (owed is notes.opening and notes.former_peer is not None):
        notes.registration = S.REGISTERED
        if owed is notes.opening and notes.former_peer is not None:
            (state.peer_base_url, state.peer_token), notes.former_peer = notes.former_peer, None
    else:
        notes.registration = S.FAILED
    turn.because(f"our registration did not reach {turn.name}: {words}")
    turn.say("register.failed", f"our registration did not reach {turn.name}: {words}", Severity.ALARM)


def gives_up_at(notes: Notes) -> datetime | None:
    """When we stop waiting for the partner to answer our Register; None while we do not wait."""
    waiting = notes.registration is S.AWAITING_REGISTER_REPLY and notes.opening is not None
    return notes.opening.at + EXCHANGE_EXPIRES if waiting and notes.opening else None


def watch(turn: Turn) -> None:
    """Give up waiting when the time has come. Its answer is still taken, should it come after all."""
    until = gives_up_at(turn.notes)
    if until is not None and until <= turn.now and turn.notes.opening is not None:
        turn.at = until
        refused(turn, turn.notes.opening, "it took it, but has not sent its own")


def taken(turn: Turn, repeat_key: str) -> None:
    """Say on the connection that this message has taken effect; the gateway may be waiting to answer it."""
    kept = [known for known in turn.state.taken if known != repeat_key]
    turn.state.taken = [*kept, repeat_key][-KEPT_TAKEN:]


def flush(turn: Turn) -> None:
    """Put the Registers that are owed on the topic, as soon as they may go and we know where to."""
    notes = turn.notes
    if not turn.reachable:
        return
    for owed, wait in ((notes.answer, turn.allowance(REPLY_AFTER)), (notes.opening, None), (notes.farewell, None)):
        if owed is None or owed.emitted or (notes.suspended and owed is not notes.farewell):
            continue
        farewell = owed is notes.farewell
        turn.send(
            Action.REGISTER,
            register_body(owed.about, turn.around.base_url),
            message_id=owed.message_id,
            cause_id=owed.about,
            method="DELETE" if farewell else "POST",
            correlation_id=owed.correlation_id,
            not_before=owed.at + wait if wait else owed.at,
            expires_at=max(owed.at, turn.at) + (FAREWELL_EXPIRES if farewell else EXCHANGE_EXPIRES),
        )
        owed.emitted = True


def register_body(token_cause: str, base_url: str) -> str:
    """The JSON text of our Register; the token stands as a reference that dispatch resolves (semantics 6.2)."""
    body = {"token": {"$token": token_cause}, "version_url": [{"version": VERSION, "base_url": base_url}]}
    return json.dumps(body, separators=(",", ":"))
