"""An installation of single processes on one broker, each of which a test may kill, hold and start again."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.auth import add_operator
from gateway.ports import free_port
from schemas.config import Configuration
from schemas.connection import Command, CommandKind
from schemas.facts import Value
from schemas.topics import COMMANDS, Topic
from sinks.codec import decode
from sinks.kafka import Follower, RawRecord, create_topics
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings
from tests.integration.running import CLEAN, stand_still
from tests.kafka.driving import publish
from tests.soak.running import SECRET, configure, until

READY_S = 60.0


def partners(names: Iterable[str], **more: Any) -> Configuration:
    """Partners with one group each, at this machine's addresses."""
    names = list(names)
    plain: dict[str, Any] = {
        "scopes": [{"id": f"mg-{name}"} for name in names],
        "assets": [{"id": f"mg-{name}-grid", "scope_id": f"mg-{name}", "category": "CONSUMPTION"} for name in names],
        "partners": [{"id": name, "allow_private_addresses": True, **more} for name in names],
        "groups": [{"partner_id": name, "group_id": f"G-{name}", "scope_id": f"mg-{name}"} for name in names],
    }
    return Configuration.model_validate(plain)


def hurried(speed: float = 5.0) -> dict[str, str]:
    """A clock for all processes of a site that runs faster than the wall: what waits a second waits less."""
    began = datetime.now(UTC).isoformat()
    clock = {"SPEED": f"{speed:g}", "FLOOR": "PT0.1S", "ORIGIN": began, "STARTED": began}
    return {f"DERMS_CLOCK__{name}": value for name, value in clock.items()}


class Topics:
    """Everything on some topics, in order within a partition, as it comes."""

    def __init__(self, settings: KafkaSettings, *topics: Topic) -> None:
        self.values: list[Value] = []
        self._by_name = {topic.name: topic for topic in topics}
        self._follower = Follower(settings, topics, self._take, fetch_wait_ms=20)
        self._follower.start()
        self._follower.wait_ready(READY_S)

    def _take(self, records: list[RawRecord]) -> None:
        self.values += [decode(record.raw, self._by_name[record.topic]) for record in records]

    def of(self, kind: type[Any], partner_id: str | None = None) -> list[Any]:
        """The values of a kind, and of a partner if one is given."""
        found = [value for value in list(self.values) if isinstance(value, kind)]
        return [value for value in found if partner_id is None or value.partner_id == partner_id]

    def catch_up(self) -> None:
        """Return once everything that is there now has been seen."""
        self._follower.catch_up(READY_S)

    def stop(self) -> None:
        self._follower.stop()


@dataclass
class Process:
    """One process: how it is started, and what all its lives said. Kills and signals go to it alone."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    said_before: int = 0

    def start(self) -> "Process":
        """Start it; what earlier lives said does not count."""
        self.said_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as words:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=words, stderr=words)
        return self

    def said(self) -> str:
        return self.log.read_bytes()[self.said_before :].decode(errors="replace")

    def says(self, words: str, within_s: float = READY_S) -> None:
        """Wait until it has said something; AssertionError if it ends first."""

        def heard() -> bool:
            assert self.process is not None
            assert words in self.said() or self.process.poll() is None, f"it ended: {self.said()}"
            return words in self.said()

        until(heard, lambda: f"{words!r}; it said: {self.said()}", within_s)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        if number == signal.SIGSTOP:
            stand_still(self.process.pid)
        else:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, also of one that is held."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)


@dataclass
class Site:
    """The processes by name. `stop` ends them all."""

    settings: KafkaSettings
    directory: Path
    config: Configuration
    more: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        create_topics(self.settings)
        configure(self.settings, {}, self.config)
        self.directory.mkdir(parents=True, exist_ok=True)
        add_operator(self.operators, "walk", "admin")
        self.topics_of_interest: Topics | None = None

    @property
    def operators(self) -> Path:
        return self.directory / "operators.json"

    def process(self, name: str, *, public_url: str = "") -> Process:
        """A process, not started: "gateway", "gateway-…" or a flow, "lifecycle" or "lifecycle-…" (which shares its state)."""
        what = name.partition("-")[0]
        port = free_port() if what == "gateway" else 0
        environment = CLEAN | {
            "DERMS_KAFKA__BOOTSTRAP": self.settings.bootstrap,
            "DERMS_KAFKA__TOPIC_PREFIX": self.settings.topic_prefix,
            "DERMS_KAFKA__REPLICATION": "1",
            "DERMS_KAFKA__MIN_INSYNC": "1",
            "DERMS_KAFKA__EMBEDDED": str(self.settings.embedded),
            "DERMS_SECRET": SECRET,
            "DERMS_DATA": str(self.directory / "data"),
            "DERMS_OPERATORS_FILE": str(self.operators),
            "DERMS_GATEWAY__OSCP_PORT": str(port or free_port()),
            "DERMS_GATEWAY__OPERATIONS_PORT": str(free_port()),
            "DERMS_GATEWAY__PUBLIC_URL": public_url or f"http://127.0.0.1:{port or 1}",
            **self.more,
        }
        command = [sys.executable, "-m", "gateway.cli", *(["gateway"] if what == "gateway" else ["run", what])]
        self.processes[name] = Process(command, environment, self.directory / f"{name}.log", port)
        return self.processes[name]

    def token(self, partner_id: str) -> str:
        """A registration token, issued by command as the operations side does; valid a moment later."""
        return Secrets.from_base64(SECRET).token(partner_id, self.order(partner_id, CommandKind.ISSUE_TOKEN))

    def order(self, partner_id: str, kind: CommandKind, payload: str = "{}") -> str:
        """An operator's command; its id."""
        command = Command(event_id=str(uuid.uuid4()), at=datetime.now(UTC), partner_id=partner_id, kind=kind, by="walk", payload=payload)
        publish(self.settings, (COMMANDS, partner_id, command))
        return command.event_id

    def stop(self) -> None:
        for each in self.processes.values():
            each.kill()
