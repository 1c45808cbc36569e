"""`derms run envelopes` as in production on a real Kafka, with thousands of circuits, scopes and groups."""

import base64
import os
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.rules.configuration import changes_between, key_of
from schemas.config import Configuration
from schemas.topics import CONFIG
from sinks.kafka import Producer, create_topics
from sinks.settings import KafkaSettings
from tests.benchmarks.capacity.forecasts import PARTNERS, RATED_KW
from tests.benchmarks.processes import Tree

READY_WITHIN_S = 60.0
CALM_S, CALM_CORES = 2.0, 0.1
"""It has taken in the configuration once it has used so little for so long."""


@dataclass
class Installation:
    """The broker's settings with the prefix of this run, the flow's process, and where its data is."""

    settings: KafkaSettings
    tree: Tree
    data: Path

    def wait_until_calm(self) -> None:
        """Until the flow has nothing to do."""
        deadline = time.monotonic() + READY_WITHIN_S
        time.sleep(CALM_S)
        while self.tree.between(time.time() - CALM_S, time.time()).cpu_s > CALM_CORES * CALM_S:
            if time.monotonic() > deadline:
                raise RuntimeError("the flow does not come to rest after its start")
            time.sleep(0.2)

    def kept_bytes(self) -> int:
        """How much state the newest snapshots in the recovery store have, of all keys together. After the end of the flow."""
        found = 0
        for part in self.data.rglob("*.sqlite3"):
            with closing(sqlite3.connect(part)) as store:
                newest = "SELECT length(ser_change), max(snap_epoch) FROM snaps GROUP BY step_id, state_key"
                found += sum(size or 0 for size, _ in store.execute(newest))
        return found


def configuration(groups: int) -> Configuration:
    """So many groups, each of a scope of its own with a circuit of its own."""
    numbers = range(groups)
    plain: dict[str, Any] = {
        "circuits": [{"id": f"feeder-{n}", "rated_import_kw": RATED_KW, "rated_export_kw": RATED_KW} for n in numbers],
        "scopes": [{"id": f"mg-{n}", "circuit_id": f"feeder-{n}"} for n in numbers],
        "partners": [{"id": f"cp-{n}"} for n in range(PARTNERS)],
        "groups": [{"partner_id": f"cp-{n % PARTNERS}", "group_id": f"G-{n}", "scope_id": f"mg-{n}"} for n in numbers],
    }
    # Each partner has one group a scope.
    return Configuration.model_validate(plain)


@contextmanager
def installed(kafka: KafkaSettings, directory: Path, groups: int) -> Iterator[Installation]:
    """Topics, configuration and process on a prefix of their own; ended with the context."""
    settings = kafka.model_copy(update={"topic_prefix": f"ca{uuid.uuid4().hex[:6]}."})
    create_topics(settings)
    producer = Producer(settings, "bench-config", many=True)
    for change in changes_between({}, configuration(groups), by="bench", at=datetime.now(UTC)):
        producer.send(CONFIG, key_of(change), change)
    producer.close()
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DERMS_")} | {
        "DERMS_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DERMS_KAFKA__TOPIC_PREFIX": settings.topic_prefix,
        "DERMS_KAFKA__REPLICATION": "1",
        "DERMS_KAFKA__MIN_INSYNC": "1",
        "DERMS_DATA": str(data),
        "DERMS_SECRET": base64.b64encode(bytes(range(32))).decode(),
    }
    tree = Tree([sys.executable, "-m", "gateway.cli", "run", "envelopes"], directory / "envelopes.log", environment)
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while "envelopes is running" not in tree.words():
            if tree.exited() or time.monotonic() > deadline:
                raise RuntimeError(f"envelopes is not ready: {tree.words()}")
            time.sleep(0.1)
        found = Installation(settings, tree, data)
        found.wait_until_calm()
        yield found
    finally:
        tree.kill()
