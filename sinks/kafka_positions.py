"""Positions kept on the broker, for a reader that keeps no other state (semantics 8.1)."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.clock import wall_seconds
from schemas.topics import Topic
from sinks.errors import Unavailable
from sinks.kafka_clients import broker_words, close_committing, consumer_config, partitions_of, topic_name
from sinks.settings import KafkaSettings

_RETRY_S = 1.0
_MOVING = frozenset({KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS})
"""A broker that has just started, or lost a neighbour, says these for a moment."""


class Positions:
    """Where a reader that keeps no other state stands: offsets committed to a consumer group, without joining it."""

    def __init__(self, settings: KafkaSettings, group: str, *, timeout_s: float = 10.0) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._answers: dict[frozenset[tuple[str, int, int]], KafkaError | None] = {}
        config = consumer_config(settings, f"{group}-positions", group) | {"on_commit": self._committed}
        self._consumer: Any = Consumer(config)

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        found = error or next((partition.error for partition in partitions if partition.error is not None), None)
        self._answers[frozenset((p.topic, p.partition, p.offset) for p in partitions)] = found

    def commit(self, positions: Mapping[tuple[Topic, int], int]) -> None:
        """Keep, for each (topic, partition), the offset of the next record to read. Blocks until the broker has it.

        Raises `Unavailable` after the time-out; the commit may then still happen, but never after a later one.
        """
        if not positions:
            return
        wanted = {(topic_name(self._settings, topic), partition, offset) for (topic, partition), offset in positions.items()}
        # The client's own synchronous commit was seen to block for 45 s with the broker away; so wait here.
        self._answers.clear()
        self._consumer.commit(offsets=[TopicPartition(*each) for each in wanted], asynchronous=True)
        deadline = wall_seconds() + self._timeout_s
        while frozenset(wanted) not in self._answers:
            if wall_seconds() > deadline:
                raise Unavailable(broker_words(self._settings, f"keep a position within {self._timeout_s:g} s"), _RETRY_S)
            self._consumer.poll(0.05)
        error = self._answers.pop(frozenset(wanted))
        if error is not None:
            raise Unavailable(broker_words(self._settings, f"keep a position: {error.str()}"), _RETRY_S)

    def committed(self, topic: Topic) -> dict[int, int]:
        """The kept offset of each partition that has one. Blocks at most three times the time-out; raises `Unavailable`."""
        name = topic_name(self._settings, topic)
        numbers = partitions_of(self._consumer, self._settings, [topic], self._timeout_s)[topic]
        deadline = wall_seconds() + self._timeout_s
        while True:
            try:
                found = self._consumer.committed([TopicPartition(name, number) for number in numbers], timeout=self._timeout_s)
                break
            except KafkaException as error:
                if error.args[0].code() not in _MOVING or wall_seconds() > deadline:
                    raise Unavailable(broker_words(self._settings, "tell its kept positions", error), _RETRY_S) from error
                self._consumer.poll(0.1)
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def close(self) -> None:
        """End the connection; blocks at most 2 s."""
        close_committing(self._consumer)
