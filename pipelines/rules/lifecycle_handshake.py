"""Handshakes and their acknowledgements, and what they make of the link (semantics 6.4)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

from pipelines.rules.heartbeats import Grid, first_deadline, interval_of
from pipelines.rules.lifecycle_registration import taken
from pipelines.rules.lifecycle_state import Owed, PartnerState, S
from pipelines.rules.lifecycle_turn import EXCHANGE_EXPIRES, REPLY_AFTER, Turn, message_id
from pipelines.rules.reporting_standing import style_for
from schemas.config import Legacy, Partner
from schemas.connection import Command, InboundMessage, Severity
from schemas.oscp.v20 import Action, Handshake, HandshakeAcknowledge, RequiredBehaviour


def take_handshake(turn: Turn, message: InboundMessage) -> None:
    """What the partner wants from now on replaces what it wanted; our acknowledgement is owed. Taken in every state."""
    state, notes = turn.state, turn.notes
    _requirements(turn, Handshake.model_validate_json(message.body).required_behaviour)
    _our_wants(turn)
    about = message.event_id
    turn.withdraw(notes.acknowledgement)
    notes.acknowledgement = Owed(
        message_id(state.partner_id, Action.HANDSHAKE_ACKNOWLEDGE, about), about, message.received_at, message.request_id
    )
    notes.beat_seen = False
    _recovered(turn)
    if notes.link is not None:
        # It restarts what it promised: the watch begins anew, before our acknowledgement too.
        afresh = watched_from(turn, message.received_at)
        state.liveness_deadline = afresh and max(afresh, state.liveness_deadline or afresh)
    if notes.link is not S.ONLINE:
        notes.link = S.ACKING
        turn.because(f"{turn.name} shook hands; our acknowledgement goes out")
    turn.say("handshake.received", f"handshake of {turn.name}: {_in_words(state)}", request_id=message.request_id)
    if not turn.reachable:
        turn.say("handshake.early", f"{turn.name} shook hands before it registered; we answer once we know its address", Severity.WARNING)


def take_acknowledgement(turn: Turn, message: InboundMessage) -> None:
    """The partner acknowledges a handshake of ours: that brings the link up too."""
    notes = turn.notes
    if notes.handshake is None:
        turn.say("handshake.unexpected", f"{turn.name} acknowledged a handshake we do not wait for", Severity.WARNING)
        return
    about, notes.handshake = notes.handshake.about, None
    _requirements(turn, HandshakeAcknowledge.model_validate_json(message.body).required_behaviour)
    taken(turn, message.repeat_key)
    _up(turn, about, message.received_at, f"{turn.name} acknowledged our handshake")


def acknowledged(turn: Turn) -> None:
    """The partner took our acknowledgement: the link is up, our beats start from this instant."""
    owed = turn.notes.acknowledgement
    turn.notes.acknowledgement = None
    if owed is not None:
        _up(turn, owed.about, turn.at, f"{turn.name} took our acknowledgement")


def _up(turn: Turn, about: str, at: datetime, words: str) -> None:
    state, notes = turn.state, turn.notes
    notes.link = S.ONLINE
    _recovered(turn)
    state.first_acknowledged_at = state.first_acknowledged_at or at
    asked = state.peer_required_heartbeat_s
    notes.grid = None if asked is None else Grid(at, asked, about)
    if not notes.beat_seen or state.liveness_deadline is None:
        state.liveness_deadline = watched_from(turn, at)
    turn.because(words)


def refused(turn: Turn, owed: Owed, words: str) -> None:
    """Our acknowledgement or handshake was refused or expired. A link that was up before stays as it was."""
    state, notes = turn.state, turn.notes
    what = "acknowledgement" if owed is notes.acknowledgement else "handshake"
    if owed is notes.handshake:
        notes.handshake = None
    else:
        owed.failed = True
        if notes.link is S.ACKING:
            notes.link = S.OFFLINE if state.first_acknowledged_at else None
            if notes.link is None and notes.registration is S.REGISTERED:
                notes.registration = S.FAILED
    turn.because(f"our {what} did not reach {turn.name}: {words}")
    turn.say(f"{what}.failed", f"our {what} did not reach {turn.name}: {words}", Severity.ALARM)


def again(turn: Turn, command: Command) -> bool:
    """An operator wants a failed acknowledgement tried once more, under a new id. Whether one had failed."""
    notes, owed = turn.notes, turn.notes.acknowledgement
    if owed is None or not owed.failed:
        return False
    fresh = message_id(turn.state.partner_id, Action.HANDSHAKE_ACKNOWLEDGE, f"{owed.about} {command.event_id}")
    notes.acknowledgement = replace(owed, message_id=fresh, at=command.at, emitted=False, failed=False)
    notes.link = notes.link or S.ACKING
    _recovered(turn)
    return True


def start_handshake(turn: Turn, command: Command) -> None:
    """We shake hands first, with peers that take it."""
    if not turn.reachable:
        turn.say("handshake.impossible", f"{turn.name} has to be registered before a handshake", Severity.WARNING)
        return
    _our_wants(turn)
    about = command.event_id
    turn.withdraw(turn.notes.handshake)
    turn.notes.handshake = Owed(message_id(turn.state.partner_id, Action.HANDSHAKE, about), about, command.at)
    turn.say("handshake.started", f"{command.by} started a handshake with {turn.name}")


def reconsider(turn: Turn, partner: Partner | None = None) -> None:
    """Whether measurements are withheld: the partner takes only what the profile cannot make (the table of 6.4)."""
    state, name = turn.state, turn.name
    styles = (partner or turn.partner).measurements.styles
    unable = style_for(state.peer_required_measurements, styles) is None
    if unable and state.withheld_since is None:
        state.withheld_since = turn.at
        takes = " and ".join(sorted(set(state.peer_required_measurements)))
        words = f"{name} takes {takes} measurements only, which are not among our styles: measurements are withheld"
        turn.say("measurements.withheld", words, Severity.WARNING)
    elif not unable and state.withheld_since is not None:
        state.withheld_since = None
        turn.say("measurements.resumed", f"measurements go to {name} again")


def watched_from(turn: Turn, at: datetime) -> datetime | None:
    """The deadline of a partner that has not beaten yet; None where we asked for no heartbeats."""
    asked = turn.state.our_required_heartbeat_s
    if asked is None:
        return None
    return first_deadline(at, interval=turn.allowance(interval_of(asked)), grace=turn.allowance(turn.partner.heartbeat_grace))


def flush(turn: Turn) -> None:
    """Put the acknowledgement or handshake that is owed on the topic, as soon as it may go and we know where to."""
    state, notes = turn.state, turn.notes
    if notes.suspended or not turn.reachable:
        return
    pairs = ((Action.HANDSHAKE_ACKNOWLEDGE, notes.acknowledgement, REPLY_AFTER), (Action.HANDSHAKE, notes.handshake, timedelta(0)))
    for action, owed, wait in pairs:
        if owed is None or owed.emitted:
            continue
        turn.send(
            action,
            behaviour_body(state, flat=Legacy.FLAT_HANDSHAKE in turn.partner.legacy),
            message_id=owed.message_id,
            cause_id=owed.about,
            correlation_id=owed.correlation_id,
            not_before=owed.at + (turn.allowance(wait) if wait else wait),
            expires_at=max(owed.at, turn.at) + EXCHANGE_EXPIRES,
        )
        owed.emitted = True


def behaviour_body(state: PartnerState, *, flat: bool) -> str:
    """The JSON text that says what we want; always with `measurement_configuration`, without which the schema is broken."""
    behaviour: dict[str, object] = {"measurement_configuration": list(state.our_required_measurements)}
    if (seconds := state.our_required_heartbeat_s) is not None:
        # Some peers read an integer here, and nothing else.
        behaviour["heartbeat_interval"] = int(seconds) if seconds == int(seconds) else seconds
    return json.dumps(behaviour if flat else {"required_behaviour": behaviour}, separators=(",", ":"))


def _requirements(turn: Turn, required: RequiredBehaviour | None) -> None:
    state, asked = turn.state, required or RequiredBehaviour(measurement_configuration=[])
    state.peer_required_heartbeat_s = asked.heartbeat_interval
    state.peer_required_measurements = [style.value for style in asked.measurement_configuration]
    if asked.heartbeat_interval is None:
        turn.notes.grid = None
    reconsider(turn)


def _recovered(turn: Turn) -> None:
    """The partner speaks with us: whatever failed before is over."""
    if turn.notes.registration is S.FAILED:
        turn.notes.registration = S.REGISTERED


def _our_wants(turn: Turn) -> None:
    state, wants = turn.state, turn.partner.wants
    state.our_required_measurements = [style.value for style in wants.measurement_configuration]
    interval = wants.heartbeat_interval
    state.our_required_heartbeat_s = None if interval is None else interval_of(interval.total_seconds()).total_seconds()


def _in_words(state: PartnerState) -> str:
    seconds, styles = state.peer_required_heartbeat_s, state.peer_required_measurements
    beats = "no heartbeats" if seconds is None else f"a heartbeat every {seconds:g} s"
    return f"it wants {beats} and {' or '.join(styles) or 'any'} measurements"
