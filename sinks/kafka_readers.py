"""Reading Kafka outside dataflows: a thread that follows topics, and records as plain data."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.clock import wall_seconds
from schemas.topics import Topic
from schemas.units import from_ms, to_ms
from sinks.errors import OutsideError, Unavailable
from sinks.kafka_clients import (
    EMBEDDED_FETCH_WAIT_MS,
    LOGGER,
    broker_words,
    consumer_config,
    partitions_of,
    plain_name,
    topic_name,
    watermarks,
)  # fmt: skip
from sinks.settings import KafkaSettings

OUT_OF_RANGE = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION})
"""What a fetch at an offset that is not there (any more) ends with, on a real broker; the embedded one is silent."""
_RETRY_S = 1.0
_POLL_S = 0.5
_AT_ONCE = 1000


class RawRecord(NamedTuple):
    """A record as bytes. `topic` is the plain name; `raw` is empty for a tombstone."""

    topic: str
    partition: int
    offset: int
    appended_at: datetime
    key: str
    raw: bytes


def raw_record(settings: KafkaSettings, message: Any) -> RawRecord:
    """A consumer's message (one without error) as plain data."""
    key = message.key()
    return RawRecord(
        plain_name(settings, message.topic()),
        message.partition(),
        message.offset(),
        from_ms(message.timestamp()[1]),
        key.decode("utf-8", "replace") if key else "",
        message.value() or b"",
    )


