"""What a dispatch that starts must know, read from Kafka, and the positions it keeps there (semantics 8.1)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas.clock import wall_seconds
from schemas.errors import Undecodable
from schemas.outbound import FINAL_OUTCOMES, Delivery, Outcome
from schemas.topics import COMMANDS, DELIVERIES, OUTBOUND, Topic
from sinks.codec import decode
from sinks.errors import Unavailable
from sinks.kafka import Positions, consumer_config, partitions_of, topic_name, watermarks
from sinks.settings import KafkaSettings

MEMORY = timedelta(days=7)
_SILENCE_S = 15.0


@dataclass(slots=True)
class Outcomes:
    """What became of messages: `final` by id with the instant, and of the others the attempts made and whether they are parked."""

    final: dict[str, datetime] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)

    def take(self, delivery: Delivery) -> None:
        """The newest word about a message."""
        message_id = delivery.message_id
        self.parked.discard(message_id)
        if delivery.outcome in FINAL_OUTCOMES:
            self.final[message_id] = delivery.at
            self.attempts.pop(message_id, None)
            return
        self.attempts[message_id] = max(delivery.attempt, self.attempts.get(message_id, 0))
        if delivery.outcome is Outcome.PARKED:
            self.parked.add(message_id)

    def forget(self, now: datetime) -> None:
        """Drop final outcomes of messages that would have expired by now, and a little more."""
        limit = now - MEMORY - timedelta(hours=1)
        self.final = {message_id: at for message_id, at in self.final.items() if at > limit}


@dataclass(frozen=True, slots=True)
class Start:
    """Where a dispatch begins: offsets of outbound messages and commands, of deliveries as read, and what they said."""

    outbound: dict[int, int]
    commands: dict[int, int]
    deliveries: dict[int, int]
    outcomes: Outcomes

    def positions(self) -> dict[tuple[str, int], int]:
        """The source's start, by plain topic name and partition."""
        both = ((OUTBOUND, self.outbound), (COMMANDS, self.commands))
        return {(topic.name, partition): offset for topic, offsets in both for partition, offset in offsets.items()}


def read_start(settings: KafkaSettings, positions: Positions, *, timeout_s: float = 10.0) -> Start:
    """Ask the broker for the kept positions and read the deliveries from theirs to the present end. Blocks.

    A partition without a kept position begins at its beginning; one whose kept position is gone by retention,
    at what is left; one whose kept position is not there yet (a topic made anew), at the end. Raises Unavailable.
    """
    consumer: Any = Consumer(consumer_config(settings, "derms-dispatch-start"))
    try:
        bounds = {topic: _bounds(consumer, settings, topic, timeout_s) for topic in (OUTBOUND, COMMANDS, DELIVERIES)}
        starts: dict[Topic, dict[int, int]] = {}
        for topic, found in bounds.items():
            kept = positions.committed(topic)
            starts[topic] = {number: min(max(kept.get(number, low), low), high) for number, (low, high) in found.items()}
        outcomes = Outcomes()
        for delivery in _deliveries(consumer, settings, starts[DELIVERIES], {n: high for n, (_, high) in bounds[DELIVERIES].items()}):
            outcomes.take(delivery)
    finally:
        consumer.close()
    return Start(starts[OUTBOUND], starts[COMMANDS], starts[DELIVERIES], outcomes)


class Keeper:
    """Keeps a dispatch's positions on the broker. For one thread at a time; both methods block."""

    def __init__(self, settings: KafkaSettings, positions: Positions, *, timeout_s: float = 10.0) -> None:
        self._settings, self._positions, self._timeout_s = settings, positions, timeout_s
        self._consumer: Any = Consumer(consumer_config(settings, "derms-dispatch-ends"))

    def ends(self) -> dict[int, int]:
        """Where the deliveries end now, by partition. Raises Unavailable."""
        bounds = _bounds(self._consumer, self._settings, DELIVERIES, self._timeout_s)
        return {number: high for number, (_, high) in bounds.items()}

    def keep(self, outbound: Mapping[int, int], commands: Mapping[int, int], deliveries: Mapping[int, int]) -> None:
        """Commit all of them together. Raises Unavailable."""
        parts = ((OUTBOUND, outbound), (COMMANDS, commands), (DELIVERIES, deliveries))
        self._positions.commit({(topic, number): offset for topic, offsets in parts for number, offset in offsets.items()})

    def close(self) -> None:
        """End the connections."""
        self._consumer.close()
        self._positions.close()


def _bounds(consumer: Any, settings: KafkaSettings, topic: Topic, timeout_s: float) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for number in partitions_of(consumer, settings, [topic], timeout_s)[topic]:
        bound = watermarks(consumer, topic_name(settings, topic), number, timeout_s)
        if bound is None:
            raise Unavailable(f"the broker does not say where {topic.name}[{number}] ends", 1.0)
        found[number] = bound
    return found


def _deliveries(consumer: Any, settings: KafkaSettings, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Delivery]:
    """The deliveries from `starts` up to `ends`, in the order of each partition; unreadable ones are passed over.

    The embedded broker's ends are short of the last batch's other records, so it is also read until nothing comes.
    """
    name = topic_name(settings, DELIVERIES)
    left = {number for number, end in ends.items() if starts[number] < end}
    consumer.assign([TopicPartition(name, number, starts[number]) for number in left])
    heard = wall_seconds()
    more = bool(left)
    while more:
        if wall_seconds() - heard > _SILENCE_S:
            raise Unavailable(f"the broker does not hand out {DELIVERIES.name}", 1.0)
        found = [message for message in consumer.consume(1000, 0.2) if _settled(message, left, ends)]
        if found:
            heard = wall_seconds()
        for message in found:
            try:
                value = decode(message.value() or b"", DELIVERIES)
            except Undecodable:
                continue
            if isinstance(value, Delivery):
                yield value
        more = bool(left) or bool(found)
    consumer.unassign()


def _settled(message: Any, left: set[int], ends: Mapping[int, int]) -> bool:
    """Whether it is a record (rather than an error or a partition's end); takes partitions that are over out of `left`."""
    error = message.error()
    if error is None:
        if message.offset() + 1 >= ends[message.partition()]:
            left.discard(message.partition())
        return True
    # behind the last record there may be only a transaction's marks, or gaps left by compaction
    if error.code() == KafkaError._PARTITION_EOF:
        left.discard(message.partition())
    return False
