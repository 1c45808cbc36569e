"""Our own variant: what `derms run telemetry` is given (configuration, environment), and what its rows must say."""

import base64
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from pipelines.rules.configuration import changes_between, key_of
from schemas.config import Configuration
from schemas.topics import CONFIG
from schemas.units import from_ms
from sinks.codec import encode
from sinks.kafka import create_topics, topic_name
from sinks.settings import KafkaSettings
from tests.benchmarks.broker import Broker, Round
from tests.benchmarks.kafka_bytes import batches_of
from tests.benchmarks.readings import Fleet

SCOPE = 100
"""Assets of one scope, whose energies one group sums."""
PROBE = "probe-000000"
_CONFIG_AT_ONCE = 500


def group_of(scope: str) -> str:
    """The group bound to a scope."""
    return f"G-{scope}"


def scope_of(fleet: Fleet, asset: int) -> str:
    """The scope an asset belongs to."""
    return f"{fleet.name}-{asset // SCOPE:05d}"


@lru_cache(maxsize=2)
def configuration_records(fleets: tuple[Fleet, ...], lateness_s: int = 60) -> tuple[tuple[bytes, bytes], ...]:
    """Key and value of everything on `derms.config`: one scope and one group for every 100 assets of each fleet."""
    scopes: list[dict[str, str]] = []
    assets: list[dict[str, str]] = []
    for fleet in fleets:
        scopes += [{"id": scope_of(fleet, first)} for first in range(0, fleet.assets, SCOPE)]
        assets += [
            {"id": asset.decode(), "scope_id": scope_of(fleet, number), "category": "CONSUMPTION"} for number, asset in enumerate(fleet.ids)
        ]
    plain = {
        "scopes": [*scopes, {"id": "probes"}],
        "assets": [*assets, {"id": PROBE, "scope_id": "probes", "category": "CONSUMPTION"}],
        "partners": [{"id": "vector"}],
        "groups": [{"partner_id": "vector", "group_id": group_of(scope["id"]), "scope_id": scope["id"]} for scope in scopes],
        "timing": {"lateness": timedelta(seconds=lateness_s)},
    }
    changes = changes_between({}, Configuration.model_validate(plain), by="bench", at=datetime(2026, 10, 1, tzinfo=UTC))
    return tuple((key_of(change).encode(), encode(change)) for change in changes)


class Product:
    """One instance of the product on a prefix of its own: topics made, configuration published."""

    def __init__(self, broker: Broker, prefix: str, directory: Path, fleets: tuple[Fleet, ...], lateness_s: int = 60) -> None:
        self.settings: KafkaSettings = broker.settings.model_copy(update={"topic_prefix": prefix})
        self.directory = directory
        create_topics(self.settings)
        records = configuration_records(fleets, lateness_s)
        keys, values = zip(*records, strict=True)
        broker.append(topic_name(self.settings, CONFIG), _alone(batches_of(keys, values, _CONFIG_AT_ONCE)), 1)

    def command(self, processes: int) -> list[str]:
        """`derms run telemetry`, supervised."""
        return [sys.executable, "-m", "gateway.cli", "run", "telemetry", "--processes", str(processes)]

    def environment(self, origin_ms: int | None = None, started: datetime | None = None) -> dict[str, str]:
        """The settings; with `origin_ms`, of a clock that reads it at `started` and goes on at the pace of the wall's."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DERMS_")}
        found = clean | {
            "DERMS_KAFKA__BOOTSTRAP": self.settings.bootstrap,
            "DERMS_KAFKA__TOPIC_PREFIX": self.settings.topic_prefix,
            "DERMS_KAFKA__REPLICATION": "1",
            "DERMS_KAFKA__MIN_INSYNC": "1",
            "DERMS_DATA": str(self.directory / "data"),
            "DERMS_SECRET": base64.b64encode(bytes(32)).decode(),
        }
        if origin_ms is not None:
            found["DERMS_CLOCK__ORIGIN"] = from_ms(origin_ms).isoformat()
            found["DERMS_CLOCK__STARTED"] = (started or datetime.now(UTC)).isoformat()
        return found


def _alone(batches: Iterator[bytes]) -> Iterator[Round]:
    for batch in batches:
        yield [(0, batch)]
