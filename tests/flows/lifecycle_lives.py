"""The lifecycle flow among simulated neighbours, to be killed at any write: a log for Kafka, a dispatch and a peer.

Everything happens in one thread and in an order that depends on nothing but the script: when the flow has read what there is,
its source lets the neighbours do one thing more.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from pipelines.lifecycle import BARRIER, READS, lifecycle_flow
from pipelines.records import Out, Record
from pipelines.views import FixedView
from schemas.clock import FrozenClock
from schemas.config import ConfigChange, Configuration
from schemas.connection import Command, CommandKind, Connection, InboundMessage
from schemas.facts import Value, derived_id, digest
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import COMMANDS, CONFIG, CONNECTIONS, DELIVERIES, INBOUND, OUTBOUND, Topic
from schemas.units import rfc3339
from tests.builders import T0, configuration
from tests.rules.lifecycle_world import PEER_URL, seconds, token_digest

RESTART = seconds(1.5)
BEHIND = seconds(2.9)
BEAT_S = 5.0
BEATS = 5
MANY_LIVES = 1_000
LONG_AGO, NEVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Killed(Exception):
    """The process is gone."""


@dataclass(slots=True)
class SimulatedClock(FrozenClock):
    """Stands still until told to move; a timer whose time has come fires at once, when its key is looked at (see `nudge`)."""

    def wall_at(self, instant: datetime) -> datetime:
        return LONG_AGO if instant <= self.at else NEVER


@dataclass
class Log:
    """What is on the topics, in order; one partition each."""

    records: dict[str, list[Record]] = field(default_factory=lambda: {topic.name: [] for topic in READS})
    _numbers: dict[int, int] = field(default_factory=dict)

    def number(self, record: Record) -> int:
        """When it was appended, among all."""
        return self._numbers[id(record)]

    def append(self, topic: Topic, key: str, value: Value, at: datetime) -> None:
        rows = self.records.setdefault(topic.name, [])
        rows.append(Record(topic.name, 0, len(rows), at, key, value))
        self._numbers[id(rows[-1])] = len(self._numbers)

    def of(self, topic: Topic) -> list[Any]:
        return [record.value for record in self.records.get(topic.name, [])]

    def connection(self) -> Connection | None:
        """What gateway and dispatch see in their views."""
        said: list[Connection] = self.of(CONNECTIONS)
        return said[-1] if said else None


@dataclass
class Peer:
    """A Capacity Provider: the token it presents, the one it gave, and every message that reached it. `once_more`: our first
    204 to each of its messages was lost, so it sends them again under the same X-Request-ID."""

    world: "Lives"
    token: str = ""
    given: str = "initial"
    got: list[OutboundMessage] = field(default_factory=list)
    count: int = 0
    beaten: int = 0

    def heard(self, action: Action) -> list[OutboundMessage]:
        """Our messages of one kind, each once."""
        return list({message.message_id: message for message in self.got if message.action == action}.values())

    def receive(self, message: OutboundMessage) -> None:
        """What it does before it answers: only a Register changes what it shows."""
        if message.action == Action.REGISTER and message.message_id not in {each.message_id for each in self.got}:
            self.token = json.loads(message.body)["token"]["$token"]
        self.got.append(message)

    def send(self, action: Action, body: dict[str, Any], *, method: str = "POST", correlation_id: str | None = None) -> None:
        """By way of a gateway, which knows the last connection."""
        # beats have numbers of their own: how many there are depends on how long it was down
        self.count, self.beaten = (self.count, self.beaten + 1) if action is Action.HEARTBEAT else (self.count + 1, self.beaten)
        request_id = f"beat-{self.beaten}" if action is Action.HEARTBEAT else f"peer-{self.count}"
        if action is Action.REGISTER:
            self.given = body["token"]
        for _ in range(1 + self.world.once_more):
            self.world.admit(self.token, action, request_id, json.dumps(body), method, correlation_id)

    def registers(self, **more: Any) -> None:
        """With a token nobody had before."""
        url = {"version": "2.0", "base_url": PEER_URL}
        self.send(Action.REGISTER, {"token": f"B{self.count}", "version_url": [url]}, **more)

    def shakes_hands(self) -> None:
        required = {"measurement_configuration": ["INTERMITTENT"], "heartbeat_interval": BEAT_S}
        self.send(Action.HANDSHAKE, {"required_behaviour": required})

    def acknowledges(self, ours: OutboundMessage) -> None:
        required = {"measurement_configuration": ["INTERMITTENT"], "heartbeat_interval": BEAT_S}
        self.send(Action.HANDSHAKE_ACKNOWLEDGE, {"required_behaviour": required}, correlation_id=ours.message_id)

    def beats(self) -> None:
        self.send(Action.HEARTBEAT, {"offline_mode_at": rfc3339(self.world.clock.now() + seconds(900))})

    def forecasts(self) -> None:
        self.send(Action.UPDATE_GROUP_CAPACITY_FORECAST, {})


Script = Iterator[bool]
"""Something of the world's future: each step says whether it did anything; none left, and the story is over."""


