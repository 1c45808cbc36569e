"""The broker of a run, seen from outside the variants: topics, how much is in them, what is in them."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from sinks.kafka import client_config, consumer_config
from sinks.settings import KafkaSettings
from tests.benchmarks.kafka_bytes import PARTITIONS, batches_of, uniform_batches
from tests.benchmarks.kafka_wire import Connection, NoLeaderYet
from tests.benchmarks.readings import ALL_PARTITIONS, Fleet

SINGLES_AT_ONCE = 1_000
BATCHES_AT_ONCE = 20
"""Messages in one record batch: about what a busy producer sends at once."""
_TOPIC = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "4194304", "file.delete.delay.ms": "1000"}


Round = list[tuple[int, bytes]]
"""One record batch for each of some partitions: what one request appends."""


def rounds_of(fleet: Fleet, form: str, until: int | None = None) -> Iterator[Round]:
    """A fleet's readings as record batches, evenly over the partitions; `batches` at most to tick `until`."""
    for row in zip_longest(*(_batches(fleet, form, partition, until) for partition in ALL_PARTITIONS)):
        yield [(partition, batch) for partition, batch in enumerate(row) if batch is not None]


def _batches(fleet: Fleet, form: str, partition: int, until: int | None) -> Iterator[bytes]:
    if form == "singles":
        for ids, data in fleet.singles(partition):
            yield from uniform_batches(ids, data, SINGLES_AT_ONCE)
    else:
        for keys, values in fleet.batches(partition, until):
            yield from batches_of(keys, values, BATCHES_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of an output topic: its key and value, and when (s since 1970, to the ms) the broker appended it."""

    key: bytes
    value: bytes
    at: float


class Broker:
    """The one Kafka broker of a run, and its process."""

    def __init__(self, settings: KafkaSettings, pid: int | None) -> None:
        self.settings, self.pid = settings, pid
        self.bootstrap = settings.bootstrap
        self._admin: Any = AdminClient(client_config(settings, "bench"))
        self._connection = Connection(settings.bootstrap)

    def create(self, names: Sequence[str], partitions: int = PARTITIONS, config: Mapping[str, str] | None = None) -> None:
        """Make topics with time stamps of the broker's; returns when they can be written to."""
        topics = [NewTopic(name, partitions, 1, config={**_TOPIC, **(config or {})}) for name in names]
        for future in self._admin.create_topics(topics, operation_timeout=30).values():
            future.result()
        for name in names:
            self.ends(name, partitions)

    def delete(self, prefix: str) -> None:
        """Delete every topic whose name begins so, and wait until they are gone."""
        names = [name for name in self._admin.list_topics(timeout=10).topics if name.startswith(prefix)]
        for future in self._admin.delete_topics(names, operation_timeout=30).values() if names else ():
            with contextlib.suppress(KafkaException):
                future.result()

    def append(self, topic: str, rounds: Iterable[Round], partitions: int = PARTITIONS) -> None:
        """Append ready-made batches; returns when all are acknowledged. Lists go over two connections: the broker serves each in turn."""
        self.ends(topic, partitions)  # a topic that was made just now may still be without leaders
        if not isinstance(rounds, list):
            self._connection.append(topic, rounds)
            return
        halves = [[[pair for pair in pairs if pair[0] % 2 == half] for pairs in rounds] for half in (0, 1)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda half: self._append_alone(topic, half), halves))

    def _append_alone(self, topic: str, rounds: list[Round]) -> None:
        with Connection(self.bootstrap) as connection:
            connection.append(topic, [pairs for pairs in rounds if pairs])

    def ends(self, topic: str, partitions: int = PARTITIONS) -> list[int]:
        """The offset of the next message in each partition: one question for all. Waits for a topic that is being made."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return self._connection.ends(topic, partitions)
            except NoLeaderYet:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def read(self, topic: str, begins: Sequence[int], ends: Sequence[int]) -> list[Message]:
        """The messages of a topic from some offsets to others, by partition."""
        consumer: Any = Consumer(consumer_config(self.settings, "bench", "bench", queued_kbytes=65_536))
        wanted = {partition: end for partition, (begin, end) in enumerate(zip(begins, ends, strict=True)) if begin < end}
        consumer.assign([TopicPartition(topic, partition, begins[partition]) for partition in wanted])
        missing, found = sum(wanted.values()) - sum(begins[partition] for partition in wanted), list[Message]()
        deadline = time.monotonic() + 120
        while missing > 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: {missing} messages did not come")
            for one in consumer.consume(10_000, 0.1):
                if one.error() is None and one.offset() < wanted[one.partition()]:
                    missing -= 1
                    found.append(Message(one.key() or b"", one.value() or b"", one.timestamp()[1] / 1000))
        consumer.close()
        return found
