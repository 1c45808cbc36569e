"""Whether a partner is configured, and what is known of it when the lifecycle has forgotten (architecture, "Kafka is the record").

A partner never seen rests a moment before it is announced as new: its last `Connection` may be about to be read
back, after a restart without a recovery store. Until then nothing is said.
"""

from datetime import datetime, timedelta

from pipelines.rules import lifecycle_handshake as handshake
from pipelines.rules import lifecycle_orders as orders
from pipelines.rules.heartbeats import interval_of
from pipelines.rules.lifecycle_state import PartnerState, S, adopt
from pipelines.rules.lifecycle_turn import Surroundings, Turn, over_at
from schemas.config import ConfigChange, Partner
from schemas.connection import Connection

VIEW_FOLLOWS = timedelta(seconds=2)
"""So long the view of the configuration may take to show a change that has been read here."""


def configured(turn: Turn, change: ConfigChange) -> None:
    """A removal is believed only once the configuration says so too: an old one may be read again after the partner came back."""
    state = turn.state
    if change.body is None:
        state.recheck_at = turn.now + turn.allowance(VIEW_FOLLOWS)
        return
    state.recheck_at = None
    if not state.touched and not state.adopted:
        state.rest_until = _rested(turn)
    elif state.touched:
        handshake.reconsider(turn, Partner.model_validate_json(change.body))


def read_back(turn: Turn, connection: Connection) -> None:
    """Our own word from before, when nothing else is left of it: after a restart without a recovery store. The last one counts.

    With a store that is older than that word, what led to it comes again, and it is said no more (`Turn.outputs`).
    """
    state = turn.state
    if state.touched:
        if connection.at < turn.around.started_at and (state.said_at is None or connection.at > state.said_at):
            state.said_later = connection.event_id, connection.at
            state.pauses.join(connection)  # when they ended is not known by coming to that again, later
        return
    adopt(state, connection)
    # With the last one read nothing more is to be waited for: who takes over from another must not miss a heartbeat.
    state.rest_until = turn.now if turn.around.last_said(state.partner_id) == connection.event_id else _rested(turn)
    turn.went_on()
    if state.liveness_deadline is not None:
        # Heartbeats are not on the connection: it may have beaten since. It gets the time until its next one.
        asked = state.our_required_heartbeat_s or 0.0
        wait = turn.allowance(interval_of(asked)) + turn.allowance(turn.partner.heartbeat_grace)
        state.liveness_deadline = max(state.liveness_deadline, turn.now + wait)


def begun(turn: Turn) -> None:
    """Something new happens: what was to be read back has been (see `lifecycle_flow`, `BARRIER`)."""
    if turn.state.rest_until is not None and turn.state.adopted:
        _wake(turn)
    turn.state.rest_until, turn.state.touched = None, True


def time_came(turn: Turn) -> None:
    """Look again at what was put off: a removal, a rest, or a connection that was not said since a later one had been."""
    state = turn.state
    if not turn.replayed:
        state.said_later = None
    if state.recheck_at is not None and state.recheck_at <= turn.now:
        state.recheck_at = None
        if turn.around.partner(state.partner_id) is None:
            state.rest_until = None
            if state.touched or state.adopted:
                _removed(turn)
    rest = rests_until(state, turn.around)
    if rest is not None and rest <= turn.now:
        _wake(turn)


def rests_until(state: PartnerState, around: Surroundings) -> datetime | None:
    """When a rest is over; one that ended while nobody was there lasts until what can be read back has been, now."""
    if state.rest_until is None or state.rest_until >= around.started_at:
        return state.rest_until
    return over_at(around)


def _wake(turn: Turn) -> None:
    """What could be read back has been: from here on the partner's life goes on, or begins."""
    state = turn.state
    state.rest_until, begins = None, not (state.touched or state.adopted)
    state.touched = True
    if begins:
        turn.because(f"{turn.name} is configured; issue a token for it to register with, or start the registration")
    elif turn.around.partner(state.partner_id) is None:
        _removed(turn)
    else:
        handshake.reconsider(turn)


def _removed(turn: Turn) -> None:
    turn.state.touched = True
    if turn.notes.registration is not S.DEREGISTERED:
        orders.removed(turn)


def _rested(turn: Turn) -> datetime:
    """Until when a partner with nothing of its own to go by waits for its last connection to be read back."""
    return max(turn.now + timedelta(seconds=1), over_at(turn.around))
