"""The flow under test as processes, its broker, and what is fed to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Producer as Client

from gateway.config_file import plan as planned
from gateway.config_file import publish
from schemas.config import ConfigChange, Configuration
from schemas.topics import TELEMETRY
from sinks.kafka import Producer, create_topics, topic_name
from sinks.kafka_clients import producer_config
from sinks.settings import KafkaSettings
from tests.soak.load import Load, Message

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
DRAIN_S = 10.0
OUTAGE_S = 600.0


def until(condition: Callable[[], Any], what: Callable[[], str] | str, within_s: float) -> Any:
    """Wait for `condition` and return its value; AssertionError with `what` after the time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)
    return found


class Feed:
    """Produces messages as a fleet of producers would: to the partition of their key, and sure to arrive."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic = topic_name(settings, TELEMETRY)
        more = {"queue.buffering.max.messages": 2_000_000, "queue.buffering.max.kbytes": 1 << 20, "linger.ms": 5}
        self._client: Any = Client(producer_config(settings, "soak", OUTAGE_S) | more)
        self.sent = 0
        self._failed: list[str] = []

    def send(self, messages: Iterable[Message]) -> None:
        """Hand messages over; they arrive in order within a partition."""
        for message in messages:
            place = {"partition": message.partition} if message.partition >= 0 else {"key": message.key}
            while True:
                try:
                    self._client.produce(self._topic, value=message.value, on_delivery=self._delivered, **place)
                    break
                except BufferError:
                    self._client.poll(0.1)
            self.sent += 1
            if self.sent % 1000 == 0:
                self._client.poll(0)

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed.append(error.str())

    def flush(self, within_s: float = 60.0) -> None:
        """Wait until all has arrived."""
        left = self._client.flush(within_s)
        assert left == 0, f"{left} messages did not arrive"
        assert not self._failed, self._failed[0]


@dataclass
class Flow:
    """`derms run telemetry` on a broker, with one recovery store across all its lives. `stop` it at the end."""

    settings: KafkaSettings
    directory: Path
    clock_origin: datetime
    epoch_s: float | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    process: subprocess.Popen[bytes] | None = None
    processes: int | None = None

    @property
    def log(self) -> Path:
        """What all its lives said."""
        return self.directory / "flow.log"

    def environment(self) -> dict[str, str]:
        """The settings a flow needs, and a clock that reads a time after all data, at the pace of the wall."""
        return {name: value for name, value in os.environ.items() if not name.startswith("DERMS_")} | {
            "DERMS_KAFKA__BOOTSTRAP": self.settings.bootstrap,
            "DERMS_KAFKA__TOPIC_PREFIX": self.settings.topic_prefix,
            "DERMS_KAFKA__REPLICATION": "1",
            "DERMS_KAFKA__MIN_INSYNC": "1",
            "DERMS_SECRET": SECRET,
            "DERMS_DATA": str(self.directory),
            "DERMS_CLOCK__ORIGIN": self.clock_origin.isoformat(),
            "DERMS_CLOCK__STARTED": self.started.isoformat(),
        }

    def start(self, processes: int | None = None) -> None:
        """Start it in one process, or as a cluster of so many."""
        assert self.process is None
        self.directory.mkdir(parents=True, exist_ok=True)
        self.processes = processes
        command = [sys.executable, "-m", "gateway.cli", "run", "telemetry"]
        command += ["--processes", str(processes)] if processes else []
        command += ["--epoch", str(self.epoch_s)] if self.epoch_s else []
        with self.log.open("ab") as words:
            self.process = subprocess.Popen(command, env=self.environment(), stdout=words, stderr=words, start_new_session=True)

    def said(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def members(self) -> list[int]:
        """The processes that do the work: the cluster's, or the one."""
        assert self.process is not None
        if self.processes is None:
            return [self.process.pid]
        return _children(self.process.pid)

    def kill(self, which: int = 0) -> int:
        """SIGKILL one of the processes that do the work; which one it was. A single one is not started again."""
        members = until(self.members, self.said, 30)
        pid = members[which % len(members)]
        os.kill(pid, signal.SIGKILL)
        if self.processes is None:
            assert self.process is not None
            self.process.wait(10)
            self.process = None
        return int(pid)

    def kill_all(self) -> None:
        """SIGKILL the supervisor and all its processes at once, as a machine that loses power."""
        assert self.process is not None
        pids = [self.process.pid, *self.members()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def drain(self) -> float:
        """SIGTERM, and how many seconds it took to end; AssertionError unless all ended by themselves."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DRAIN_S + 5)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIGTERM did not drain it: {self.said()}") from None
        self.process = None
        took = time.monotonic() - begun
        assert code == 0, f"ended with {code}: {self.said()}"
        return took

    def stop(self) -> None:
        """End whatever still runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill_all()


def _children(pid: int) -> list[int]:
    """Processes whose parent is `pid`, in the order of their start."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return sorted(int(each) for each in found if b"gateway.processes" in _command(int(each)))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def prepare(settings: KafkaSettings, wanted: Load) -> None:
    """Make the topics and bring the load's configuration to them."""
    create_topics(settings)
    configure(settings, {}, wanted.config)


def configure(settings: KafkaSettings, before: Mapping[str, ConfigChange], wanted: Configuration) -> dict[str, ConfigChange]:
    """Bring a configuration to the topic where `before` is what was brought there so far; what was brought in all."""
    changes = planned(before, wanted, at=datetime.now(UTC)).changes
    producer = Producer(settings, "soak-config", many=True)
    publish(changes, producer)
    producer.close()
    return {**before, **{f"{change.kind}/{change.id}": change for change in changes}}
