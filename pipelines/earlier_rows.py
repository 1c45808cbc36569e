"""The quarter-hour rows that are on Kafka already when a flow starts again: those since its last snapshot (semantics 1.11)."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from io import BytesIO
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipelines.rules.quarter_earlier import Earlier
from pipelines.views import View
from schemas.clock import wall_seconds
from schemas.config import Configuration
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
"""So long a shard may take for its snapshot, in which rows are written that are not in it."""
TOGETHER = timedelta(seconds=30)
"""Snapshots of shards further apart are not of one epoch: the earlier shard has heard nothing since, and written nothing. No longer than
needed, for in a backlog each second's rows are many."""
LOOK_BACK = timedelta(hours=2)
"""How long before its recovery store was made a flow may have written rows that can still change, at least: a store may be moved away."""
WITHIN_S = 30.0
_MOST = 10_000


def still_open(config: View[Configuration]) -> timedelta:
    """How old a row may be that can still change (semantics 1.9, 1.10; with room for a quarter, and for what is waited for)."""
    timing = config.current().timing
    return timing.correction_horizon + timing.lateness + timing.register_wait + timing.report_deadline + timedelta(minutes=30)


class EarlierRows:
    """Reads them when the first shard asks, once a process: of its own rows each shard has written none before it asks.

    `begun` is when the recovery store was made: where no shard has a snapshot, it has the rows from `look_back` before that. What is
    read is bounded by that, or by what was written since the last snapshot of the process: not by when a shard last had something
    to say, nor by when it was first there.
    """

    def __init__(self, settings: KafkaSettings, begun: datetime, look_back: Callable[[], timedelta] = lambda: LOOK_BACK) -> None:
        self._settings, self._begun, self._look_back = settings, begun, look_back
        self._restored: list[datetime] = []
        self._made: dict[Level, Earlier] | None = None

    def restored(self, saved_at: datetime) -> None:
        """A shard of this process goes on from a snapshot of that time (wall). To be told before the first item."""
        self._restored.append(saved_at)

    def of(self, level: Level) -> Earlier:
        """The final rows written since the last snapshot. Blocks while they are read; raises `Unavailable`."""
        if self._made is None:
            since = self._since()
            self._made = Earlier.by_level(self._rows(since - SKEW))
            count = sum(len(made.places) for made in self._made.values())
            log.info("rows of %d quarters have been written since %s", count, since.isoformat(timespec="seconds"))
        return self._made[level]

    def _since(self) -> datetime:
        if not self._restored:
            return self._begun - max(LOOK_BACK, self._look_back())
        last = max(self._restored)
        return min(one for one in self._restored if one >= last - TOGETHER) - SPREAD

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
