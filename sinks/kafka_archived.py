"""How far the archive is: which records of a topic the history has, by the positions its flow commits."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.clock import wall_seconds
from schemas.topics import BY_NAME, Topic
from sinks.errors import Unavailable
from sinks.kafka_clients import broker_words, close_committing, consumer_config, partitions_of, topic_name, watermarks
from sinks.settings import KafkaSettings

GROUP = "derms-archive"
"""Where the archive commits what it has inserted: always a little less than that, never more."""
Part = tuple[str, int]
"""A topic's plain name and a partition."""
TIMEOUT_S = 5.0
_RETRY_S = 0.1


def lacking(ends: Mapping[Part, int], kept: Mapping[Part, int]) -> int:
    """How many records before `ends` the history does not have yet, for all that is known; 0 when it has them.

    A partition of which no position is kept counts as archived if others have one: brokers forget positions that do not
    move for a week. Where there is none at all, the archive has never run.
    """
    if not kept:
        return sum(ends.values())
    return sum(max(0, end - kept[part]) for part, end in ends.items() if part in kept)


class Archived:
    """Compares where topics end with how far the archive is. For one thread; connects when it is first asked.

    All calls block, at most a few times `TIMEOUT_S`, and raise `Unavailable` when the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings, self._client_id = settings, client_id
        self._client: Any = None

    def ends(self, topics: Iterable[Topic]) -> dict[Part, int]:
        """Where each partition ends now: what lies before it can be waited for (`lacking`)."""
        consumer, found = self._consumer(), dict[Part, int]()
        for topic, numbers in partitions_of(consumer, self._settings, topics, TIMEOUT_S).items():
            for number in numbers:
                low, high = self._bounds(consumer, topic, number)
                if low < high:
                    found[topic.name, number] = high
        return found

    def _bounds(self, consumer: Any, topic: Topic, number: int) -> tuple[int, int]:
        deadline = wall_seconds() + TIMEOUT_S
        # A partition that was just made has no leader for a moment.
        while (bounds := watermarks(consumer, topic_name(self._settings, topic), number, TIMEOUT_S)) is None:
            if wall_seconds() > deadline:
                raise Unavailable(broker_words(self._settings, f"tell the end of {topic.name}"), 1.0)
            time.sleep(_RETRY_S)
        return bounds

    def kept(self, parts: Iterable[Part]) -> dict[Part, int]:
        """Up to where the history has each of these partitions, as far as positions of them are kept."""
        asked = list(parts)
        if not asked:
            return {}
        where = [TopicPartition(topic_name(self._settings, BY_NAME[name]), number) for name, number in asked]
        try:
            found = self._consumer().committed(where, timeout=TIMEOUT_S)
        except KafkaException as error:
            raise Unavailable(broker_words(self._settings, "tell how far the archive is", error), 1.0) from error
        return {part: position.offset for part, position in zip(asked, found, strict=True) if position.offset >= 0}

    def _consumer(self) -> Any:
        if self._client is None:
            self._client = Consumer(consumer_config(self._settings, f"{self._client_id}-archived", GROUP))
        return self._client

    def close(self) -> None:
        """End the connection, if there is one; blocks at most 2 s."""
        if self._client is not None:
            close_committing(self._client)
            self._client = None