class Lives:
    """The lives of one lifecycle flow. `kill_at` are the numbers of the writes after which a life ends, one for each but the last.

    `snapshots`: the recovery store is written at every step of that many of the first lives (True: of all), and never in the
    others. Those then replay all that came since, or have only the topics to go by.
    """

    def __init__(
        self,
        directory: Path,
        story: Callable[["Lives"], Script],
        *,
        kill_at: Iterable[int] = (),
        snapshots: bool | int,
        once_more: bool = False,
    ) -> None:
        self.directory, self.once_more = directory, once_more
        self.snapshots = snapshots if not isinstance(snapshots, bool) else MANY_LIVES if snapshots else 0
        self.clock, self.log, self.peer = SimulatedClock(T0), Log(), Peer(self)
        self.kills, self.life, self.writes = list(kill_at), 0, 0
        self.commands, self.admitted, self.moved = 0, 0, False
        (wanted,) = configuration().partners
        self.partner = wanted
        self._handed: set[str] = set()
        self._story = story(self)
        change = ConfigChange(
            event_id="c", at=T0, kind="partners", id="vector", body=wanted.model_dump_json(), revision=1, by="ana"
        )  # fmt: skip
        self.log.append(CONFIG, "partners/vector", change, T0)
        directory.mkdir()
        init_db_dir(directory, 1)

    def run(self) -> "Lives":
        """Until the story is told, however many lives that takes."""
        while True:
            epoch = timedelta(0) if self.life < self.snapshots else timedelta(hours=1)
            flow = lifecycle_flow(
                records=_Source(self),
                out=_Sink(self),
                clock=self.clock,
                config=FixedView(Configuration(partners=[self.partner])),
                token_digest=token_digest,
                public_url="https://derms.example/",
                connections=_Connections(self.log),
            )
            try:
                run_main(flow, epoch_interval=epoch, recovery_config=RecoveryConfig(str(self.directory)))
            except (Killed, BytewaxRuntimeError) as error:
                if not isinstance(error, Killed) and not isinstance(error.__cause__, Killed):
                    raise
                self.life, self.writes = self.life + 1, 0
                self.clock.advance(RESTART)
            else:
                return self

    def write(self, item: Out) -> None:
        """The flow writes; the process may be killed right behind that. AssertionError for a connection that shuts the peer out."""
        if isinstance(item.value, Connection) and self.peer.token:
            assert token_digest("vector", self.peer.token) in {each.digest for each in item.value.credentials}
        self.log.append(item.topic, item.key, item.value, self.clock.now())
        self.writes += 1
        if self.life < len(self.kills) and self.writes == self.kills[self.life]:
            raise Killed

    def something_happens(self) -> bool:
        """The flow has read all there is: dispatch sends what may go, else the story goes on; False at its end."""
        return self._dispatch() or next(self._story, None) is not None

    def _dispatch(self) -> bool:
        connection, now = self.log.connection(), self.clock.now()
        if connection is None:
            return False
        for message in self.log.of(OUTBOUND):
            if message.message_id in self._handed or message.not_before > now:
                continue
            self._handed.add(message.message_id)
            outcome = Outcome.EXPIRED if message.expires_at <= now else Outcome.DELIVERED
            if outcome is Outcome.DELIVERED:
                self.peer.receive(message)
            delivery = Delivery(
                event_id=derived_id("delivery", message.message_id), at=now, message_id=message.message_id, partner_id="vector",
                action=message.action, attempt=1, outcome=outcome,
            )  # fmt: skip
            self.log.append(DELIVERIES, message.message_id, delivery, now)
            return True
        return False

    def admit(self, cause: str, action: Action, request_id: str, text: str, method: str, correlation_id: str | None) -> None:
        """A message of the peer's comes to a gateway. AssertionError where that would refuse it."""
        connection = self.log.connection()
        assert connection is not None, "nobody would be let in"
        credential = token_digest("vector", cause)
        known = {each.digest for each in connection.credentials}
        assert credential in known, f"{action} would be answered 403 in state {connection.state}"
        if action is Action.HANDSHAKE_ACKNOWLEDGE and connection.handshake_id is None:
            assert derived_id("vector", method, action, request_id, digest(text)) in connection.taken, "it would be answered 409"
        self.admitted += 1
        # every other message comes by way of a gateway whose clock is behind
        now = self.clock.now() - (BEHIND if self.admitted % 2 else seconds(0))
        message = InboundMessage(
            # named after the request alone, so that the ids that follow are those of every other run
            event_id=derived_id("inbound", request_id, self._copies(request_id)), at=now, partner_id="vector", action=action,
            method=method, request_id=request_id, correlation_id=correlation_id, received_at=now, body=text, body_digest=digest(text),
            credential_digest=credential,
        )  # fmt: skip
        self.log.append(INBOUND, "vector", message, self.clock.now())

    def _copies(self, request_id: str) -> int:
        return sum(each.request_id == request_id for each in self.log.of(INBOUND))

    def command(self, kind: CommandKind, **payload: str) -> str:
        """An operator's order; its event id."""
        self.commands += 1
        now = self.clock.now()
        command = Command(
            event_id=f"command-{self.commands}", at=now, partner_id="vector", kind=kind, by="ana", payload=json.dumps(payload)
        )
        self.log.append(COMMANDS, "vector", command, now)
        return command.event_id

    def until(self, condition: Callable[[], Any], *, within_s: float = 60.0) -> Script:
        """Time passes in steps of a second until something is so; the peer beats all the while once it shook hands."""
        deadline = self.clock.now() + seconds(within_s)
        while not condition():
            assert self.clock.now() < deadline, f"it does not go on: {self.log.connection()}"
            self.clock.advance(seconds(1))
            self.moved = True
            if self.peer.heard(Action.HANDSHAKE_ACKNOWLEDGE) or self._is("ONLINE"):
                self.peer.beats()
            yield True

    def is_online(self) -> bool:
        return self._is("ONLINE")

    def _is(self, state: str) -> bool:
        connection = self.log.connection()
        return connection is not None and connection.state == state


