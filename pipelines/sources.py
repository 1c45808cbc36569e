"""The dataflows' sources: Kafka read with explicit positions, one item a poll (engine.md 2).

- `RecordSource` emits lists of decoded `Record`: the control plane.
- `PayloadSource` emits `Poll`s of undecoded payloads with marks for silent partitions: telemetry.

Both: parts are *lanes*, each one consumer over its share of the partitions. The engine's recovery keeps {partition: next
offset}; the consumer group only mirrors the snapshot before the last, for tools that show lag. A broker that goes away is
waited for, for ever and aloud; a position it does not have ends the flow with `Misconfigured`. `stop` ends the source as if
its input were over. While the broker answers, nothing blocks a worker longer than a few ms.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.barrier import Gate
from pipelines.fetching import fetch
from pipelines.lane_source import LanePart, LaneSource, State
from pipelines.lanes import Lane, Part
from pipelines.meters import Meters
from pipelines.portions import Positions, Stretch, portions
from pipelines.records import Payload, Poll, Record, Unreadable
from pipelines.silence import Silence
from pipelines.standing import Standing
from schemas.clock import Clock
from schemas.errors import Undecodable
from schemas.facts import Value
from schemas.topics import READINGS, Topic
from sinks.codec import decode
from sinks.kafka import EMBEDDED_FETCH_WAIT_MS, RawRecord, raw_record
from sinks.settings import KafkaSettings

if TYPE_CHECKING:  # numpy and numba are for the processes of the data plane only
    from pipelines.ahead import Ahead

RECORDS_AT_ONCE = 1_000
PAYLOADS_AT_ONCE = 20_000
"""The most in a poll. Larger ones cost a reading less in the flow where there are many assets, and more in the caches."""
BYTES_AT_ONCE = 2 * 1024 * 1024
QUEUED_KBYTES = 16 * 1024
"""How much is fetched ahead in all lanes together: more costs memory and, by the processor's caches, time."""
LEAST_KBYTES = 2 * 1024
FILL_S = 0.005
"""How long a poll of payloads waits to be filled while they flow: larger polls decode cheaper."""
IDLE_S = 0.05
"""How long a source sleeps after a poll that brought nothing."""
WAITING_S = 0.005
"""How long it sleeps while records wait behind the barrier."""


def record_of(raw: RawRecord, topic: Topic) -> Record:
    """The decoded record; its value is `Unreadable` where the bytes are no value of the topic, and its `Payload` where those are
    readings, which nobody takes one by one."""
    value: Value | Unreadable | Payload
    if topic in READINGS:
        return Record(raw.topic, raw.partition, raw.offset, raw.appended_at, raw.key, Payload(raw.raw))
    try:
        if not raw.raw:
            raise Undecodable("no value (a tombstone)")
        value = decode(raw.raw, topic)
    except Undecodable as error:
        value = Unreadable(str(error), raw.raw)
    return Record(raw.topic, raw.partition, raw.offset, raw.appended_at, raw.key, value)


class _RecordPart(LanePart[list[Record]]):
    def __init__(
        self,
        settings: KafkaSettings,
        topics: Mapping[str, Topic],
        barrier: Sequence[Topic],
        lane: Lane,
        lanes: int,
        stop: threading.Event,
        in_order: bool,
        at_once: int,
    ) -> None:
        super().__init__(lane, lanes, stop)
        self._at_once = at_once
        self._portions: deque[tuple[list[Stretch], Positions]] = deque()
        self._settings, self._topics = settings, topics
        self._gate = Gate(lane, [topic.name for topic in barrier], tuple(topics) if in_order else ()) if barrier else None

    def _opened(self) -> None:
        if self._gate is not None:
            self._gate.open()

    def _take(self) -> list[list[Record]]:
        if not self._portions:
            before = dict(self._lane.done)
            polled = self._polled()
            self._portions.extend(portions(polled, self._at_once, before, dict(self._lane.done)))
        self._sleep_s = 0.0 if self._portions else WAITING_S if self._gate is not None and self._gate.waiting else IDLE_S
        if not self._portions:
            return []
        stretches, self._lane.done = self._portions.popleft()
        records = [
            record_of(raw_record(self._settings, message), self._topics[part[0]]) for part, messages in stretches for message in messages
        ]
        return [records]

    def _polled(self) -> list[Stretch]:
        """What may leave the source now; the lane's positions are those that hold once all of it has."""
        stretches = self._lane.poll(self._at_once, 0)
        if self._gate is not None:
            return self._gate.admit(stretches)
        self._lane.emitted(self._lane.parts)
        return stretches


