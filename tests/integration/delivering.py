"""A running system for tests of delivery: gateway, lifecycle, reporting and dispatch as processes on one broker, simulated partners
over real sockets, and rows of closed quarters that stream in."""

import asyncio
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Producer as Client

from gateway.simulator import SimulatedProvider
from gateway.simulator_config import SimulatorConfig
from gateway.simulator_switches import Switches
from schemas.clock import ScaledClock
from schemas.config import Configuration
from schemas.connection import Connection, Event
from schemas.intervals import QUARTER, quarter_of
from schemas.outbound import Delivery, OutboundMessage
from schemas.telemetry import Level, Method, QuarterHour
from schemas.topics import CONNECTIONS, DELIVERIES, EVENTS, OUTBOUND, QUARTER_HOURS
from sinks.codec import encode
from sinks.kafka import topic_name
from sinks.kafka_clients import producer_config
from sinks.settings import KafkaSettings
from tests.integration.fronts import Front
from tests.integration.installed import Site, Topics
from tests.integration.owed import Books, Key, Witness, broken, faults_found, untrue
from tests.integration.running import reserved_port
from tests.soak.running import OUTAGE_S, until

T = TypeVar("T")
BEAT_S = 1800.0
"""Clock seconds between the heartbeats that partners ask of us."""


@dataclass
class Member:
    """A partner: what is configured for it, how it is, and the proxy before it if there is one."""

    name: str
    groups: int = 3
    partner: dict[str, Any] = field(default_factory=dict)
    sim: dict[str, Any] = field(default_factory=dict)
    fronted: bool = False
    certificate: Path | None = None

    def __post_init__(self) -> None:
        self.kept = [reserved_port(), reserved_port()]
        self.port, self.front_port = (each.getsockname()[1] for each in self.kept)

    @property
    def group_ids(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(self.groups)]


def configuration_of(members: Iterable[Member]) -> Configuration:
    """Each group has a scope with one asset."""
    members = list(members)
    groups = [(member.name, group_id) for member in members for group_id in member.group_ids]
    plain: dict[str, Any] = {
        "scopes": [{"id": f"s-{group_id}"} for _, group_id in groups],
        "assets": [{"id": f"a-{group_id}", "scope_id": f"s-{group_id}", "category": "CONSUMPTION"} for _, group_id in groups],
        "partners": [{"id": member.name, "allow_private_addresses": True, **member.partner} for member in members],
        "groups": [{"partner_id": name, "group_id": group_id, "scope_id": f"s-{group_id}"} for name, group_id in groups],
    }
    return Configuration.model_validate(plain)


