"""The flow `lifecycle`: records in, connections, messages and events out, the same after a crash (semantics 6)."""

from datetime import timedelta
from pathlib import Path

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from bytewax.visualize import to_rendered

from pipelines.lifecycle import BARRIER, READS, lifecycle_flow
from pipelines.records import Out, Record, Unreadable
from pipelines.views import FixedView
from schemas.clock import FrozenClock
from schemas.config import ConfigChange
from schemas.connection import Command, CommandKind, Connection, InboundMessage
from schemas.facts import Value
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import COMMANDS, CONFIG, CONNECTIONS, DEAD_LETTERS, DELIVERIES, EVENTS, INBOUND, OUTBOUND
from tests.builders import T0, configuration
from tests.rules.lifecycle_world import World, seconds, token_digest

CLOCK = FrozenClock(T0 + timedelta(minutes=10))


def flow(polls: list[object], out: list[Out]) -> Dataflow:
    return lifecycle_flow(
        records=TestingSource(polls),
        out=TestingSink(out),
        clock=CLOCK,
        config=FixedView(configuration()),
        token_digest=token_digest,
        public_url="https://derms.example/",
    )


def record(offset: int, value: Value | Unreadable) -> Record:
    topics = {InboundMessage: INBOUND, Delivery: DELIVERIES, Command: COMMANDS, ConfigChange: CONFIG, Connection: CONNECTIONS}
    return Record(topics.get(type(value), INBOUND).name, 0, offset, T0, "any key", value)


class Recorder(World):
    """A world that keeps what it was fed, so that a flow can be fed the same."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[Value] = []

    def step(self, item):
        if isinstance(item, Value):
            self.fed.append(item)
        return super().step(item)


def story() -> Recorder:
    world = Recorder()
    world.configured(world.partner)
    world.advance(seconds(2))
    world.command(CommandKind.ISSUE_TOKEN)
    world.register()
    world.deliver(world.sent(Action.REGISTER)[-1], Outcome.RETRY)
    world.advance(seconds(2))
    world.deliver(world.sent(Action.REGISTER)[-1])
    world.handshake(heartbeat=60)
    world.advance(seconds(2))
    world.deliver(world.sent(Action.HANDSHAKE_ACKNOWLEDGE)[-1])
    world.heartbeat(seconds(900))
    world.inbound(Action.UPDATE_GROUP_CAPACITY_FORECAST)
    return world


def told(out: list[Out]) -> set[tuple[str, str, str]]:
    return {(item.topic.name, item.key, item.value.event_id) for item in out}


def test_records_of_a_partner_move_its_connection():
    out: list[Out] = []
    world = story()
    run_main(flow([[record(offset, value)] for offset, value in enumerate(world.fed)], out))
    last = [item.value for item in out if isinstance(item.value, Connection)][-1]
    assert last.state == "ONLINE"
    messages = {item.value.message_id for item in out if isinstance(item.value, OutboundMessage)}
    assert {message.message_id for action in (Action.REGISTER, Action.HANDSHAKE_ACKNOWLEDGE) for message in world.sent(action)} <= messages
    (register,) = [item.value for item in out if item.topic is OUTBOUND and item.value.action == Action.REGISTER]
    assert '"base_url":"https://derms.example/oscp/fp/2.0"' in register.body


@pytest.mark.parametrize("crash", [1, 4, 7, 9])
def test_a_crash_anywhere_changes_nothing_that_is_told(tmp_path: Path, crash: int):
    polls: list[object] = [[record(offset, value)] for offset, value in enumerate(story().fed)]
    whole: list[Out] = []
    run_main(flow(polls, whole))
    init_db_dir(tmp_path, 1)
    recovery, parts = RecoveryConfig(str(tmp_path)), []
    broken = [*polls[:crash], TestingSource.ABORT(), *polls[crash:]]
    for _ in range(2):
        run_main(flow(broken, parts), epoch_interval=timedelta(0), recovery_config=recovery)
    assert told(parts) == told(whole)


def test_what_is_of_no_concern_is_left_alone_and_what_is_unreadable_is_a_dead_letter():
    out: list[Out] = []
    other = ConfigChange(event_id="c", at=T0, kind="scopes", id="mg-1", body="{}", revision=1, by="ana")
    report = Delivery(
        event_id="d",
        at=T0,
        message_id="m",
        partner_id="vector",
        action=Action.UPDATE_ASSET_MEASUREMENTS,
        attempt=1,
        outcome=Outcome.REFUSED,
    )
    limit = Command(event_id="l", at=T0, partner_id="", kind=CommandKind.ENVELOPE, by="ana", scope_id="mg-1")
    run_main(flow([[record(0, other), record(1, report), record(2, Unreadable("no known prefix", b"x")), record(3, limit)]], out))
    assert [item.topic for item in out] == [DEAD_LETTERS]


@pytest.mark.parametrize("partner_id", ["", "two words", "x" * 300, "\n", "nobody"])
@pytest.mark.parametrize("kind", CommandKind)
def test_no_command_ends_the_flow_whoever_it_names(kind: CommandKind, partner_id: str):
    out: list[Out] = []
    command = Command(event_id="c", at=T0, partner_id=partner_id, kind=kind, by="ana", group_id="g", payload='{"peer_token": 1}')
    run_main(flow([[record(0, command)]], out))
    assert {item.topic for item in out} <= {CONNECTIONS, EVENTS, OUTBOUND}


def test_a_connection_is_gone_on_from_where_the_store_is_lost():
    world, out = story(), []
    lost = [record(0, world.connection), *(record(n, value) for n, value in enumerate(world.fed) if not isinstance(value, ConfigChange))]
    run_main(flow([lost], out))
    assert [item for item in out if item.topic is CONNECTIONS] == []


def test_step_ids_are_recovery_keys():
    rendered = to_rendered(flow([], []))
    ids = {operator.step_id for operator in rendered.substeps}
    assert ids == {f"lifecycle.{name}" for name in (
        "in", "in_each", "in_readable", "in_dead", "news", "connection_pair", "connection", "connection_value",
        "parts", "segments_pair", "segments", "segments_value", "outs", "out",
    )}  # fmt: skip


def test_what_must_be_known_first_is_read_first():
    assert set(BARRIER) < set(READS)
