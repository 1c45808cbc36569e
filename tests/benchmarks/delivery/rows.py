"""A quarter's rows of a thousand groups, as the telemetry flow writes them, and what the partners must be told of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import Producer

from schemas.config import Configuration
from schemas.facts import made
from schemas.intervals import QUARTER, quarter_of
from schemas.telemetry import Level, Method, Origin, QuarterHour
from schemas.topics import QUARTER_HOURS, Topic
from schemas.units import Phase
from sinks.codec import encode
from sinks.kafka import topic_name
from sinks.kafka_clients import producer_config
from sinks.settings import KafkaSettings

HOURS = 0.25
Told = tuple[str, str]
"""Asset and the quarter's start."""


@dataclass(frozen=True)
class Fleet:
    """So many groups of so many assets, dealt out to so many partners."""

    groups: int
    assets: int
    partners: int

    def configuration(self, interval_s: float) -> Configuration:
        """Each group is of a scope of its own."""
        numbers = range(self.groups)
        plain: dict[str, Any] = {
            "scopes": [{"id": f"mg-{n}"} for n in numbers],
            "assets": [{"id": f"a-{n}-{m}", "scope_id": f"mg-{n}", "category": "CONSUMPTION"} for n in numbers for m in range(self.assets)],
            "partners": [
                {"id": f"cp-{n}", "allow_private_addresses": True, "wants": {"heartbeat_interval": f"PT{interval_s:g}S"}}
                for n in range(self.partners)
            ],
            "groups": [{"partner_id": f"cp-{n % self.partners}", "group_id": f"G-{n}", "scope_id": f"mg-{n}"} for n in numbers],
        }
        return Configuration.model_validate(plain)

    def rows(self, group: int, turn: int) -> Iterator[QuarterHour]:
        """The rows of a group's quarter, its own last. `turn` counts quarters from the one that runs now: all of them end after the
        handshakes, whatever the time is."""
        start, now = quarter_of(datetime.now(UTC)) + turn * QUARTER, datetime.now(UTC)
        for asset in range(self.assets):
            yield _row(Level.ASSET, f"a-{group}-{asset}", group, start, now, self.wh(group, asset, turn))
        yield _row(Level.GROUP, f"G-{group}", group, start, now, sum(self.wh(group, asset, turn) for asset in range(self.assets)))

    @staticmethod
    def wh(group: int, asset: int, turn: int) -> float:
        """What an asset imports; every one another."""
        return 1000.0 + group + asset / 1000 + turn * 0.5


def _row(level: Level, name: str, group: int, start: datetime, now: datetime, wh: float) -> QuarterHour:
    return made(
        QuarterHour, event_id=f"{name} {start}", at=now, cause_id=None, level=level, id=name, scope_id=f"mg-{group}", phase=Phase.ALL,
        start=start, import_wh=wh, export_wh=0.0, net_wh=wh, mean_w=wh / HOURS, min_w=wh / HOURS, max_w=wh / HOURS, stored_wh=None,
        import_register_wh=None, export_register_wh=None, samples=180, coverage=1.0,
        method=Method.POWER if level is Level.ASSET else Method.SUM, missing_members=0, estimated=False, reset=False, revision=1,
        provisional=False, last_minute_w=wh / HOURS, origin=Origin.LIVE,
    )  # fmt: skip


class Writer:
    """Appends rows, or what else is told of; `appended` is when (s since 1970) the broker had each group's own row."""

    def __init__(self, settings: KafkaSettings, topic: Topic = QUARTER_HOURS) -> None:
        self._client: Any = Producer(producer_config(settings, "bench-rows", 30.0) | {"linger.ms": 2})
        self._topic = topic_name(settings, topic)
        self.appended: dict[str, float] = {}

    def write(self, payloads: list[tuple[str, bytes]]) -> None:
        """All of them, by key; returns when the broker has them."""
        for key, payload in payloads:
            whole = partial(self._delivered, key) if key.startswith("G-") else None
            while True:
                try:
                    self._client.produce(self._topic, payload, key, on_delivery=whole)
                    break
                except BufferError:
                    self._client.poll(0.01)
        self._client.flush(60.0)

    def _delivered(self, key: str, error: object, message: Any) -> None:
        if error is not None:
            raise RuntimeError(f"a row was not taken: {error}")
        self.appended[key] = message.timestamp()[1] / 1000


def payloads_of(fleet: Fleet, turn: int) -> list[tuple[str, bytes]]:
    """All rows of a quarter as they stand on their topic, with their keys."""
    return [(row.id, encode(row)) for group in range(fleet.groups) for row in fleet.rows(group, turn)]
