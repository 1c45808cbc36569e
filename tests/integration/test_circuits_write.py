"""The circuit writer as processes, killed (SIGKILL) and replaced: the platform ends with the newest of each circuit and never goes back."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.circuit_platform_ledger import PlatformLedger
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.config import Configuration
from schemas.connection import CIRCUIT_REFUSED, CIRCUIT_WRITTEN, Event
from schemas.topics import CIRCUIT_CAPACITY, EVENTS
from sinks.kafka import Producer
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.integration.installed import Process, Site, Topics
from tests.sinks.circuit_world import Request, circuit_of, fake_partner, key_of
from tests.soak.running import until

pytestmark = pytest.mark.slow
NAMES = tuple(f"feeder-{number}" for number in range(4))
CONFIG = Configuration.model_validate({
    "circuits": [{"id": name, "rated_import_kw": 250, "rated_export_kw": 150} for name in NAMES],
    "scopes": [{"id": f"mg-{name}", "circuit_id": name} for name in NAMES],
})  # fmt: skip
TAKEN_OVER_WITHIN_S = 15.0
Held = Callable[[Request], bool]


@dataclass
class Platform:
    """The platform in the test's own process. Requests that `before` or `after` (it was applied) says so of are held until `release`
    and then never answered; `refuse` gives a status in place of taking one."""

    ledger: PlatformLedger = field(default_factory=lambda: PlatformLedger("hush"))
    before: Held | None = None
    after: Held | None = None
    refuse: Callable[[Request], int | None] = lambda request: None
    held: threading.Event = field(default_factory=threading.Event)
    tried: int = 0
    _released: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Any:
        with self._lock:
            self.tried += 1
        if self.before is not None and self.before(request):
            return self._hold()
        status = self.refuse(request)
        if status is not None:
            return status
        with self._lock:
            reply = self.ledger.patch(circuit_of(request), request.headers, request.text.encode())
        if self.after is not None and self.after(request):
            return self._hold()
        return reply.status, reply.content(), dict(reply.headers)

    def _hold(self) -> int:
        self.held.set()
        self._released.wait(60)
        return 500

    def release(self) -> None:
        """Let go of what is held, and hold nothing more."""
        self.before = self.after = None
        self.held.clear()
        self._released.set()
        self._released = threading.Event()

    def has(self, change: CircuitCapacity) -> bool:
        with self._lock:
            standing = self.ledger.circuits.get(change.circuit_id)
            return standing is not None and standing.told.effective_from == change.effective_from

    def keys(self) -> list[str]:
        with self._lock:
            return [line["key"] for line in self.ledger.log if line["status"] == 200]


@dataclass
class World:
    """A broker, a site, a platform, and the changes made so far."""

    site: Site
    platform: Platform
    topics: Topics
    producer: Producer
    made: int = 0
    last: dict[str, CircuitCapacity] = field(default_factory=dict)

    def change(self, name: str = NAMES[0]) -> CircuitCapacity:
        """Another change of a circuit, appended."""
        self.made += 1
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        before = self.last.get(name)
        if before is not None and now <= before.effective_from:
            now = before.effective_from + timedelta(milliseconds=1)
        made = CircuitCapacity(
            event_id=f"c{self.made}", at=now, circuit_id=name, scope_id=f"mg-{name}", available_import_w=1000.0 * self.made,
            available_export_w=500.0, effective_from=now, kind=PieceKind.FORECAST,
        )  # fmt: skip
        self.producer.send(CIRCUIT_CAPACITY, name, made)
        self.producer.flush()
        self.last[name] = made
        return made

    def process(self, name: str = "circuits", data: str | None = None) -> Process:
        found = self.site.process(name)
        if data is not None:
            found.environment["DERMS_DATA"] = str(self.site.directory / data)
        return found

    def settled(self, within_s: float = 40.0) -> None:
        """Wait until the platform has the newest of each circuit; it never went back, and nothing about it was wrong."""
        until(lambda: all(self.platform.has(each) for each in self.last.values()), lambda: f"all is written: {self.state()}", within_s)
        assert self.platform.ledger.problems == []

    def state(self) -> str:
        said = {name: each.said()[-1500:] for name, each in self.site.processes.items()}
        return f"{self.platform.ledger.report()} wanted { ({n: c.effective_from for n, c in self.last.items()}) } {said}"

    def told(self, kind: str) -> list[Event]:
        return [event for event in self.topics.of(Event) if event.kind == kind]


def world_on(settings: KafkaSettings, tmp_path: Path) -> Iterator[World]:
    platform = Platform()
    with fake_partner(platform) as partner:
        more = {"DERMS_CIRCUITS__URL": partner.url, "DERMS_CIRCUITS__TOKEN_FILE": str(tmp_path / "token")}
        (tmp_path / "token").write_text("hush\n")
        site = Site(settings, tmp_path / "site", CONFIG, more)
        topics, producer = Topics(settings, EVENTS), Producer(settings, "test-circuits")
        try:
            yield World(site, platform, topics, producer)
        finally:
            producer.close()
            site.stop()
            platform.release()
            topics.stop()


@pytest.fixture
def world(embedded_settings: KafkaSettings, tmp_path: Path) -> Iterator[World]:
    yield from world_on(embedded_settings, tmp_path)


@pytest.fixture
def kafka_world(real_kafka: KafkaSettings, tmp_path: Path) -> Iterator[World]:
    yield from world_on(unique(real_kafka), tmp_path)


def test_kills_at_chosen_moments_lose_nothing_and_reorder_nothing(world: World) -> None:
    platform, writer = world.platform, world.process()
    writer.start().says("circuits is running")
    first = world.change()
    world.settled()
    assert platform.keys() == [first.event_id]

    # Killed with the request open, before the platform did anything.
    platform.before = lambda request: key_of(request) == "c2"
    world.change()
    assert platform.held.wait(20)
    writer.kill()
    platform.release()
    writer.start()
    world.settled()

    # Killed when the platform has it and its answer is not there.
    third = f"c{world.made + 1}"
    platform.after = lambda request: key_of(request) == third
    world.change()
    assert platform.held.wait(20)
    writer.kill()
    platform.release()
    before = len(platform.keys())
    writer.start()
    until(lambda: set(platform.keys()[before:]) - {third}, "asserted again under a new key", 40)
    world.settled()

    # Killed right after the answer, before positions are kept; and again at once.
    for _ in range(2):
        change = world.change()
        until(lambda change=change: platform.has(change), world.state, 40)
        writer.kill()
        writer.start()
    world.settled()

    # Killed in the midst of back-offs; changes come while it is down, of which the last one counts.
    platform.refuse = lambda request: 503
    tried = platform.tried
    world.change()
    world.change(NAMES[1])
    until(lambda: platform.tried > tried + 2, "it was tried", 20)
    writer.kill()
    for _ in range(3):
        for name in NAMES:
            world.change(name)
    platform.refuse = lambda request: None
    writer.start()
    world.settled()
    skipped = {f"c{number}" for number in range(world.made - 11, world.made - 3)}
    assert not skipped & set(platform.keys()), "what was overtaken while it was down was sent"

    until(lambda: {each.event_id for each in world.last.values()} <= set(platform.keys()), "each under its own key, too", 20)

    # Stopped in order, and nothing has changed: everything is asserted again all the same.
    writer.signal(signal.SIGTERM)
    assert writer.process is not None
    assert writer.process.wait(20) == 0
    count = len(platform.keys())
    writer.start()
    until(lambda: len(platform.keys()) >= count + len(NAMES), "each circuit is asserted", 40)
    assert len(set(platform.keys()[count:])) == len(platform.keys()[count:])
    assert not set(platform.keys()[count:]) & {f"c{number}" for number in range(world.made + 1)}
    world.settled()
    assert world.told(CIRCUIT_REFUSED) == []
    assert {event.subject_id for event in world.told(CIRCUIT_WRITTEN)} == set(NAMES)


def test_kills_at_random_moments(world: World) -> None:
    chance = random.Random(20261020)
    platform, refusing = world.platform, random.Random(3)
    platform.refuse = lambda request: refusing.choice([None, None, None, 500, 503])
    writer, done = world.process(), threading.Event()
    writer.start().says("circuits is running")

    def make() -> None:
        makes = random.Random(7)
        while not done.wait(makes.uniform(0.0, 0.05)):
            world.change(makes.choice(NAMES))

    maker = threading.Thread(target=make)
    maker.start()
    try:
        for _ in range(5):
            more = platform.tried + chance.choice([0, 1, 5, 40])
            until(lambda more=more: platform.tried >= more, world.state, 40)
            writer.kill()
            writer.start()
    finally:
        done.set()
        maker.join()
        platform.refuse = lambda request: None  # else the last attempts may be refused until the breaker's probes are a minute apart
    world.settled(60)
    assert world.made > 50


def test_a_lost_store_brings_no_storm_and_a_new_platform_gets_everything(world: World) -> None:
    writer = world.process()
    for _ in range(50):
        world.change(NAMES[0])
    world.change(NAMES[1])
    writer.start()
    world.settled()
    assert len(world.platform.keys()) <= 4  # under its own key and asserted, for each of two
    writer.kill()
    with fake_partner(other := Platform()) as elsewhere:
        writer.environment |= {"DERMS_CIRCUITS__URL": elsewhere.url, "DERMS_DATA": str(world.site.directory / "new")}
        writer.start()
        until(lambda: all(other.has(each) for each in world.last.values()), world.state, 40)
        assert len(other.keys()) <= 4
        assert other.ledger.problems == []


def test_without_a_platform_changes_are_told_and_nothing_is_written(world: World) -> None:
    writer = world.process()
    del writer.environment["DERMS_CIRCUITS__URL"]
    writer.start().says("circuits is running")
    world.change()
    until(lambda: world.told("circuit capacity changed"), world.state, 20)
    assert world.platform.ledger.counts["requests"] == 0


@pytest.mark.kafka
def test_another_machine_takes_over_and_the_one_that_stood_still_writes_nothing(kafka_world: World) -> None:
    world = kafka_world
    platform = world.platform
    first, second = world.process("circuits-a", "a").start(), world.process("circuits-b", "b")
    first.says("circuits is running")
    old = world.change(NAMES[3])
    world.settled()
    second.start().says("circuits stands by: ")

    # The first stands still with a request open: its lease ends meanwhile.
    platform.before = lambda request: key_of(request) == f"c{world.made}"
    stuck = world.change()
    assert platform.held.wait(20)
    first.signal(signal.SIGSTOP)
    stood_still = time.monotonic()
    newer = world.change(NAMES[1])
    platform.before = None
    second.says("circuits is running", TAKEN_OVER_WITHIN_S)
    taken_over = time.monotonic() - stood_still
    world.settled()
    assert platform.has(stuck)
    assert platform.has(newer)
    until(lambda: len([line for line in platform.ledger.log if line["circuit_id"] == NAMES[3]]) >= 2, world.state, 20)
    assert platform.has(old)  # asserted by the second, which has no store that knows it
    last = world.change()
    # Each under its own key too, as the second reads them: after that it has nothing more to say.
    until(lambda: {newer.event_id, last.event_id} <= set(platform.keys()) and platform.keys().count(old.event_id) == 2, world.state, 40)
    world.settled()
    count = len(platform.ledger.log)
    first.signal(signal.SIGCONT)
    assert first.process is not None
    assert first.process.wait(30) == 75
    platform.release()
    assert [line["circuit_id"] for line in list(platform.ledger.log)[count:]] == []

    # A platform that is away while one is killed: the other brings what the first had taken and could not write.
    platform.refuse = lambda request: 503
    first.start().says("circuits stands by: ")
    waiting = [world.change(name) for name in NAMES]
    until(lambda: len(world.told("circuit capacity changed")) >= world.made, world.state, 20)
    second.kill()
    first.says("circuits is running", TAKEN_OVER_WITHIN_S)
    platform.refuse = lambda request: None
    world.settled()
    assert all(platform.has(each) for each in waiting)
    print(f"the second circuit writer ran {taken_over:.2f} s after the first stood still")
