"""Laws of the connection's life under any sequence of messages, losses and timers (semantics 6): nobody is ever locked out,
nobody stays ONLINE past what it promised, and there is always a way on without an operator."""

import itertools
import json
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipelines.rules.lifecycle_state import shown
from schemas.connection import CommandKind, Connection, ConnectionState
from schemas.oscp.v20 import Action
from schemas.outbound import FINAL_OUTCOMES, OutboundMessage, Outcome
from tests.rules.lifecycle_world import PEER_URL, World, seconds

GRACE, INTERVAL = seconds(90), seconds(300)
AWAY = (ConnectionState.DEREGISTERED, ConnectionState.NEW)


class Life(RuleBasedStateMachine):
    """A peer that holds exactly one token of ours, the last that reached it, and a dispatch that may lose anything."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.held: str | None = None
        self.held_by_hand = False
        self.done: set[str] = set()
        self.promised: datetime = self.world.clock.now()
        self.last_request: dict[str, object] = {}

    @initialize()
    def begin(self) -> None:
        self.world.configured(self.world.partner)
        self.issue()

    # The operator ----------------------------------------------------------------------------------------------------

    @rule()
    def issue(self) -> None:
        cause = self.world.command(CommandKind.ISSUE_TOKEN).event_id
        if self.held is None or self.held_by_hand:
            self.held, self.held_by_hand = cause, True

    @rule(how=st.sampled_from([CommandKind.SUSPEND, CommandKind.RESUME, CommandKind.HANDSHAKE]))
    def command(self, how: CommandKind) -> None:
        self.world.command(how)

    @rule(known=st.booleans())
    def start(self, known: bool) -> None:
        self.world.command(CommandKind.REGISTER, **({} if known else {"base_url": PEER_URL, "peer_token": "initial"}))

    @rule()
    def deregister(self) -> None:
        self.world.command(CommandKind.DEREGISTER)
        self._over()

    def _over(self) -> None:
        """Nobody holds a token any more."""
        self.held = None

    # The peer --------------------------------------------------------------------------------------------------------

    def speaks(self) -> bool:
        return self.held is not None

    @precondition(speaks)
    @rule(correlated=st.booleans(), number=st.integers(0, 3))
    def registers(self, correlated: bool, number: int) -> None:
        correlation = self.world.state.notes.registers[-1:] if correlated else []
        self.last_request = {"request_id": f"r-{self.world.count}", "peer_token": f"B{number}"}
        self.world.register(cred=self.held, correlation_id=correlation[0] if correlation else None, **self.last_request)

    @precondition(lambda self: self.held is not None and bool(self.last_request))
    @rule()
    def registers_once_more_because_our_204_was_lost(self) -> None:
        self.world.register(cred=self.held, **self.last_request)

    @precondition(speaks)
    @rule()
    def puts(self) -> None:
        self.world.register(cred=self.held, method="PUT", peer_token="Bput")

    @precondition(speaks)
    @rule()
    def ends(self) -> None:
        self.world.inbound(Action.REGISTER, method="DELETE", cred=self.held)
        self._over()

    @precondition(speaks)
    @rule(heartbeat=st.sampled_from([None, 1.0, 60.0]))
    def shakes_hands(self, heartbeat: float | None) -> None:
        self.world.handshake(cred=self.held, heartbeat=heartbeat)
        self._promise(3 * INTERVAL)

    @precondition(speaks)
    @rule(ahead=st.sampled_from([-60, 30, 600, 10_000_000]))
    def beats(self, ahead: int) -> None:
        self.world.heartbeat(seconds(ahead), cred=self.held)
        self._promise(min(seconds(ahead), timedelta(days=1)) if ahead > 0 else INTERVAL)

    @precondition(speaks)
    @rule()
    def forecasts(self) -> None:
        self.world.inbound(Action.UPDATE_GROUP_CAPACITY_FORECAST, cred=self.held)

    @precondition(speaks)
    @rule()
    def shakes_hands_and_all_goes_well(self) -> None:
        self.shakes_hands(None)
        if waiting := self._waiting(Action.HANDSHAKE_ACKNOWLEDGE):
            self.done.update(message.message_id for message in waiting)
            self.world.deliver(waiting[-1])
            self._promise(3 * INTERVAL)

    def _promise(self, ahead: timedelta) -> None:
        self.promised = max(self.promised, self.world.clock.now() + ahead + GRACE)

    # Dispatch --------------------------------------------------------------------------------------------------------

    @rule(
        action=st.sampled_from([Action.REGISTER, Action.HANDSHAKE_ACKNOWLEDGE, Action.HANDSHAKE, Action.HEARTBEAT]),
        reaches=st.booleans(),
        outcome=st.sampled_from([Outcome.DELIVERED, Outcome.RETRY, Outcome.EXPIRED, Outcome.REFUSED, Outcome.HELD]),
    )
    def attempts(self, action: Action, reaches: bool, outcome: Outcome) -> None:
        """The oldest undelivered message of an action is tried. It may reach the peer and yet look lost, never the reverse."""
        waiting = self._waiting(action)
        if not waiting:
            return
        message = waiting[0]
        if outcome is Outcome.DELIVERED or (reaches and outcome in (Outcome.RETRY, Outcome.EXPIRED)):
            self._reaches_peer(message)
        if outcome in FINAL_OUTCOMES:
            self.done.add(message.message_id)
        self.world.deliver(message, outcome)
        if action is Action.HANDSHAKE_ACKNOWLEDGE and outcome is Outcome.DELIVERED:
            self._promise(3 * INTERVAL)

    def _waiting(self, action: Action) -> list[OutboundMessage]:
        over = {*self.done, *self.world.withdrawn}
        return [message for message in self.world.sent(action) if message.message_id not in over]

    def _reaches_peer(self, message: OutboundMessage) -> None:
        if message.action == Action.REGISTER and message.method == "POST":
            self.held, self.held_by_hand = json.loads(message.body)["token"]["$token"], False

    # Time ------------------------------------------------------------------------------------------------------------

    @rule(number=st.sampled_from([0, 1, 60, 1000, 50_000, 700_000]))
    def time_passes(self, number: int) -> None:
        self.world.advance(seconds(number))

    @rule()
    def restarts(self) -> None:
        self.world.restart()

    # Laws ------------------------------------------------------------------------------------------------------------

    @invariant()
    def the_peer_is_not_locked_out(self) -> None:
        if self.held is not None and shown(self.world.state) not in AWAY:
            assert self.world.accepts(self.held)

    @invariant()
    def nobody_is_online_past_its_promise(self) -> None:
        if shown(self.world.state) is ConnectionState.ONLINE and self.world.state.our_required_heartbeat_s is not None:
            assert self.world.clock.now() <= self.promised

    @invariant()
    def what_is_on_the_topic_is_the_state(self) -> None:
        if self.world.connections:
            assert self.world.connection.state is shown(self.world.state)
            assert self.world.connection.credentials == self.world.state.credentials

    @invariant()
    def no_timer_is_left_behind(self) -> None:
        due = self.world.rule.due(self.world.state)
        assert due is None or due > self.world.clock.now() - seconds(1)

    def teardown(self) -> None:
        """From wherever this ended there is a way to ONLINE that the peer can walk by itself."""
        world = self.world
        outs = [out.value for out in world.outs]
        messages = [value for value in outs if isinstance(value, OutboundMessage)]
        assert len({message.message_id for message in messages}) == len(messages)
        said = [value for value in outs if isinstance(value, Connection)]
        assert all(one != other for one, other in itertools.pairwise(said))
        if self.held is None or shown(world.state) in AWAY:
            return
        world.command(CommandKind.RESUME)
        for message in self._waiting(Action.REGISTER):
            self._reaches_peer(message)
            world.deliver(message)
        world.advance(timedelta(hours=1))
        before = len(world.sent(Action.REGISTER))
        world.register(cred=self.held)
        for message in world.sent(Action.REGISTER)[before:]:
            self._reaches_peer(message)
            world.deliver(message)
        world.handshake(cred=self.held)
        world.deliver(world.sent(Action.HANDSHAKE_ACKNOWLEDGE)[-1])
        assert shown(world.state) is ConnectionState.ONLINE


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
