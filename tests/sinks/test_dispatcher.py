"""The dispatcher over real sockets: order, retries, restarts, holds, expiry; one partner never waits for another (semantics 8)."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from schemas.clock import FrozenClock
from schemas.connection import Command, CommandKind, Connection, ConnectionState, Event
from schemas.facts import Value
from schemas.outbound import DeadLetter, Delivery, OutboundMessage, Outcome
from schemas.topics import COMMANDS, OUTBOUND, Topic
from sinks.errors import Unavailable
from sinks.oscp.answers import UnderWay
from sinks.oscp.bodies import Window
from sinks.oscp.client import OscpClient
from sinks.oscp.dispatcher import Dispatcher
from sinks.oscp.history import Outcomes, Start
from sinks.secrets import Secrets
from tests.builders import T0, configuration
from tests.schemas.golden import oscp_example
from tests.sinks.partner_server import FakePartner, Reply, Request, fake_partner

SECRETS = Secrets(bytes(range(32)))
MEASUREMENTS = json.loads(oscp_example("UpdateAssetMeasurements"))
FAST = 1000.0
"""Clock seconds a wall second: back-off, breaker and probes shrink to milliseconds. The clock itself stands still."""


def eventually(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.005)


@dataclass
class Kafka:
    """The topics a dispatch reads and writes, in memory; outlives dispatchers."""

    outbound: list[OutboundMessage] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    written: list[Value] = field(default_factory=list)
    kept: tuple[dict[int, int], dict[int, int], dict[int, int]] = ({0: 0}, {0: 0}, {0: 0})
    away: bool = False
    fetched: int = 0

    @property
    def deliveries(self) -> list[Delivery]:
        return [value for value in list(self.written) if isinstance(value, Delivery)]

    def of(self, message_id: str) -> list[Outcome]:
        return [delivery.outcome for delivery in self.deliveries if delivery.message_id == message_id]

    def events(self) -> list[str]:
        return [value.kind for value in list(self.written) if isinstance(value, Event)]

    async def append(self, topic: Topic, key: str, value: Value) -> None:
        if self.away:
            raise Unavailable("away")
        assert type(value) in topic.records
        self.written.append(value)

    def fetch(self, partition: int, offset: int) -> OutboundMessage:
        self.fetched += 1
        return self.outbound[offset]

    def ends(self) -> Mapping[int, int]:
        return {0: len(self.deliveries)}

    def keep(self, outbound: Mapping[int, int], commands: Mapping[int, int], deliveries: Mapping[int, int]) -> None:
        self.kept = (dict(outbound), dict(commands), dict(deliveries))

    def start(self) -> Start:
        outcomes = Outcomes()
        for delivery in self.deliveries[self.kept[2].get(0, 0) :]:
            outcomes.take(delivery)
        return Start(*self.kept, outcomes)


def message(number: int, partner: str = "vector", **changes: Any) -> OutboundMessage:
    plain: dict[str, Any] = {
        "event_id": f"m{number}", "at": T0, "message_id": f"m{number}", "partner_id": partner, "action": "UpdateAssetMeasurements",
        "group_id": "g1", "body": json.dumps({**MEASUREMENTS, "number": number}), "not_before": T0,
        "expires_at": T0 + timedelta(days=7),
    }  # fmt: skip
    return OutboundMessage.model_validate({**plain, **changes})


class World:
    """Kafka, a clock, partners; dispatchers come and go."""

    def __init__(self, *, speed: float = FAST, **urls: str) -> None:
        self.kafka, self.clock = Kafka(), FrozenClock(T0, speed=speed, floor=timedelta(0))
        self.config = configuration(partners=[{"id": name, "allow_private_addresses": True} for name in urls], groups=[])
        self.connections = {name: self.connection(name, url) for name, url in urls.items()}
        self.failures: list[BaseException] = []

    def connection(self, name: str, url: str, state: ConnectionState = ConnectionState.ONLINE) -> Connection:
        return Connection(
            event_id="c", at=T0, partner_id=name, state=state, since=T0, peer_base_url=url,
            peer_token=SECRETS.encrypt("peer", name),
        )  # fmt: skip

    @contextmanager
    def dispatching(self, **options: Any) -> Iterator[Dispatcher]:
        start = self.kafka.start()
        dispatcher = Dispatcher(
            sender=OscpClient(lambda: self.config, lambda: self.connections, SECRETS),
            append=self.kafka.append,
            fetch=self.kafka.fetch,
            positions=self.kafka,
            start=start,
            configuration=lambda: self.config,
            connections=lambda: self.connections,
            clock=self.clock,
            on_failure=self.failures.append,
            **options,
        )
        dispatcher.start()
        for offset in range(start.positions()[OUTBOUND.name, 0], len(self.kafka.outbound)):
            dispatcher.take(self.kafka.outbound[offset], 0, offset)
        for offset in range(start.positions()[COMMANDS.name, 0], len(self.kafka.commands)):
            dispatcher.command(self.kafka.commands[offset], 0, offset)
        try:
            yield dispatcher
        finally:
            dispatcher.stop()
        assert self.failures == []

    def owe(self, *messages: OutboundMessage, dispatcher: Dispatcher | None = None) -> None:
        for each in messages:
            self.kafka.outbound.append(each)
            if dispatcher is not None:
                dispatcher.take(each, 0, len(self.kafka.outbound) - 1)

    def delivered(self, *numbers: int) -> bool:
        return all(self.kafka.of(f"m{number}")[-1:] == [Outcome.DELIVERED] for number in numbers)


@pytest.fixture
def cp() -> Iterator[FakePartner]:
    with fake_partner() as partner:
        yield partner


def test_messages_arrive_in_order_and_each_outcome_is_recorded(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.owe(*(message(number) for number in range(20)))
    with world.dispatching():
        eventually(lambda: world.delivered(*range(20)))
    assert cp.ids() == [f"m{number}" for number in range(20)]
    first = world.kafka.deliveries[0]
    assert (first.message_id, first.attempt, first.status, first.group_id, first.cause_id) == ("m0", 1, 204, "g1", "m0")
    assert world.kafka.kept[0] == {0: 20}


def test_a_failure_is_retried_under_the_same_id_and_the_lane_waits(cp: FakePartner) -> None:
    answers = iter([500, 429, 503])
    cp.answer = lambda request: next(answers, 204)
    world = World(vector=cp.url)
    world.owe(message(0), message(1))
    with world.dispatching():
        eventually(lambda: world.delivered(0, 1))
    assert cp.ids() == ["m0", "m0", "m0", "m0", "m1"]
    assert world.kafka.of("m0") == [Outcome.RETRY] * 3 + [Outcome.DELIVERED]
    assert [delivery.attempt for delivery in world.kafka.deliveries] == [1, 2, 3, 4, 1]
    assert len({delivery.event_id for delivery in world.kafka.deliveries}) == 5


def test_a_restart_sends_what_is_owed_and_nothing_that_was_delivered(cp: FakePartner) -> None:
    cp.answer = lambda request: 500 if request.json["number"] in (3, 7) else 204
    world = World(speed=30.0, vector=cp.url)  # slow enough that nothing fails so often that it is set aside
    world.owe(*(message(number, group_id=f"g{number}") for number in range(10)))
    with world.dispatching():
        eventually(lambda: world.delivered(0, 1, 2, 4, 5, 6, 8, 9) and bool(world.kafka.of("m3")) and bool(world.kafka.of("m7")))
    assert world.kafka.kept[0] == {0: 3}
    cp.answer = lambda request: 204
    with world.dispatching():
        eventually(lambda: world.delivered(3, 7))
    accepted = Counter(cp.ids(204))
    assert accepted == {f"m{number}": 1 for number in range(10)}
    attempts = [delivery.attempt for delivery in world.kafka.deliveries if delivery.message_id == "m3"]
    assert attempts == list(range(1, len(attempts) + 1))


def test_messages_made_again_by_a_replay_are_not_sent_again(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.owe(message(0), message(0))
    with world.dispatching() as dispatcher:
        eventually(lambda: world.delivered(0))
        world.owe(message(0), message(1), dispatcher=dispatcher)
        eventually(lambda: world.delivered(1))
    assert cp.ids() == ["m0", "m1"]
    assert world.kafka.kept[0] == {0: 4}


def test_a_delivery_that_cannot_be_recorded_yet_is_not_sent_again(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.kafka.away = True
    world.owe(message(0), message(1))
    with world.dispatching():
        eventually(lambda: cp.ids() == ["m0"])
        world.kafka.away = False
        eventually(lambda: world.delivered(0, 1))
    assert cp.ids() == ["m0", "m1"]


def test_credentials_that_are_refused_hold_the_queue_until_they_are_taken(cp: FakePartner) -> None:
    cp.answer = lambda request: 401
    world = World(vector=cp.url)
    world.owe(*(message(number, group_id=f"g{number}") for number in range(3)))
    with world.dispatching():
        eventually(lambda: len(cp.ids()) >= 5)  # the three that were on their way, then single probes
        cp.answer = lambda request: 204
        eventually(lambda: world.delivered(0, 1, 2))
    assert Outcome.HELD in world.kafka.of("m0")
    assert world.kafka.events().count("dispatch.held") == 1
    assert world.kafka.events().count("dispatch.resumed") == 1


def test_a_refusal_leaves_a_dead_letter_with_the_partners_words_and_the_next_goes(cp: FakePartner) -> None:
    def answer(request: Request) -> Reply | int:
        return (400, b'{"message":"unknown group"}', {}) if request.id == "m0" else 204

    cp.answer = answer
    world = World(vector=cp.url)
    world.owe(message(0), message(1))
    with world.dispatching():
        eventually(lambda: world.delivered(1))
    assert world.kafka.of("m0") == [Outcome.REFUSED]
    (letter,) = [value for value in world.kafka.written if isinstance(value, DeadLetter)]
    assert letter.reason == "refused by vector: answered 400: unknown group"
    assert (letter.subject, letter.topic, letter.offset, letter.raw) == ("m0", "derms.outbound", 0, message(0).body.encode())
    assert "message.refused" in world.kafka.events()


def test_what_is_not_wanted_any_more_is_not_sent(cp: FakePartner) -> None:
    cp.answer = lambda request: 500
    world = World(vector=cp.url)
    world.owe(message(0, expires_at=T0 + timedelta(hours=1)), message(1))
    with world.dispatching():
        eventually(lambda: Outcome.RETRY in world.kafka.of("m0"))
        world.clock.advance(timedelta(hours=2))
        eventually(lambda: world.kafka.of("m0")[-1] is Outcome.EXPIRED)
        cp.answer = lambda request: 204
        eventually(lambda: world.delivered(1))
    assert "message.expired" in world.kafka.events()


def test_a_dead_partner_delays_no_other(cp: FakePartner) -> None:
    world = World(vector=cp.url, dead="http://127.0.0.1:1")
    world.owe(*(message(100 + number, "dead", group_id=f"g{number}") for number in range(50)))
    world.owe(*(message(number) for number in range(10)))
    with world.dispatching() as dispatcher:
        eventually(lambda: world.delivered(*range(10)), within_s=5)
        eventually(lambda: any(standing.breaker != "CLOSED" for standing in dispatcher.standings()))
        standings = {standing.partner_id: standing for standing in dispatcher.standings()}
    assert standings["dead"].waiting == 50
    assert standings["vector"].waiting == 0
    assert world.kafka.kept[0] == {0: 0}


def test_heartbeats_overtake_a_backlog(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.owe(*(message(number, at=T0 - timedelta(days=1)) for number in range(40)))
    with world.dispatching() as dispatcher:
        eventually(lambda: world.delivered(0))
        world.owe(message(99, action="Heartbeat", group_id=None, body=oscp_example("Heartbeat")), dispatcher=dispatcher)
        eventually(lambda: world.delivered(99))
        assert not world.delivered(39)  # a backlog drains at 20 a second
    assert cp.ids().index("m99") < 39


@pytest.mark.parametrize("state", [ConnectionState.SUSPENDED, ConnectionState.FAILED])
def test_a_suspended_connection_is_sent_nothing_until_it_is_resumed(cp: FakePartner, state: ConnectionState) -> None:
    world = World(vector=cp.url)
    world.connections["vector"] = world.connection("vector", cp.url, state)
    world.owe(message(0))
    with world.dispatching() as dispatcher:
        eventually(lambda: bool(dispatcher.standings()))
        assert cp.ids() == []
        world.connections["vector"] = world.connection("vector", cp.url)
        eventually(lambda: world.delivered(0))


def test_offline_is_no_reason_not_to_try(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.connections["vector"] = world.connection("vector", cp.url, ConnectionState.OFFLINE)
    world.owe(message(0))
    with world.dispatching():
        eventually(lambda: world.delivered(0))


def test_a_deregistered_partner_gets_our_farewell_only(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.connections["vector"] = world.connection("vector", cp.url, ConnectionState.DEREGISTERED)
    world.owe(message(0), message(1, action="Register", method="DELETE", group_id=None, body=oscp_example("Register")))
    with world.dispatching():
        eventually(lambda: world.delivered(1))
    assert cp.ids() == ["m1"]


def test_a_new_address_is_used_at_once(cp: FakePartner) -> None:
    world = World(vector="https://192.0.2.1")
    world.config = configuration(partners=[{"id": "vector"}], groups=[])
    world.owe(message(0))
    with world.dispatching():
        eventually(lambda: Outcome.HELD in world.kafka.of("m0"))
        world.config = configuration(partners=[{"id": "vector", "allow_private_addresses": True}], groups=[])
        world.connections["vector"] = world.connection("vector", cp.url)
        eventually(lambda: world.delivered(0))


def command(kind: CommandKind, message_id: str, number: int = 1) -> Command:
    payload = json.dumps({"message_id": message_id})
    return Command(event_id=f"cmd-{number}", at=T0, partner_id="vector", kind=kind, by="ana", payload=payload)


def test_an_operator_drops_a_message(cp: FakePartner) -> None:
    cp.answer = lambda request: 500 if request.id == "m0" else 204
    world = World(vector=cp.url)
    world.owe(message(0), message(1))
    with world.dispatching() as dispatcher:
        eventually(lambda: Outcome.RETRY in world.kafka.of("m0"))
        dispatcher.command(command(CommandKind.DROP_MESSAGE, "m0"), 0, 0)
        eventually(lambda: world.delivered(1))
        dispatcher.command(command(CommandKind.DROP_MESSAGE, "m0", 2), 0, 1)
        dispatcher.command(command(CommandKind.DROP_MESSAGE, "nonsense", 3), 0, 2)
        eventually(lambda: "command.refused" in world.kafka.events())
    assert world.kafka.of("m0")[-1] is Outcome.DROPPED
    assert world.kafka.events().count("command.refused") == 1
    assert world.kafka.kept[1] == {0: 3}


def test_a_message_that_alone_fails_is_parked_also_over_a_restart_until_asked_for(cp: FakePartner) -> None:
    cp.answer = lambda request: 500 if request.id == "m0" else 204
    world = World(vector=cp.url)
    world.owe(message(0), message(1))
    with world.dispatching() as dispatcher:
        others = 100
        while Outcome.PARKED not in world.kafka.of("m0"):
            world.owe(message(others, group_id="g2"), dispatcher=dispatcher)
            eventually(lambda number=others: world.delivered(number))  # type: ignore[misc]
            others += 1
        eventually(lambda: world.delivered(1))
    assert "message.parked" in world.kafka.events()
    cp.answer = lambda request: 204
    with world.dispatching() as dispatcher:
        eventually(lambda: [standing.parked for standing in dispatcher.standings()] == [1])
        dispatcher.command(command(CommandKind.RETRY_MESSAGE, "m0"), 0, 0)
        eventually(lambda: world.delivered(0))
    assert world.kafka.of("m0")[-3:] == [Outcome.PARKED, Outcome.RETRY, Outcome.DELIVERED]


def test_bodies_beyond_the_window_are_read_again(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.owe(*(message(number) for number in range(10)))
    with world.dispatching(window=Window(limit=100)):
        eventually(lambda: world.delivered(*range(10)))
    assert [request.json["number"] for request in cp.requests] == list(range(10))
    assert world.kafka.fetched >= 7


def test_a_fault_of_our_own_is_told_and_ends_the_taking(cp: FakePartner) -> None:
    class Broken:
        async def attempt(self, message: OutboundMessage, under_way: UnderWay) -> Any:
            raise ZeroDivisionError

        async def aclose(self) -> None:
            pass

    world = World(vector=cp.url)
    told: list[BaseException] = []
    dispatcher = Dispatcher(
        sender=Broken(), append=world.kafka.append, fetch=world.kafka.fetch, positions=world.kafka, start=world.kafka.start(),
        configuration=lambda: world.config, connections=lambda: world.connections, clock=world.clock, on_failure=told.append,
    )  # fmt: skip
    dispatcher.start()
    dispatcher.take(message(0), 0, 0)
    eventually(lambda: len(told) == 1)
    with pytest.raises(RuntimeError, match="dispatcher failed"):
        dispatcher.take(message(1), 0, 1)
    dispatcher.stop()
    assert isinstance(told[0], ZeroDivisionError)
    with pytest.raises(Unavailable, match="not known"):
        dispatcher.standings()


def test_a_heartbeat_nobody_answers_does_not_keep_the_next_one_waiting(cp: FakePartner) -> None:
    hangs = threading.Event()

    def answer(request: Request) -> int:
        if request.id == "m0":
            hangs.wait(20)
        return 204

    cp.answer = answer
    world = World(speed=1.0, vector=cp.url)
    beat = {"action": "Heartbeat", "group_id": None, "body": oscp_example("Heartbeat"), "expires_at": T0 + timedelta(seconds=1)}
    world.owe(message(0, **beat), message(1, **{**beat, "expires_at": T0 + timedelta(hours=1)}))
    try:
        with world.dispatching():
            eventually(lambda: world.kafka.of("m0") == [Outcome.RETRY], within_s=10)
            world.clock.advance(timedelta(seconds=2))
            eventually(lambda: world.delivered(1), within_s=10)
    finally:
        hangs.set()
    assert world.kafka.of("m0") == [Outcome.RETRY, Outcome.EXPIRED]
    given_up = next(delivery for delivery in world.kafka.deliveries if delivery.message_id == "m0")
    assert (given_up.method, given_up.url) == ("POST", f"{cp.url}/heartbeat")
    assert 900 <= given_up.duration_ms < 10_000
    assert given_up.words == "no answer before the next heartbeat was due"


def test_a_heartbeat_whose_time_passes_while_its_body_is_read_again_is_not_sent(cp: FakePartner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would tell the partner an `offline_mode_at` that is past; the broker may have been away for longer than the interval."""
    world = World(speed=1.0, vector=cp.url)
    stored = world.kafka.fetch

    def slow(partition: int, offset: int) -> OutboundMessage:
        if offset == 0:
            world.clock.advance(timedelta(seconds=2))
        return stored(partition, offset)

    monkeypatch.setattr(world.kafka, "fetch", slow)
    beat = {"action": "Heartbeat", "group_id": None, "body": oscp_example("Heartbeat"), "expires_at": T0 + timedelta(seconds=1)}
    world.owe(message(0, **beat), message(1, **{**beat, "expires_at": T0 + timedelta(hours=1)}))
    with world.dispatching(window=Window(limit=1)):
        eventually(lambda: world.delivered(1), within_s=10)
    assert [request.id for request in cp.requests] == ["m1"]
    assert world.kafka.of("m0")[-1] is Outcome.EXPIRED


