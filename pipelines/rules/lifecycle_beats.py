"""Heartbeats as part of the connection's life: taken in, sent out, and missed (semantics 6.5). The arithmetic is in `heartbeats`."""

from datetime import datetime

from pipelines.rules.heartbeats import HORIZON, beat_at, beat_body, deadline_of, interval_of, newest_beat
from pipelines.rules.lifecycle_state import PartnerState, S
from pipelines.rules.lifecycle_turn import SETTLE, Surroundings, Turn, message_id
from schemas.config import Legacy
from schemas.connection import InboundMessage, Severity
from schemas.oscp.v20 import Action, Heartbeat
from schemas.outbound import Delivery, Outcome


def take_heartbeat(turn: Turn, message: InboundMessage) -> None:
    """The partner vouches for itself: its deadline moves, and OFFLINE ends where the configuration lets a heartbeat do that.

    Where we asked for none, or never shook hands, it says nothing to us.
    """
    state, notes, asked = turn.state, turn.notes, turn.state.our_required_heartbeat_s
    if asked is None or notes.link is None:
        return
    offline_mode_at = Heartbeat.model_validate_json(message.body).offline_mode_at
    interval, grace = turn.allowance(interval_of(asked)), turn.allowance(turn.partner.heartbeat_grace)
    deadline, skewed = deadline_of(offline_mode_at, message.received_at, interval=interval, grace=grace)
    short = deadline < message.received_at + interval  # it is OFFLINE from then until its next beat, each time
    if (skewed or short) and not notes.clock_off:
        how = "is already past" if skewed else f"comes before its next one is due, {interval.total_seconds():g} s later"
        words = f"{turn.name} sent a heartbeat whose offline_mode_at {how}: its clock seems to be wrong"
        turn.say("heartbeat.skewed", words, Severity.WARNING, seconds=(message.received_at - offline_mode_at).total_seconds())
    notes.clock_off, notes.beat_seen, state.liveness_deadline = skewed or short, True, deadline
    if notes.link is S.OFFLINE and turn.partner.resume_on_heartbeat and deadline > turn.now:
        notes.link = S.ONLINE
        turn.because(f"a heartbeat of {turn.name} came again")


def offline_at(state: PartnerState, around: Surroundings) -> datetime | None:
    """When silence makes the partner OFFLINE: its deadline, but never while what it sent may still lie unread.

    A partner that was OFFLINE and shakes hands is watched again before our acknowledgement has reached it.
    """
    notes, deadline = state.notes, state.liveness_deadline
    returning = notes.link is S.ACKING and state.first_acknowledged_at is not None
    if deadline is None or not (notes.link is S.ONLINE or returning):
        return None
    return max(deadline, around.started_at + around.allowance(SETTLE), state.settle_until or deadline)


def watch(turn: Turn) -> None:
    """Declare the partner OFFLINE if it has been silent past its deadline."""
    until, deadline = offline_at(turn.state, turn.around), turn.state.liveness_deadline
    if until is None or deadline is None or turn.now < until:
        return
    turn.notes.link, turn.at = S.OFFLINE, deadline
    turn.cause_id = f"{turn.state.partner_id} silent until {deadline.isoformat()}"
    turn.because(f"no heartbeat of {turn.name} in time; its fallback forecasts hold until it is back")


def next_beat_at(state: PartnerState) -> datetime | None:
    """When our next heartbeat falls; None where none is asked for or nothing is sent."""
    grid = state.notes.grid
    return beat_at(grid, grid.sent + 1) if grid is not None and _may_beat(state) else None


def beat(turn: Turn) -> None:
    """Send the heartbeat that is due. Of several missed ones only the newest: an old promise helps nobody."""
    state, grid = turn.state, turn.notes.grid
    if grid is None or not _may_beat(state):
        return
    number = newest_beat(grid, turn.now)
    if number <= grid.sent:
        return
    grid.sent = number
    at, interval = beat_at(grid, number), turn.allowance(interval_of(grid.interval_s))
    naive = Legacy.NAIVE_HEARTBEAT_TIME in turn.partner.legacy
    turn.send(
        Action.HEARTBEAT,
        beat_body(at + HORIZON * interval, naive=naive, naive_in=turn.around.local_zone),
        message_id=message_id(state.partner_id, Action.HEARTBEAT, f"{grid.about} {number}"),
        cause_id=grid.about,
        not_before=at,
        expires_at=at + interval,
    )


def outcome(turn: Turn, delivery: Delivery) -> None:
    """What became of a heartbeat of ours: said once when they begin to fail, once when they arrive again."""
    notes = turn.notes
    if delivery.outcome is Outcome.DELIVERED:
        if notes.beats_failing:
            turn.say("heartbeat.delivered", f"our heartbeats reach {turn.name} again")
        notes.beats_failing = False
    elif delivery.outcome in (Outcome.REFUSED, Outcome.EXPIRED) and not notes.beats_failing:
        notes.beats_failing = True
        words = delivery.words or delivery.outcome.lower()
        turn.say("heartbeat.failing", f"our heartbeats do not reach {turn.name}: {words}", Severity.WARNING)


def _may_beat(state: PartnerState) -> bool:
    return not state.notes.suspended and state.notes.registration not in (S.DEREGISTERED, S.FAILED)
