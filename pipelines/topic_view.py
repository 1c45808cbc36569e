"""What every view of a compacted topic does: a thread keeps the last value of each key.

The last value of a key wins, whether the broker compacts or not; bytes that are no value of the topic are logged and the
value before them stays.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from schemas.clock import Clock
from schemas.errors import Undecodable
from schemas.facts import Value
from schemas.topics import Topic
from sinks.codec import decode
from sinks.errors import Unavailable
from sinks.kafka import LOGGER, Follower, RawRecord
from sinks.settings import KafkaSettings

V = TypeVar("V")

MANY = 500
"""So many records in one poll only come while a topic is read from its beginning: what follows from them is derived at its end."""


class TopicView(ABC, Generic[V]):
    """The last value of each key of one topic, kept by a thread."""

    def __init__(self, settings: KafkaSettings, clock: Clock, topic: Topic, model: type[Value], fetch_wait_ms: int) -> None:
        self._clock, self._topic, self._model = clock, topic, model
        self._latest: dict[str, V] = {}
        self._shown: Mapping[str, V] = MappingProxyType(self._latest)
        self._lock = threading.Lock()
        self._follower = Follower(settings, [topic], self._take, client_id=f"{topic.name}-view", fetch_wait_ms=fetch_wait_ms)
        self._place = -1
        self._deriving = threading.Lock()
        self._ready = False
        self.changed_at: datetime | None = None

    def start(self) -> None:
        """Begin to follow the topic."""
        self._follower.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the topic has been read to the end it had at the start. Raises `Unavailable` after `timeout_s`."""
        self._follower.wait_ready(timeout_s)
        self._ready = True
        self._derive()

    async def catch_up(self, timeout_s: float) -> None:
        """Return once the topic has been read to its present end. Raises `Unavailable` after `timeout_s`."""
        await asyncio.to_thread(self._follower.catch_up, timeout_s)

    def stop(self) -> None:
        """End the thread; the value stays."""
        self._follower.stop()

    def _values(self) -> Mapping[str, V]:
        if not self._ready:
            raise Unavailable(f"{self._topic.name} has not been read to its end yet", 1.0)
        with self._lock:
            return self._shown

    def _take(self, records: list[RawRecord]) -> None:
        latest = dict(self._latest)  # a new one each time: who holds the old one may go on reading it
        passed: list[tuple[int, str, V | None]] = []
        for record in records:
            if not self._wanted(record.key):
                continue
            old = latest.get(record.key)
            if not record.raw:
                latest.pop(record.key, None)
                passed.append((record.offset, record.key, old))
                continue
            try:
                value = decode(record.raw, self._topic)
            except Undecodable as error:
                LOGGER.warning("%s[%d] offset %d is left out: %s", record.topic, record.partition, record.offset, error)
                continue
            if isinstance(value, self._model):
                latest[record.key] = self._kept(old, value)
                passed.append((record.offset, record.key, old))
        with self._lock:
            self._latest, self._place, self.changed_at = latest, records[-1].offset, self._clock.now()
            self._passed(passed)
            self._shown = MappingProxyType(latest)  # the same object as long as nothing changes: readers keep what they derive from it
        if self._ready or len(records) < MANY:
            self._derive()

    def _wanted(self, key: str) -> bool:
        """Whether a value of that key is kept."""
        return True

    def _passed(self, changes: list[tuple[int, str, V | None]]) -> None:
        """The changes of a poll in order: offset, key, and the value before (None: there was none). Called with the lock held."""

    @abstractmethod
    def _kept(self, old: V | None, new: Any) -> V:
        """What is kept of the value `new`, one of the model, that came after `old` was kept."""

    def _derive(self) -> None:
        with self._deriving:
            with self._lock:
                latest, place = self._latest, self._place
            self._changed(latest, place)

    @abstractmethod
    def _changed(self, latest: Mapping[str, V], place: int) -> None:
        """The values are others now: those after the record at the offset `place` (of a topic of one partition).

        Called by one thread at a time, after each poll, but not for the large ones of the start: to derive a configuration of 100,000
        assets anew for each thousand of them would take minutes.
        """
