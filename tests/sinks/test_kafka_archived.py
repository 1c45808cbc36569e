"""How far the archive is, by the positions its flow commits; on both brokers."""

from collections.abc import Callable
from typing import Any

import pytest

from schemas.telemetry import MeasurementBatch
from schemas.topics import BACKFILL, QUARTER_HOURS
from sinks.errors import Unavailable
from sinks.kafka import Positions, Producer, create_topics
from sinks.kafka_archived import GROUP, Archived, lacking
from sinks.settings import KafkaSettings
from tests.schemas.golden import example


def test_what_stands_there_is_waited_for_until_it_is_committed(kafka_settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    create_topics(kafka_settings, [BACKFILL, QUARTER_HOURS])
    archived = closing(Archived(kafka_settings, "test"))
    assert archived.ends([BACKFILL, QUARTER_HOURS]) == {}
    producer = closing(Producer(kafka_settings, "test"))
    for _ in range(3):
        producer.send(BACKFILL, "asset", MeasurementBatch(measurements=[]))
    producer.send(QUARTER_HOURS, "asset", example(QUARTER_HOURS.name))
    producer.flush()
    ends = archived.ends([BACKFILL, QUARTER_HOURS])
    assert sorted(ends.values()) == [1, 3]
    assert lacking(ends, archived.kept(ends)) == 4
    [partition] = [number for name, number in ends if name == BACKFILL.name]
    positions = closing(Positions(kafka_settings, GROUP))
    positions.commit({(BACKFILL, partition): 2})
    assert lacking(ends, archived.kept(ends)) == 1
    positions.commit({(BACKFILL, partition): 7})
    assert archived.kept(ends) == {(BACKFILL.name, partition): 7}
    assert lacking(ends, archived.kept(ends)) == 0
    assert archived.kept([]) == {}


def test_a_position_that_was_forgotten_is_no_reason_to_wait() -> None:
    ends = {("a", 0): 10, ("a", 1): 5, ("b", 0): 2}
    assert lacking(ends, {("a", 0): 8}) == 2
    assert lacking(ends, {("a", 0): 11, ("b", 0): 1}) == 1
    assert lacking(ends, {("other", 0): 1}) == 0
    assert lacking(ends, {}) == 17
    assert lacking({}, {}) == 0


def test_a_broker_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch, closing: Callable[[Any], Any]) -> None:
    monkeypatch.setattr("sinks.kafka_archived.TIMEOUT_S", 0.2)
    archived = closing(Archived(KafkaSettings(bootstrap="127.0.0.1:1", embedded=True), "test"))
    with pytest.raises(Unavailable):
        archived.ends([BACKFILL])
    with pytest.raises(Unavailable):
        archived.kept([(BACKFILL.name, 0)])
    archived.close()
