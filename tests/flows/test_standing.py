"""How far a lane is behind, as its meters hear it: against a lane that is no broker, and over either broker."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pipelines import sources, standing
from pipelines.meters import Meters
from pipelines.sources import PayloadSource
from pipelines.standing import Standing
from schemas.clock import FrozenClock
from schemas.flows import PartitionStanding
from schemas.topics import TELEMETRY
from sinks.kafka import Producer, create_topics
from sinks.settings import KafkaSettings
from tests.builders import T0
from tests.kafka.driving import drive

CLOCK = FrozenClock(T0)
Part = tuple[str, int]


class FakeLane:
    """Where it is, and what fetching told of the ends."""

    def __init__(self, read: Mapping[Part, int], ends: Mapping[Part, int | None]) -> None:
        self.read, self.ends, self.opened, self.asked = dict(read), dict(ends), True, 0

    def fetched_ends(self) -> dict[Part, int | None]:
        self.asked += 1
        return self.ends


def standings(meters: Meters) -> dict[int, tuple[int | None, int | None]]:
    return {each.partition: (each.position, each.lag) for each in meters.report().partitions}


def test_lag_is_what_the_broker_has_beyond_the_position(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(standing, "wall_seconds", lambda: now[0])
    name, meters = TELEMETRY.name, Meters("telemetry", clock=CLOCK)
    lane = FakeLane({(name, 0): 40, (name, 1): 7, (name, 2): 9}, {(name, 0): 100, (name, 1): None, (name, 2): 3})
    found = Standing(lane, meters)  # type: ignore[arg-type]
    lane.opened = False
    found.look()
    assert standings(meters) == {}
    lane.opened = True
    found.look()
    assert standings(meters) == {0: (40, 60), 1: (7, None), 2: (9, 0)}
    lane.read[name, 0] = 100
    for _ in range(1_000):
        found.look()
    assert (standings(meters)[0], lane.asked) == ((40, 60), 1)
    now[0] += standing.LOOK_EVERY_S
    found.look()
    assert standings(meters)[0] == (100, 0)


def test_a_source_tells_its_lag_while_it_catches_up(
    kafka_settings: KafkaSettings, closing: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(sources, "PAYLOADS_AT_ONCE", 100)
    create_topics(kafka_settings, [TELEMETRY])
    producer = Producer(kafka_settings, "test", many=True)
    for _ in range(3_000):
        producer.send(TELEMETRY, "one key is one partition", b"no Avro")
    producer.close()
    meters = Meters("telemetry", clock=CLOCK)
    source = PayloadSource(kafka_settings, TELEMETRY, clock=CLOCK, stop=threading.Event(), group="derms-test", meters=meters)
    part = closing(source.build_part("in", "lane-000", None))

    def busy() -> PartitionStanding:
        return max(meters.report().partitions, key=lambda each: each.position or 0)

    drive(part, lambda found: sum(len(poll.payloads) for poll in found) >= 100)
    first = busy()
    assert first.position is not None
    assert first.lag is not None
    assert 0 < first.lag <= 3_000 - first.position
    read = first.position
    drive(part, lambda found: sum(len(poll.payloads) for poll in found) >= 3_000 - read)
    assert (busy().position, busy().lag) == (3_000, 0)
    (poll,) = meters.report().stages
    assert (poll.stage, poll.size_bytes) == ("poll", 3_000 * len(b"no Avro"))
