"""The system as it runs in production, as far as its front door: a real Kafka, one gateway, the control flows."""

import base64
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.auth import add_operator
from gateway.ports import free_port
from pipelines.rules.configuration import changes_between, key_of
from schemas.config import Configuration
from schemas.connection import EXCHANGE, Command, CommandKind, Event
from schemas.topics import COMMANDS, CONFIG, EVENTS
from sinks.codec import decode
from sinks.kafka import Follower, Producer, RawRecord, create_topics
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings
from tests.benchmarks.processes import Tree

KEY = bytes(range(32))
READY_WITHIN_S = 60.0


@dataclass
class Installation:
    """Where it listens, and its processes by name."""

    settings: KafkaSettings
    port: int
    processes: dict[str, Tree] = field(default_factory=dict)

    def tokens(self, partners: list[str]) -> dict[str, str]:
        """A registration token for each partner, issued by command as the operations side does."""
        secrets, producer, found = Secrets(KEY), Producer(self.settings, "bench-tokens"), {}
        for partner_id in partners:
            command = Command(
                event_id=str(uuid.uuid4()), at=datetime.now(UTC), partner_id=partner_id, kind=CommandKind.ISSUE_TOKEN, by="bench"
            )
            producer.send(COMMANDS, partner_id, command)
            found[partner_id] = secrets.token(partner_id, command.event_id)
        producer.close()
        return found


def went_offline(settings: KafkaSettings) -> int:
    """How often a partner was declared OFFLINE so far, by the events."""
    found: list[str] = []

    def take(records: list[RawRecord]) -> None:
        values = (decode(record.raw, EVENTS) for record in records)
        found.extend(value.kind for value in values if isinstance(value, Event) and value.kind != EXCHANGE)

    follower = Follower(settings, [EVENTS], take, client_id="bench-events")
    follower.start()
    try:
        follower.wait_ready(READY_WITHIN_S)
    finally:
        follower.stop()
    return found.count("connection.offline")


def configuration(partners: int, interval_s: float) -> Configuration:
    """So many partners, each with one group of one scope with one asset."""
    numbers = range(partners)
    plain: dict[str, Any] = {
        "scopes": [{"id": f"mg-{n}"} for n in numbers],
        "assets": [{"id": f"mg-{n}-grid", "scope_id": f"mg-{n}", "category": "CONSUMPTION", "connection_meter": True} for n in numbers],
        "partners": [
            {"id": f"cp-{n}", "allow_private_addresses": True, "wants": {"heartbeat_interval": f"PT{interval_s:g}S"}} for n in numbers
        ],
        "groups": [{"partner_id": f"cp-{n}", "group_id": f"G-{n}", "scope_id": f"mg-{n}"} for n in numbers],
    }
    return Configuration.model_validate(plain)


@contextmanager
def installed(kafka: KafkaSettings, directory: Path, configured: Configuration, flows: tuple[str, ...]) -> Iterator[Installation]:
    """Topics, configuration and processes on a prefix of their own; ended with the context."""
    partners = len(configured.partners)
    settings = kafka.model_copy(update={"topic_prefix": f"fd{uuid.uuid4().hex[:6]}."})
    create_topics(settings)
    producer = Producer(settings, "bench-config", many=True)
    for change in changes_between({}, configured, by="bench", at=datetime.now(UTC)):
        producer.send(CONFIG, key_of(change), change)
    producer.close()
    directory.mkdir(parents=True, exist_ok=True)
    operators = directory / "operators.json"
    add_operator(operators, "bench", "admin")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DERMS_")} | {
        "DERMS_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DERMS_KAFKA__TOPIC_PREFIX": settings.topic_prefix,
        "DERMS_KAFKA__REPLICATION": "1",
        "DERMS_KAFKA__MIN_INSYNC": "1",
        "DERMS_DATA": str(directory / "data"),
        "DERMS_SECRET": base64.b64encode(KEY).decode(),
        "DERMS_OPERATORS_FILE": str(operators),
        "DERMS_GATEWAY__OSCP_PORT": str(port),
        "DERMS_GATEWAY__OPERATIONS_PORT": str(free_port()),
        "DERMS_GATEWAY__OSCP_MAX_CONNECTIONS": str(4 * partners + 1_000),  # all come from one address, which has half at most
    }
    found = Installation(settings, port)
    try:
        for name in ("gateway", *flows):
            command = [sys.executable, "-m", "gateway.cli", *(["gateway"] if name == "gateway" else ["run", name])]
            found.processes[name] = Tree(command, directory / f"{name}.log", environment)
        deadline = time.monotonic() + READY_WITHIN_S
        while late := [name for name, tree in found.processes.items() if f"{name} is running" not in tree.words()]:
            if found.processes[late[0]].exited() or time.monotonic() > deadline:
                raise RuntimeError(f"{late[0]} is not ready: {found.processes[late[0]].words()}")
            time.sleep(0.1)
        yield found
    finally:
        for tree in found.processes.values():
            tree.kill()