class Scene:
    """All of it. `start` returns when every partner is online; `stop` ends everything. `together`: all control flows are one
    process, as under `derms up`."""

    def __init__(
        self, settings: KafkaSettings, directory: Path, members: Iterable[Member], *, speed: float, together: bool = False
    ) -> None:
        self.members = {member.name: member for member in members}
        self.clock = ScaledClock(datetime.now(UTC), datetime.now(UTC), speed)
        began = self.clock.origin.isoformat()
        clock = {"DERMS_CLOCK__SPEED": f"{speed:g}", "DERMS_CLOCK__ORIGIN": began, "DERMS_CLOCK__STARTED": self.clock.started.isoformat()}
        self.site = Site(settings, directory, configuration_of(self.members.values()), clock)
        self.seen = Topics(settings, OUTBOUND, DELIVERIES, CONNECTIONS, EVENTS)
        self.rows = Rows(settings, self.clock)
        self._together = together
        self.peers: dict[str, SimulatedProvider] = {}
        self.witnesses: dict[str, Witness] = {}
        self.fronts: dict[str, Front] = {}
        self.deaths: list[tuple[str, datetime]] = []
        self._over = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._threads = [threading.Thread(target=self._loop.run_forever, name="partners", daemon=True)]
        self._threads.append(threading.Thread(target=self._tend, name="tending", daemon=True))

    def start(self) -> None:
        """Start the processes, let the partners register and shake hands, and wait until all are online."""
        self._threads[0].start()
        public = f"http://127.0.0.1:{self.site.process('gateway').start().port}"
        if self._together:
            control = self.site.process("control", public_url=public)
            ready = str(self.site.directory / "control.ready")
            control.command = [sys.executable, "-m", "gateway.processes", "control", "--ready", ready]
            control.start().says("event=ready")
        for name in () if self._together else ("lifecycle", "reporting", "dispatch"):
            self.site.process(name, public_url=public).start()
        for name, each in self.site.processes.items():
            if name != "control":
                each.says(f"{name} is running")
        self._threads[1].start()
        tokens = {name: self.site.token(name) for name in self.members}
        for name, member in self.members.items():
            until(lambda name=name: any(each.credentials for each in self.seen.of(Connection, name)), f"a token for {name}", 30)
            self.call(self._arrives(member, tokens[name]))
        until(lambda: all(self.online_since(name) for name in self.members), self.states, 40)

    async def _arrives(self, member: Member, token: str) -> None:
        gateway = self.site.processes["gateway"]
        if member.fronted:
            front = self.fronts[member.name] = Front(member.front_port, lambda: member.port, member.certificate)
            await front.start()
            member.sim["public_url"] = front.url
        plain = {
            "fp_base_url": f"http://127.0.0.1:{gateway.port}/oscp/fp/2.0", "token_a": token, "group_id": member.group_ids[0],
            "more_groups": member.group_ids[1:], "heartbeat_interval_s": BEAT_S, "port": member.port, "origin": self.clock.origin,
            "started": self.clock.started, "speed": self.clock.speed, **member.sim,
        }  # fmt: skip
        peer = self.peers[member.name] = SimulatedProvider(SimulatorConfig.model_validate(plain))
        self.witnesses[member.name] = Witness(peer)
        await peer.start()

    def _tend(self) -> None:
        """What ends is started again, as whoever runs services does."""
        while not self._over.wait(0.1):
            for name, each in self.site.processes.items():
                if each.process is not None and each.process.poll() is not None:
                    self.deaths.append((name, self.clock.now()))
                    each.start()

    def call(self, work: Awaitable[T]) -> T:
        """Run something in the partners' loop and wait for it."""

        async def waited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result(30)

    def do(self, act: Callable[[], T]) -> T:
        """As `call`, for what does not wait."""

        async def done() -> T:
            return act()

        return self.call(done())

    def switch(self, name: str, **wanted: Any) -> None:
        """Throw a partner's switches, all of them."""
        switches = Switches.model_validate(wanted)
        self.do(lambda: setattr(self.peers[name].reception, "switches", switches))

    def online_since(self, name: str) -> datetime | None:
        """The first acknowledged handshake, if the partner is online."""
        newest = next(iter(self.seen.of(Connection, name)[::-1]), None)
        return newest.first_acknowledged_at if newest is not None and newest.state == "ONLINE" else None

    def states(self) -> str:
        """How connections and processes stand, for messages."""
        states = {name: [each.state.value for each in self.seen.of(Connection, name)[-1:]] for name in self.members}
        said = {name: each.said()[-600:] for name, each in self.site.processes.items()}
        peers = {name: (each.life.phase, dict(each.ledger.said), each.ledger.problems[:3]) for name, each in self.peers.items()}
        return f"{states}; {peers}; they said: {said}"

    def books(self, name: str) -> Books:
        """What the topics say of a partner."""
        return Books.of(name, self.seen.of(OutboundMessage, name), self.seen.of(Delivery, name))

    def events(self, name: str) -> list[Event]:
        """What people are told of a partner."""
        return [event for event in self.seen.of(Event) if event.subject_id == name]

    def truth(self, name: str) -> dict[Key, float]:
        """What the rows of a partner's groups said."""
        own = {f"a-{group_id}" for group_id in self.members[name].group_ids}
        return {key: wh for key, wh in dict(self.rows.truth).items() if key[0] in own}

    def behind(self, name: str) -> list[str]:
        """What a partner has not been told yet, or is not recorded yet."""
        untold = self.do(lambda: untrue(self.truth(name), self.peers[name]))
        return untold or self.books(name).open()

    def settled(self, within_s: float, names: Iterable[str] = ()) -> None:
        """Wait until everything owed is told and recorded."""
        for name in names or self.members:
            until(lambda name=name: not self.behind(name), lambda name=name: f"{name}: {self.behind(name)[:5]} {self.states()}", within_s)
        self.seen.catch_up()

    def wrong(self, name: str) -> list[Any]:
        """What of the law does not hold with a partner. Where a process or the broker died, a heartbeat may have been late."""
        deaths = [at for who, at in self.deaths if who in ("dispatch", "control")]
        words: list[Any] = broken(self.books(name), self.witnesses[name].owed_ones(), deaths)
        beats = not self.deaths
        return words + self.do(lambda: untrue(self.truth(name), self.peers[name]) + faults_found(self.peers[name], beats=beats))

    def stop(self) -> None:
        """End everything."""
        self._over.set()
        self.rows.stop()
        if self._threads[1].is_alive():
            self._threads[1].join(5)

        async def end() -> None:
            await asyncio.gather(*(each.stop() for each in (*self.peers.values(), *self.fronts.values())), return_exceptions=True)

        with suppress(Exception):
            self.call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.seen.stop()
        self.site.stop()
        for member in self.members.values():
            for kept in member.kept:
                kept.close()