def test_a_refusal_of_an_old_token_that_comes_late_does_not_hold_what_goes_with_the_new_one(cp: FakePartner) -> None:
    slow, under_way = threading.Event(), threading.Event()

    def answer(request: Request) -> int:
        if request.headers["authorization"] == "Token new":
            return 204
        under_way.set()
        slow.wait(20)
        return 403

    cp.answer = answer
    world = World(speed=1.0, vector=cp.url)  # a probe would take five minutes
    world.owe(message(0))
    with world.dispatching() as dispatcher:
        assert under_way.wait(10)
        renewed = world.connection("vector", cp.url).model_copy(update={"peer_token": SECRETS.encrypt("new", "vector")})
        world.connections["vector"] = renewed
        world.owe(message(1, group_id="g2"), dispatcher=dispatcher)
        eventually(lambda: world.delivered(1), within_s=10)
        slow.set()
        eventually(lambda: world.delivered(0), within_s=10)


@pytest.mark.parametrize(("kind", "message_id"), [(CommandKind.RESUME, ""), (CommandKind.RETRY_MESSAGE, "m0")])
def test_resuming_and_sending_again_try_at_once_what_is_held(cp: FakePartner, kind: CommandKind, message_id: str) -> None:
    cp.answer = lambda request: 403
    world = World(speed=1.0, vector=cp.url)  # a probe would take five minutes
    world.owe(message(0))
    with world.dispatching() as dispatcher:
        eventually(lambda: world.kafka.of("m0") == [Outcome.HELD], within_s=10)
        cp.answer = lambda request: 204
        dispatcher.command(command(kind, message_id), 0, 0)
        eventually(lambda: world.delivered(0), within_s=10)
    assert world.kafka.events() == ["dispatch.held", "dispatch.resumed"]
