"""A partner's connection as a state machine: registration, handshake, heartbeats both ways, offline and back (semantics 6).

Key: partner id. One step takes in a message, a delivery, a command, a change of the configuration, an own
`Connection` read back, or the news that time has come, and says what follows on `derms.connections` (only what
changed, never one a heartbeat), `derms.outbound` and `derms.events`. Ids are derived from causes, so a replay
makes the same ones. Parts: `lifecycle_registration`, `lifecycle_orders`, `lifecycle_handshake`, `lifecycle_beats`,
`lifecycle_tokens`, `lifecycle_secrets`, `lifecycle_known`.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import ValidationError

from pipelines.records import Out, Tick
from pipelines.rules import lifecycle_beats as beats
from pipelines.rules import lifecycle_handshake as handshake
from pipelines.rules import lifecycle_known as known
from pipelines.rules import lifecycle_orders as orders
from pipelines.rules import lifecycle_registration as registration
from pipelines.rules import lifecycle_secrets as secrets
from pipelines.rules.lifecycle_state import KEPT_IN_MEMORY, PartnerState, S
from pipelines.rules.lifecycle_turn import SETTLE, Surroundings, Turn, over_at
from schemas.config import ConfigChange
from schemas.connection import Command, CommandKind, Connection, InboundMessage, Severity
from schemas.facts import digest
from schemas.oscp.v20 import Action
from schemas.outbound import FINAL_OUTCOMES, Delivery, Outcome

Item = InboundMessage | Delivery | Command | ConfigChange | Connection

_NOT_REMEMBERED = frozenset({Action.HEARTBEAT, Action.UPDATE_GROUP_CAPACITY_FORECAST})
REMEMBERED = timedelta(days=7)
MOST_REMEMBERED = 512
"""Request ids are remembered for P7D, but never more than so many; heartbeats, which may be repeated without harm, not at all."""


class LifecycleRule:
    """The rule of `lifecycle_flow`; see the module. `around` is what it may ask."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def start(self, key: str) -> PartnerState:
        """A partner never heard of."""
        return PartnerState(partner_id=key)

    def due(self, state: PartnerState) -> datetime | None:
        """The earliest of: our next heartbeat, the partner's deadline, giving up on its answer, and what `lifecycle_known` is about."""
        silence, ours = beats.offline_at(state, self._around), beats.next_beat_at(state)
        abandoned = registration.gives_up_at(state.notes)
        if state.rest_until is not None:
            silence = ours = abandoned = None
        renewal = self._around.started_at if secrets.stale(state, self._around.key_id) else None
        unsaid = None if state.said_later is None else over_at(self._around)
        instants = (known.rests_until(state, self._around), state.recheck_at, abandoned, silence, ours, renewal, unsaid)
        return min((instant for instant in instants if instant is not None), default=None)

    def step(self, state: PartnerState, item: Item | Tick, now: datetime) -> Iterable[Out]:
        """One step; see the module. A message whose body cannot be read (it was checked before) is an alarm, no exception."""
        at, cause_id = _when(item, now)
        turn = Turn(self._around, state, now, at, cause_id)
        match item:
            case InboundMessage():
                _inbound(turn, item)
            case Delivery():
                _delivery(turn, item)
            case Command():
                _command(turn, item)
            case ConfigChange():
                known.configured(turn, item)
            case Connection():
                known.read_back(turn, item)
            case Tick():
                known.time_came(turn)
        if state.rest_until is None:
            secrets.renew(turn)
            registration.watch(turn)
            beats.watch(turn)
            registration.flush(turn)
            handshake.flush(turn)
            beats.beat(turn)
        return turn.outputs()


def _when(item: Item | Tick, now: datetime) -> tuple[datetime, str | None]:
    match item:
        case InboundMessage():
            return item.received_at, item.event_id
        case Tick():
            return now, None
        case _:
            return item.at, item.event_id


def _was_before(at: datetime, through: datetime | None, known_since: datetime | None) -> bool:
    """Whether it was taken in before our last `Connection`, which is all we go by. What came since `known_since` goes on: that it
    was taken in is known by its id, which its instant is not (see `SKEW`)."""
    return through is not None and at <= through and (known_since is None or at <= known_since)