class Rows:
    """Rows of closed quarters, as the metering flow writes them: each quarter's when the clock has passed its end, spread over
    the next one; now and then a correction of the quarter before. `truth` is what they say."""

    def __init__(self, settings: KafkaSettings, clock: ScaledClock, seed: int = 7) -> None:
        self.truth: dict[Key, float] = {}
        self.quarters = 0
        self._clock, self._dice, self._topic = clock, random.Random(seed), topic_name(settings, QUARTER_HOURS)
        self._client: Any = Client(producer_config(settings, "test-rows", OUTAGE_S))
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def stream(self, group_ids: Iterable[str], *, spread: float = 0.5, corrected: float = 0.1) -> None:
        """Begin with the first whole quarter from now. `spread`: the share of a quarter over which its rows come."""
        arguments = (list(group_ids), spread, corrected)
        self._thread = threading.Thread(target=self._run, args=arguments, name="rows", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more; returns when the broker has all."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        left = self._client.flush(60)
        assert left == 0, f"{left} rows did not arrive"

    def _run(self, group_ids: list[str], spread: float, corrected: float) -> None:
        start = quarter_of(self._clock.now()) + QUARTER
        while not self._over.is_set():
            self._dice.shuffle(group_ids)
            for number, group_id in enumerate(group_ids):
                due = start + QUARTER * (1 + spread * number / len(group_ids))
                self._over.wait(max(0.0, (self._clock.wall_at(due) - datetime.now(UTC)).total_seconds()))
                if self._over.is_set():
                    return
                self._close(group_id, start, 1)
                if self.quarters and self._dice.random() < corrected:
                    self._close(group_id, start - QUARTER, 2)
            self.quarters += 1
            start += QUARTER

    def _close(self, group_id: str, start: datetime, revision: int) -> None:
        wh = self._dice.randrange(1, 10_000_000) / 1000
        self.truth[f"a-{group_id}", "IMPORT", start] = wh
        for level, name, method in ((Level.ASSET, f"a-{group_id}", Method.POWER), (Level.GROUP, group_id, Method.SUM)):
            row = QuarterHour(
                event_id=f"{name}/{start.isoformat()}/{revision}", at=self._clock.now(), level=level, id=name, scope_id=f"s-{group_id}",
                start=start, import_wh=wh, export_wh=0.0, net_wh=wh, mean_w=4 * wh, samples=15, coverage=1.0, method=method,
                revision=revision,
            )  # fmt: skip
            self._client.produce(self._topic, encode(row), name)
        self._client.poll(0)


def wait_clock(scene: Scene, duration: timedelta) -> None:
    """Wait until the scene's clock is so much further."""
    time.sleep(duration.total_seconds() / scene.clock.speed)