class _Connections:
    """The view of the connections, for a flow that asks which one was the last."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def current(self) -> dict[str, Connection]:
        last = self._log.connection()
        return {} if last is None else {"vector": last}


def nudge(now: datetime) -> Record:
    """Nothing but a reason to look at the partner's timers: a heartbeat nobody knows is still being tried."""
    still = Delivery(
        event_id="nudge", at=now, message_id="nudge", partner_id="vector", action=Action.HEARTBEAT, attempt=1, outcome=Outcome.RETRY
    )
    return Record(DELIVERIES.name, 0, 0, now, "nudge", still)


class _Part(StatefulSourcePartition[list[Record], dict[str, int]]):
    def __init__(self, lives: Lives, positions: dict[str, int] | None) -> None:
        self._lives, self._next, self._replay = lives, dict(positions or {}), True

    def next_batch(self) -> list[list[Record]]:
        found = self._poll()
        while not found:
            if self._lives.moved:
                self._lives.moved = False
                return [[nudge(self._lives.clock.now())]]
            if not self._lives.something_happens():
                raise StopIteration
            found = self._poll()
        return [found]

    def _poll(self) -> list[Record]:
        """The barrier's topics first; then a replay as it came (`in_order`), and later what is new topic by topic, in some order."""
        log, waiting = self._lives.log, dict[str, list[Record]]()
        for topic in READS:
            rows = log.records[topic.name]
            waiting[topic.name] = rows[self._next.get(topic.name, 0) :]
            self._next[topic.name] = len(rows)
        first = [record for topic in BARRIER for record in waiting.pop(topic.name)]
        others = list(waiting.values())
        rest = [record for rows in (others if self._lives.life % 2 else others[::-1]) for record in rows]
        replay, self._replay = self._replay, False
        return first + (sorted(rest, key=self._lives.log.number) if replay else rest)

    def snapshot(self) -> dict[str, int]:
        return dict(self._next)


class _Source(FixedPartitionedSource[list[Record], dict[str, int]]):
    def __init__(self, lives: Lives) -> None:
        self._lives = lives

    def list_parts(self) -> list[str]:
        return ["lane-000"]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, int] | None) -> _Part:
        return _Part(self._lives, resume_state)


class _Sink(DynamicSink[Out]):
    def __init__(self, lives: Lives) -> None:
        self._lives = lives

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Writing":
        return _Writing(self._lives)


class _Writing(StatelessSinkPartition[Out]):
    def __init__(self, lives: Lives) -> None:
        self._lives = lives

    def write_batch(self, items: list[Out]) -> None:
        for item in items:
            self._lives.write(item)
