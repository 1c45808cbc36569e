"""The quarter-hour rows that are on Kafka already when a flow starts again: those since its last snapshot (semantics 1.11)."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from io import BytesIO
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipelines.rules.quarter_earlier import Earlier
from schemas.clock import wall_seconds
from schemas.errors import Undecodable
from schemas.telemetry import Level, QuarterHour
from schemas.topics import QUARTER_HOURS
from schemas.units import to_ms
from sinks.codec import HEADER_LENGTH, decode, fingerprint_of, writer_of
from sinks.errors import Unavailable
from sinks.kafka import consumer_config, partitions_of, topic_name, watermarks
from sinks.kafka_clients import broker_words
from sinks.settings import KafkaSettings

log = logging.getLogger(__name__)

SKEW = timedelta(seconds=30)
"""So far the broker's clock, by which records are dated, may be from ours."""
SPREAD = timedelta(seconds=15)
"""So far the snapshots of shards may be apart for one reading to do for all."""
LOOK_BACK = timedelta(hours=2)
"""How long before its recovery store was made a flow may have written rows that can still change: a store may be moved away."""
WITHIN_S = 30.0
_MOST = 10_000


class EarlierRows:
    """Reads them when the first shard asks, once a process: from then on only this life writes.

    `begun` is when the recovery store was made: a shard without a snapshot has its rows from a little before that.
    """

    def __init__(self, settings: KafkaSettings, begun: datetime) -> None:
        self._settings, self._begun = settings, begun
        self._since: datetime | None = None
        self._made: dict[Level, Earlier] = {}

    def of(self, level: Level, since: datetime | None) -> Earlier:
        """The final rows written since a snapshot (wall time; None: there is none). Blocks while they are read; raises `Unavailable`."""
        if self._since is None or (since is not None and since < self._since):
            self._since = self._begun - LOOK_BACK if since is None else since - SPREAD
            self._made = Earlier.by_level(self._rows(self._since - SKEW))
            count = sum(len(made.places) for made in self._made.values())
            log.info("rows of %d quarters have been written since %s", count, self._since.isoformat(timespec="seconds"))
        return self._made[level]

    @cached_property
    def _newest(self) -> tuple[bytes, Any]:
        newest = fingerprint_of(QuarterHour)
        return newest, writer_of(b"\xc3\x01" + newest).schema

    def _rows(self, since: datetime) -> Iterator[dict[str, Any]]:
        consumer: Any = Consumer(consumer_config(self._settings, "derms-earlier-rows"))
        try:
            yield from self._final(consumer, since)
        except KafkaException as error:
            raise Unavailable(broker_words(self._settings, f"tell what is on {QUARTER_HOURS.name}", error), 1.0) from error
        finally:
            consumer.close()

    def _final(self, consumer: Any, since: datetime) -> Iterator[dict[str, Any]]:
        deadline, name = wall_seconds() + WITHIN_S, topic_name(self._settings, QUARTER_HOURS)
        numbers = partitions_of(consumer, self._settings, [QUARTER_HOURS], WITHIN_S)[QUARTER_HOURS]
        found = consumer.offsets_for_times([TopicPartition(name, number, to_ms(since)) for number in numbers], WITHIN_S)
        ends: dict[int, int] = {}
        for place in found:
            bounds = watermarks(consumer, name, place.partition, WITHIN_S)
            if bounds is None:
                raise Unavailable(broker_words(self._settings, f"tell the end of {name}"), 1.0)
            if place.offset >= 0 and (place.offset < bounds[1] or self._settings.embedded):
                ends[place.partition] = bounds[1]
        consumer.assign([place for place in found if place.partition in ends])
        while ends:
            messages = consumer.consume(_MOST, 0.05)
            deadline = wall_seconds() + WITHIN_S if messages else deadline
            for message in messages:
                if message.error() is not None and message.error().code() != KafkaError._PARTITION_EOF:
                    continue
                if message.error() is None and (row := self._plain(message.value())) is not None and row["revision"] > 0:
                    yield row
                # The embedded broker tells an end too low behind a large batch: there it is where nothing more comes.
                if message.offset() + 1 >= ends.get(message.partition(), 0) and (
                    message.error() is not None or not self._settings.embedded
                ):
                    ends.pop(message.partition(), None)
            if wall_seconds() > deadline:
                raise Unavailable(broker_words(self._settings, f"send more of {name} within {WITHIN_S:g} s"), 1.0)

    def _plain(self, raw: bytes) -> dict[str, Any] | None:
        """A row as plain values; None for what is none."""
        newest, schema = self._newest
        try:
            if raw[2:HEADER_LENGTH] != newest:
                return decode(raw, QUARTER_HOURS).model_dump(mode="python")
            found: Any = fastavro.schemaless_reader(BytesIO(raw[HEADER_LENGTH:]), schema, None)
        except (Undecodable, EOFError, ValueError, IndexError):
            return None
        return dict(found)
