"""What an earlier life wrote is read to its end over both brokers, whatever batches it came in."""

from datetime import UTC, datetime, timedelta

import numpy as np

from pipelines.earlier_rows import EarlierRows
from pipelines.rules.quarter_hours import METHODS, ROW
from schemas.telemetry import Level
from schemas.topics import QUARTER_HOURS
from schemas.units import to_ms
from sinks.kafka import Producer, create_topics
from sinks.quarter_bytes import Names, quarter_bytes
from sinks.settings import KafkaSettings
from tests.builders import T0


def test_the_last_row_of_a_large_batch_is_among_them(kafka_settings: KafkaSettings) -> None:
    create_topics(kafka_settings, [QUARTER_HOURS])
    begun, producer = datetime.now(UTC), Producer(kafka_settings, "test", many=True)
    written = 0
    for count in (3_000, 12_000):
        ids = [f"asset-{written + number:05d}" for number in range(count)]
        rows = np.zeros(count, ROW)
        rows["start"] = to_ms(T0)
        who, phases, revisions = np.arange(count, dtype=np.int32), np.zeros(count, np.int8), np.ones(count, np.int32)
        names = Names.of(Level.ASSET, ids, [None] * count)
        raws = quarter_bytes(names, who, phases, rows, revisions, methods=METHODS, at=to_ms(T0))
        producer.send_all(QUARTER_HOURS, ids, raws)
        producer.flush()
        written += count
    before = EarlierRows(kafka_settings, begun)
    before.restored(begun + timedelta(seconds=1))
    found = before.of(Level.ASSET)
    assert len(found.places) == written
