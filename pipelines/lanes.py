"""A lane: one Kafka consumer with an explicit assignment, and where it stands. What both sources are made of (engine.md 2).

A lane never ends because a broker is away and never skips what it should have read: where a position means nothing to
the broker (any more) it raises `Misconfigured`, for only a person can say what should happen then.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.clock import wall_seconds
from schemas.topics import Topic
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import (
    EMBEDDED_FETCH_WAIT_MS,
    LOGGER,
    OUT_OF_RANGE,
    close_committing,
    consumer_config,
    partitions_of,
    plain_name,
    topic_name,
    watermarks,
)
from sinks.settings import KafkaSettings

_ERROR: Callable[[Any], Any] = Message.error
_PARTITION: Callable[[Any], int] = Message.partition  # type: ignore[assignment]  # None only for messages never sent
Part = tuple[str, int]
"""A topic's plain name and a partition."""

ASK_TIMEOUT_S = 1.0
REOPEN_S = 1.0
_CURE = "delete this flow's recovery directory to read again from the oldest record; final rows keep their content"


class Lane:
    """One share of the partitions of some topics: number `index` of `count`.

    `resumed` are positions from recovery, `start` those to begin at where there are none of recovery, else the
    beginning. Once opened, `parts` are its partitions and `every` those of all lanes, `read` and `done` the offsets of
    the next record to poll and of the first that has not been emitted. For one thread, the worker's: a consumer asked
    from two threads was seen to hang. `fetch_wait_ms` is how long an empty fetch waits on the embedded broker, which
    pays for each.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[Topic],
        group: str,
        *,
        index: int = 0,
        count: int = 1,
        resumed: Mapping[Part, int] | None = None,
        start: Mapping[Part, int] | None = None,
        queued_kbytes: int = 4096,
        fetch_wait_ms: int = EMBEDDED_FETCH_WAIT_MS,
    ) -> None:
        self._settings, self._topics, self._index, self._count = settings, tuple(topics), index, count
        self._who = f"{group}-{index}"
        self._names = {topic.name: topic_name(settings, topic) for topic in self._topics}
        self._consumer: Any = Consumer(
            consumer_config(settings, self._who, group, queued_kbytes=queued_kbytes, fetch_wait_ms=fetch_wait_ms)
        )
        # A question on the fetching connection is answered only after the fetch before it: 80 ms on the embedded broker,
        # 480 ms on a real one. And a client with a commit under way may not close. So questions and commits have a client
        # of their own, which costs nothing while it is idle.
        self._side: Any = Consumer(consumer_config(settings, f"{self._who}-side", group))
        self._wanted = {**(start or {}), **(resumed or {})}
        self._committed: dict[Part, int] = {}
        self._ask_again = 0.0
        self.opened = False
        self.parts: tuple[Part, ...] = ()
        self.every: tuple[Part, ...] = ()
        self._fetched: tuple[Part, ...] = ()
        self._begins: set[Part] = set()
        self.done: dict[Part, int] = dict(resumed or {})
        self.read: dict[Part, int] = {}

    def open(self) -> bool:
        """Find this lane's partitions, check the positions against what the broker has, and begin. True once done.

        With the broker away: blocks at most a few seconds, warns, and should be called again after `REOPEN_S`.
        Raises `Misconfigured` for a position the broker does not have. New partitions are seen at a restart only.
        """
        if self.opened:
            return True
        try:
            found = partitions_of(self._side, self._settings, self._topics, ASK_TIMEOUT_S)
        except Unavailable as error:
            LOGGER.warning("%s [%s] %s", "a source waits", self._who, error)
            return False
        every = [(topic.name, number) for topic, numbers in found.items() for number in numbers]
        share = every[self._index :: self._count]
        bounds: dict[Part, tuple[int, int]] = {}
        for part in share:
            bound = self.bounds(part)
            if bound is None:
                return False
            bounds[part] = bound
        if stray := [part for part in self._wanted if part in self.done and part not in share]:
            problem = f"it has positions of {', '.join(f'{topic}[{number}]' for topic, number in stray)}, which this lane does not read"
            raise Misconfigured("the recovery store", problem, "run with the number of lanes and the topics it was made with, or delete it")
        for part, (low, high) in bounds.items():
            self._check(part, self._wanted.get(part, low), low, high)
        self.read = {part: self._wanted.get(part, low) for part, (low, _) in bounds.items()}
        self.done = dict(self.read)
        self.parts, self.every = tuple(sorted(share)), tuple(every)
        self._begins = {part for part in share if part not in self._wanted}
        # Not OFFSET_BEGINNING: the client would ask the broker for it, and that answer may come when it has another assignment.
        self.fetch(share)
        self.opened = True
        return True

    def fetch(self, parts: Iterable[Part]) -> None:
        """From now on read only these partitions, each from where `poll` left off; nothing is lost or comes twice."""
        self._fetched = tuple(parts)
        self._consumer.assign([self._where(part, self.read[part]) for part in self._fetched])

    def _where(self, part: Part, offset: int) -> TopicPartition:
        return TopicPartition(self._names[part[0]], part[1], offset)

    def _check(self, part: Part, offset: int, low: int, high: int) -> None:
        where = f"{self._names[part[0]]}[{part[1]}]"
        # After another producer's batch the embedded broker says less than it has; but it never says nothing then.
        if offset > high and (high == 0 or not self._settings.embedded):
            problem = f"stands at offset {offset} of {where}, but the broker only has {low} to {high}: it has forgotten or been made anew"
        elif offset < low:
            problem = f"stands at offset {offset} of {where}, but what was there is gone: the broker has {low} to {high}"
        else:
            return
        raise Misconfigured("the recovery store", problem, _CURE)

    def bounds(self, part: Part) -> tuple[int, int] | None:
        """The broker's (low, high) of a partition now, None if it does not answer. Blocks at most `ASK_TIMEOUT_S`."""
        return watermarks(self._side, self._names[part[0]], part[1], ASK_TIMEOUT_S)

    def fetched_ends(self) -> dict[Part, int | None]:
        """The high watermarks as the last fetch of each partition told them, None before the first; asks nobody."""
        found: dict[Part, int | None] = {}
        for part in self.parts:
            try:
                _, high = self._consumer.get_watermark_offsets(self._where(part, 0), cached=True)
            except KafkaException:  # a partition the client has not met yet
                high = -1
            found[part] = high if high >= 0 else None
        return found

    def ends(self, parts: Iterable[Part]) -> dict[Part, int] | None:
        """The high watermarks of some partitions now; None if one did not answer (then nothing is asked for `REOPEN_S`).

        Raises `Misconfigured` where one lies below what has been read: the broker has forgotten.
        """
        if wall_seconds() < self._ask_again:
            return None
        found: dict[Part, int] = {}
        for part in parts:
            bound = self.bounds(part)
            if bound is None:
                self._ask_again = wall_seconds() + REOPEN_S
                return None
            if bound[1] < self.read[part]:
                self._check(part, self.read[part], *bound)
            found[part] = bound[1]
        return found

    def poll(self, most: int, wait_s: float) -> list[tuple[Part, list[Any]]]:
        """The records at hand, at most `most`, as stretches of one partition each; waits out `wait_s` for more.

        Several stretches may be of one partition; its order is kept. Errors of the connection are logged and waited
        out. Raises `Misconfigured` for an offset out of range.
        """
        messages = records = self._consumer.consume(most, wait_s)
        if wrong := any(map(_ERROR, messages)):
            records = [message for message in messages if message.error() is None]
        polled = self._stretches(records)
        stretches = [stretch for stretch in map(self._unread, polled) if stretch[1]]
        if sum(len(found) for _, found in stretches) < len(records):
            LOGGER.warning("%s [%s] what had been polled came again, and is left out", "REWIND", self._who)
            self.fetch(self._fetched)
        if wrong:
            self._heed([message for message in messages if message.error() is not None])
        return stretches

    def _unread(self, stretch: tuple[Part, list[Any]]) -> tuple[Part, list[Any]]:
        """A stretch without what had been polled before, which the client was seen to hand over again; emitted twice, it would come
        after what followed from it. One look at the ends of a stretch tells, but for a rewind within it that makes up for a gap."""
        part, found = stretch
        first, last = found[0].offset(), found[-1].offset()
        if first < self.read[part] or last - first + 1 != len(found):  # the latter mostly where a topic has gaps
            newest = self.read[part] - 1
            fresh = []
            for message in found:
                if message.offset() > newest:
                    newest = message.offset()
                    fresh.append(message)
            found = fresh
        if found:
            self.read[part] = found[-1].offset() + 1
            self._begins.discard(part)
        return part, found

    def _stretches(self, records: list[Any]) -> list[tuple[Part, list[Any]]]:
        if len(self._topics) == 1:  # telemetry: no call in Python for any message
            name = self._topics[0].name
            return [((name, partition), list(found)) for partition, found in groupby(records, _PARTITION)]
        return [(self._part(*place), list(found)) for place, found in groupby(records, _place)]

    def _heed(self, messages: list[Any]) -> None:
        for message in messages:
            error = message.error()
            if error.code() == KafkaError._PARTITION_EOF:
                # Also steps over what is no record: the marks of a producer's transactions.
                part = self._part(*_place(message))
                self.read[part] = max(self.read[part], message.offset())
            elif error.code() in OUT_OF_RANGE:
                self._out_of_range(self._part(*_place(message)), error)
            else:
                LOGGER.warning("%s [%s] %s", error.name(), self._who, error.str())

    def _out_of_range(self, part: Part, error: KafkaError) -> None:
        bound = self.bounds(part)
        if bound is not None:
            if part in self._begins and self.read[part] < bound[0]:  # retention was quicker than our first fetch
                self.read[part] = self.done[part] = bound[0]
                self.fetch(self._fetched)
                return
            self._check(part, self.read[part], *bound)
        # In range by now, or nobody can say: then the broker's own words.
        problem = f"stands at offset {self.read[part]} of {self._names[part[0]]}[{part[1]}]: {error.str()}"
        raise Misconfigured("the recovery store", problem, _CURE)

    def _part(self, name: str, partition: int) -> Part:
        return plain_name(self._settings, name), partition

    def emitted(self, parts: Iterable[Part]) -> None:
        """Take note that all that was polled of these partitions has left the source: a restart continues after it."""
        for part in parts:
            self.done[part] = self.read[part]

    def commit(self, positions: Mapping[Part, int]) -> None:
        """Tell the consumer group, for tools that show lag; does not block, and failing to does no harm."""
        changed = {part: offset for part, offset in positions.items() if self._committed.get(part) != offset}
        if changed and self.opened:
            self._side.commit(offsets=[self._where(*each) for each in changed.items()], asynchronous=True)
            self._committed.update(changed)

    def close(self) -> None:
        """End the connections; blocks at most 2 s."""
        self._consumer.close()
        close_committing(self._side)


def _place(message: Any) -> tuple[str, int]:
    return message.topic(), message.partition()
