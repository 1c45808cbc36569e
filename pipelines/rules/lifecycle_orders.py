"""What operators order about a connection's registration: a token, a start of ours, its end, another try (semantics 6.3)."""

import json
from dataclasses import replace

from pipelines.rules import lifecycle_tokens as tokens
from pipelines.rules.lifecycle_registration import KEPT_TAKEN, end, register_owed, takes_up_again
from pipelines.rules.lifecycle_state import Owed, S
from pipelines.rules.lifecycle_turn import Turn, message_id
from schemas.connection import Command, Severity
from schemas.oscp.v20 import Action


def issue_token(turn: Turn, command: Command) -> None:
    """A registration token (A) for the operator to hand over: valid from now on, beside those in use."""
    state, notes = turn.state, turn.notes
    digest = turn.around.token_digest(state.partner_id, command.event_id)
    state.credentials = tokens.with_registration_token(state.credentials, digest, command.event_id)
    if notes.registration in (S.NEW, S.DEREGISTERED, S.FAILED):
        notes.registration, notes.link = S.AWAITING_REGISTER, None
        turn.because(f"{turn.name} has to register with the token it is given")
    turn.say("token.issued", f"{command.by} issued a registration token for {turn.name}")


def start_registration(turn: Turn, command: Command) -> None:
    """We start: the payload may hold `base_url` and the initial token's ciphertext `peer_token`; else what is known is used."""
    state, notes = turn.state, turn.notes
    payload = _payload(command)
    base_url = payload.get("base_url") or turn.partner.base_url or state.peer_base_url
    peer_token = payload.get("peer_token") or state.peer_token
    if not base_url or not (peer_token or turn.partner.oauth):
        missing = "base_url" if not base_url else "initial_token_file"
        turn.say("register.impossible", f"we cannot register with {turn.name}: it has no {missing} in the configuration", Severity.ALARM)
        return
    if notes.registration is S.REGISTERED:
        notes.former_peer = (state.peer_base_url, state.peer_token)
    state.peer_base_url, state.peer_token = base_url.rstrip("/"), peer_token
    cause = command.event_id
    state.credentials = tokens.with_exchange_token(state.credentials, turn.around.token_digest(state.partner_id, cause), cause)
    turn.withdraw(notes.opening)
    takes_up_again(turn)
    notes.opening = register_owed(turn, cause, command.at)
    notes.registration = S.SENDING_REGISTER
    turn.because(f"our registration goes to {turn.name}")
    turn.say("register.started", f"{command.by} started the registration with {turn.name} at {state.peer_base_url}")


def _payload(command: Command) -> dict[str, str]:
    """The texts in a command's payload; a payload that is none is as good as empty."""
    try:
        found = json.loads(command.payload)
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def deregister(turn: Turn, command: Command) -> None:
    """Our tokens are void at once; the partner is told with a DELETE where we know how."""
    state, known = turn.state, turn.reachable
    cause = state.credentials[-1].cause if state.credentials else command.event_id
    end(turn, f"{command.by} ended the connection with {turn.name}")
    if known:
        farewell = Owed(message_id(state.partner_id, Action.REGISTER, command.event_id), cause, command.at)
        turn.notes.farewell = farewell


def removed(turn: Turn) -> None:
    """The partner is no longer in the configuration; nothing is sent any more, its tokens are void."""
    end(turn, f"{turn.state.partner_id} was taken out of the configuration")
    turn.state.peer_token = None


def again(turn: Turn, command: Command) -> bool:
    """An operator wants what failed tried once more, under a new id since the old one is done with. Whether anything had."""
    notes, found = turn.notes, False
    for name, state in (("answer", S.REPLYING), ("opening", S.SENDING_REGISTER)):
        owed: Owed | None = getattr(notes, name)
        if owed is not None and owed.failed:
            fresh = message_id(turn.state.partner_id, Action.REGISTER, f"{owed.about} {command.event_id}")
            notes.registers = [*notes.registers, fresh][-KEPT_TAKEN:]
            setattr(notes, name, replace(owed, message_id=fresh, at=command.at, emitted=False, failed=False))
            notes.registration, found = state, True
    return found