class Follower:
    """A thread that reads topics from their beginning (or from `since`, by append time) and goes on for ever.

    `on_records` is called in that thread with what each poll brought, in order within a partition; if it raises, the
    follower ends and `failure` keeps the error. A broker that goes away is waited for. Followers keep no positions:
    after a restart everything comes again. On the embedded broker, news takes up to `fetch_wait_ms`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[Topic],
        on_records: Callable[[list[RawRecord]], None],
        *,
        client_id: str = "derms-follower",
        since: datetime | None = None,
        fetch_wait_ms: int = EMBEDDED_FETCH_WAIT_MS,
    ) -> None:
        self._settings, self._topics, self._on_records, self._since = settings, tuple(topics), on_records, since
        self._config = consumer_config(settings, client_id, fetch_wait_ms=fetch_wait_ms)
        self._client_id = client_id
        self._consumer: Any = None
        self._next: dict[tuple[str, int], int] = {}
        self._moved = threading.Condition()
        self._asking = threading.Lock()
        self._asker: Any = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._ready: dict[tuple[str, int], int] | None = None
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._thread = threading.Thread(target=self._run, name=self._client_id, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns once it has ended (below a second, or after `on_records` returned). Harmless twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._asking:
            asker, self._asker = self._asker, None
            if asker is not None:
                asker.close()

    def wait_ready(self, timeout_s: float) -> None:
        """Block until everything that was in the topics when following began has been handed to `on_records`.

        Raises `Unavailable` when nothing has come for `timeout_s`, and what `on_records` raised. A long topic on a busy machine takes
        its time; giving up would only begin it anew.
        """
        while True:
            before = dict(self._next)
            try:
                self._wait(lambda: self._ready is not None and self._reached(self._ready), timeout_s)
            except Unavailable:
                if self._stopping.is_set() or self._next == before:
                    raise
            else:
                return

    def catch_up(self, timeout_s: float) -> None:
        """Block until everything that is in the topics now has been handed to `on_records`; errors as `wait_ready`."""
        deadline = wall_seconds() + timeout_s
        self._wait(lambda: self._ready is not None, timeout_s)
        goal = self._ends(max(0.05, deadline - wall_seconds()))
        self._wait(lambda: self._reached(goal), max(0.0, deadline - wall_seconds()))

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        with self._moved:
            reached = self._moved.wait_for(lambda: self.failure is not None or self._stopping.is_set() or condition(), timeout_s)
            if self.failure is not None:
                raise self.failure
            if not reached or not condition():
                names = ", ".join(topic_name(self._settings, topic) for topic in self._topics)
                raise Unavailable(broker_words(self._settings, f"give all of {names} within {timeout_s:g} s"), _RETRY_S)

    def _reached(self, goal: Mapping[tuple[str, int], int]) -> bool:
        return all(self._next.get(part, 0) >= end for part, end in goal.items())

    def _ends(self, timeout_s: float) -> dict[tuple[str, int], int]:
        # A consumer belongs to one thread: asking one that another thread is polling was seen to hang for ever.
        ends: dict[tuple[str, int], int] = {}
        with self._asking:
            self._asker = self._asker or Consumer(self._config)
            for part in self._next:
                answer = watermarks(self._asker, *part, timeout_s)
                if answer is None:
                    raise Unavailable(broker_words(self._settings, "tell the ends of its topics"), _RETRY_S)
                ends[part] = answer[1]
        return ends

    def _run(self) -> None:
        try:
            self._consumer = Consumer(self._config)
            while not self._stopping.is_set() and not self._open():
                self._stopping.wait(_RETRY_S)
            while not self._stopping.is_set():
                self._take(self._poll())
        except Exception as error:  # noqa: BLE001 - kept, and raised where someone waits
            LOGGER.exception("%s ended", self._client_id)
            self.failure = error
        finally:
            if self._consumer is not None:
                self._consumer.close()
            with self._moved:
                self._moved.notify_all()

    def _open(self) -> bool:
        try:
            found = partitions_of(self._consumer, self._settings, self._topics, 5.0)
        except OutsideError as error:
            LOGGER.warning("%s waits: %s", self._client_id, error)
            return False
        parts = [(topic_name(self._settings, topic), number) for topic, numbers in found.items() for number in numbers]
        bounds = {part: watermarks(self._consumer, *part, 5.0) for part in parts}
        starts = dict.fromkeys(parts, OFFSET_BEGINNING) if self._since is None else self._starts(parts, self._since)
        if starts is None or None in bounds.values():
            return False
        low_high = {part: bound for part, bound in bounds.items() if bound is not None}
        self._consumer.assign([TopicPartition(*part, starts[part]) for part in parts])
        with self._moved:
            self._next = {part: max(low_high[part][0], starts[part]) for part in parts}
            self._ready = {part: high for part, (_, high) in low_high.items()}
            self._moved.notify_all()
        return True

    def _starts(self, parts: list[tuple[str, int]], since: datetime) -> dict[tuple[str, int], int] | None:
        try:
            answer = self._consumer.offsets_for_times([TopicPartition(*part, to_ms(since)) for part in parts], timeout=5.0)
        except KafkaException as error:
            LOGGER.warning("%s waits: %s", self._client_id, error)
            return None
        starts = {(each.topic, each.partition): each.offset for each in answer if each.error is None}
        for part in parts:
            if starts.get(part, -1) < 0:  # nothing that late: begin at the end
                bound = watermarks(self._consumer, *part, 5.0)
                if bound is None:
                    return None
                starts[part] = bound[1]
        return starts

    def _poll(self) -> list[Any]:
        # `consume` alone would wait out its time-out whenever fewer come than asked for; `poll` returns at the first.
        first = self._consumer.poll(_POLL_S)
        return [] if first is None else [first, *self._consumer.consume(_AT_ONCE, 0)]

    def _take(self, messages: list[Any]) -> None:
        records: list[RawRecord] = []
        reached: dict[tuple[str, int], int] = {}
        for message in messages:
            part = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                reached[part] = message.offset() + 1
                record = raw_record(self._settings, message)
                # The embedded broker answers "nothing that late" with the beginning.
                if self._since is None or record.appended_at >= self._since:
                    records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                reached[part] = message.offset()  # also past a transaction's marks, which no record tells of
            elif error.code() in OUT_OF_RANGE:
                LOGGER.warning("%s: what came next in %s[%d] is gone; reading on from what is left", self._client_id, *part)
                self._consumer.seek(TopicPartition(*part, OFFSET_BEGINNING))
            else:
                LOGGER.warning("%s [%s] %s", error.name(), self._client_id, error.str())
        if records:
            self._on_records(records)
        if reached:
            with self._moved:
                for part, offset in reached.items():
                    self._next[part] = max(offset, self._next.get(part, 0))
                self._moved.notify_all()