class RecordSource(LaneSource[list[Record]]):
    """Records of several topics, decoded; one list for each poll, in order within a partition.

    `start` says where to begin without recovery (positions by plain topic name and partition; else at the beginning).
    `barrier` topics are read up to the end they have after the other records of a poll were fetched, before those are
    emitted: so what was appended to a barrier topic before a record was always seen before it. That takes one lane. With
    `in_order` also, what is there at a start is emitted in the order it was appended in over all topics (those of one instant in
    the order of `topics`): what followed from a record in an earlier life does not come before it. A poll has `at_once` records
    at most: a flow's timers wait until what it brought has been worked on.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[Topic],
        *,
        clock: Clock,
        stop: threading.Event,
        barrier: Sequence[Topic] = (),
        start: Mapping[tuple[str, int], int] | None = None,
        group: str,
        lanes: int = 1,
        fetch_wait_ms: int = EMBEDDED_FETCH_WAIT_MS,
        in_order: bool = False,
        at_once: int = RECORDS_AT_ONCE,
    ) -> None:
        super().__init__(lanes)
        self._at_once = at_once
        self._fetch_wait_ms, self._in_order = fetch_wait_ms, in_order
        if in_order and not barrier:
            raise ValueError("an order over topics takes a barrier")
        if barrier and lanes > 1:
            raise ValueError("a barrier holds within one lane: use one")
        if stray := [topic.name for topic in barrier if topic not in topics]:
            raise ValueError(f"barrier topics must be among the topics: {', '.join(stray)}")
        self._settings, self._topics, self._barrier = settings, tuple(topics), tuple(barrier)
        self._clock, self._stop, self._start, self._group = clock, stop, start, group

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> _RecordPart:
        """One lane, resumed where its snapshot says. Raises `Misconfigured` for a snapshot of another make."""
        index = self.list_parts().index(for_part)
        resumed = self._resumed(resume_state)
        lane = Lane(
            self._settings, self._topics, self._group, index=index, count=self._lanes, resumed=resumed, start=self._start,
            fetch_wait_ms=self._fetch_wait_ms,
        )  # fmt: skip
        by_name = {topic.name: topic for topic in self._topics}
        return _RecordPart(self._settings, by_name, self._barrier, lane, self._lanes, self._stop, self._in_order, self._at_once)


class _PayloadPart(LanePart[Poll]):
    """With `ahead`, what a poll brings is emitted after the next one: meanwhile it is taken in. Till then it counts as not read."""

    def __init__(self, lane: Lane, lanes: int, stop: threading.Event, clock: Clock, meters: Meters, ahead: "Ahead | None") -> None:
        super().__init__(lane, lanes, stop)
        self._ahead = ahead
        self._held: tuple[Poll, dict[Part, int]] | None = None
        self._clock, self._silence = clock, Silence(lane, clock)
        self._meters, self._standing = meters, Standing(lane, meters)
        self._partitions: tuple[int, ...] = ()
        self._most, self._flowing = PAYLOADS_AT_ONCE, False

    def _opened(self) -> None:
        self._partitions = tuple(partition for _, partition in self._lane.every)

    def _take(self) -> list[Poll]:
        with self._meters.timed("poll") as timing:
            payloads, runs, parts = fetch(self._lane, self._most, FILL_S if self._flowing else 0, self._clock)
            timing.size = payloads.size
        self._standing.look()
        self._silence.spoke(parts)
        marks = self._silence.marks()
        self._flowing = bool(payloads)
        self._sleep_s = 0.0 if payloads else IDLE_S
        if payloads:
            # Messages may hold one reading or a thousand: bound a poll by its bytes, too.
            each = timing.size / len(payloads)
            self._most = max(100, min(PAYLOADS_AT_ONCE, int(BYTES_AT_ONCE / max(each, 1.0))))
        poll = Poll(payloads, runs, marks, self._partitions, self._clock.now())
        if self._ahead is not None and payloads:
            poll = self._ahead.begin(poll)
        found, self._held = self._held, (poll, dict(self._lane.read))
        out = [found] if found is not None else []
        if poll.taken is None:  # nothing to wait for
            out.append(self._held)
            self._held = None
        if out:
            self._lane.done = out[-1][1]
        return [poll for poll, _ in out if poll.payloads or poll.marks]


class PayloadSource(LaneSource[Poll]):
    """Polls of one topic's payloads as they are, with marks for partitions the broker confirms to be silent.

    A `Poll` comes whenever there are payloads, and about once a second with marks only, so that event time moves on in
    silence; while the broker does not answer there is none, and time stands still (semantics 1.9). `meters` hear how long
    polls take and how far each partition lags. With `ahead`, polls have been taken in when they come, or nearly.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        *,
        clock: Clock,
        stop: threading.Event,
        group: str,
        start: Mapping[tuple[str, int], int] | None = None,
        lanes: int = 1,
        fetch_wait_ms: int = EMBEDDED_FETCH_WAIT_MS,
        meters: Meters | None = None,
        ahead: "Ahead | None" = None,
    ) -> None:
        super().__init__(lanes)
        self._fetch_wait_ms, self._ahead = fetch_wait_ms, ahead
        self._meters = meters or Meters(group, clock=clock)  # which nobody reads
        self._settings, self._topic, self._clock, self._stop = settings, topic, clock, stop
        self._group, self._start = group, start

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> _PayloadPart:
        """One lane, resumed where its snapshot says. Raises `Misconfigured` for a snapshot of another make."""
        index = self.list_parts().index(for_part)
        resumed = self._resumed(resume_state)
        lane = Lane(
            self._settings, [self._topic], self._group, index=index, count=self._lanes, resumed=resumed, start=self._start,
            queued_kbytes=max(QUEUED_KBYTES // self._lanes, LEAST_KBYTES), fetch_wait_ms=self._fetch_wait_ms,
        )  # fmt: skip
        return _PayloadPart(lane, self._lanes, self._stop, self._clock, self._meters, self._ahead)