def _inbound(turn: Turn, message: InboundMessage) -> None:
    state = turn.state
    known_by_id = message.action not in _NOT_REMEMBERED
    if _was_before(message.received_at, state.skip_inbound_through, state.known_since[0] if known_by_id else None):
        return
    if turn.now - message.received_at > turn.allowance(SETTLE):
        state.settle_until = turn.now + turn.allowance(SETTLE)
    known.begun(turn)
    notes = turn.notes
    if notes.registration is S.DEREGISTERED and not state.credentials:
        return  # it was let in a moment before the connection ended
    arrived = registration.used(turn, message.credential_digest)
    if message.action == Action.UPDATE_GROUP_CAPACITY_FORECAST:
        return
    if message.action != Action.HEARTBEAT and _repeated(turn, message):
        return
    notes.inbound_through = max(notes.inbound_through or message.received_at, message.received_at)
    try:
        match message.action:
            case Action.REGISTER:
                registration.take_register(turn, message, arrived)
            case Action.HANDSHAKE:
                handshake.take_handshake(turn, message)
            case Action.HANDSHAKE_ACKNOWLEDGE:
                handshake.take_acknowledgement(turn, message)
            case Action.HEARTBEAT:
                beats.take_heartbeat(turn, message)
    except ValidationError:
        turn.say("message.unreadable", f"a {message.action} of {turn.name} was let in but cannot be read", Severity.ALARM)


def _repeated(turn: Turn, message: InboundMessage) -> bool:
    """Whether this very message was applied before (semantics 6.6); another body under the same id is new, with an event."""
    seen = turn.notes.seen
    key, body = digest(f"{message.method} {message.action} {message.request_id}")[:24], message.body_digest[:24]
    known = seen.pop(key, None)
    seen[key] = (body, message.received_at)
    for old in [old for old, (_, at) in seen.items() if at < message.received_at - REMEMBERED]:
        del seen[old]
    while len(seen) > MOST_REMEMBERED:
        del seen[next(iter(seen))]
    if known is None or known[1] < message.received_at - REMEMBERED or _begins_anew(turn, message, known[1]):
        return False
    if known[0] != body:
        words = f"{turn.name} used the X-Request-ID {message.request_id} for two different messages; both are taken"
        turn.say("request-id.reused", words, Severity.WARNING, request_id=message.request_id)
        return False
    if message.action in (Action.REGISTER, Action.HANDSHAKE_ACKNOWLEDGE) and message.repeat_key not in turn.state.taken:
        registration.taken(turn, message.repeat_key)
    return True


def _begins_anew(turn: Turn, message: InboundMessage, before: datetime) -> bool:
    """Whether a Register is wanted, whatever its id was used for: a peer that gives the same id to each of its attempts would else
    be answered 204 and never hear from us."""
    wanted = turn.notes.registration in (S.NEW, S.AWAITING_REGISTER, S.FAILED, S.DEREGISTERED)
    return wanted and message.action == Action.REGISTER and message.method == "POST" and message.received_at > before


def _delivery(turn: Turn, delivery: Delivery) -> None:
    if delivery.action == Action.HEARTBEAT:
        beats.outcome(turn, delivery)
        return
    notes = turn.notes
    if delivery.outcome in FINAL_OUTCOMES and delivery.message_id in notes.unsettled:
        notes.unsettled.remove(delivery.message_id)
    candidates = (notes.answer, notes.opening, notes.acknowledgement, notes.handshake, notes.farewell)
    found = [owed for owed in candidates if owed is not None and owed.message_id == delivery.message_id]
    if not found:
        return
    known.begun(turn)
    (owed,) = found
    given_up = delivery.outcome in FINAL_OUTCOMES or delivery.outcome is Outcome.PARKED
    if owed is notes.farewell:
        if given_up:
            turn.state.peer_token = notes.farewell = None
    elif delivery.outcome is Outcome.DELIVERED:
        if owed in (notes.answer, notes.opening):
            registration.arrived(turn, owed)
        elif owed is notes.acknowledgement:
            handshake.acknowledged(turn)
    elif given_up and not owed.failed:
        words = delivery.words or delivery.outcome.lower()
        if owed in (notes.answer, notes.opening):
            registration.refused(turn, owed, words)
        else:
            handshake.refused(turn, owed, words)


def _command(turn: Turn, command: Command) -> None:
    state = turn.state
    if _was_before(command.at, state.skip_commands_through, state.known_since[1]) or command.event_id in turn.notes.obeyed:
        return
    known.begun(turn)
    notes = turn.notes
    notes.commands_through = max(notes.commands_through or command.at, command.at)
    notes.obeyed = dict([*notes.obeyed.items(), (command.event_id, command.at)][-KEPT_IN_MEMORY:])
    match command.kind:
        case CommandKind.ISSUE_TOKEN:
            orders.issue_token(turn, command)
        case CommandKind.REGISTER:
            orders.start_registration(turn, command)
        case CommandKind.HANDSHAKE:
            handshake.start_handshake(turn, command)
        case CommandKind.DEREGISTER:
            orders.deregister(turn, command)
        case CommandKind.SUSPEND if notes.registration is not S.DEREGISTERED:
            notes.suspended = True
            turn.because(f"{command.by} suspended the connection: nothing is sent to {turn.name}, what it sends is still taken")
        case CommandKind.RESUME:
            tried_again = orders.again(turn, command) | handshake.again(turn, command)
            if notes.suspended or tried_again:
                notes.suspended = False
                turn.because(f"{command.by} resumed the connection")
