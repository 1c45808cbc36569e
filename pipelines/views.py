"""Views: the present value of something kept on a compacted topic, for flows, the gateway and commands.

One view of a kind in a process, read to its topic's end before the first input (architecture, "The way of data").
The last value of a key wins, whether the broker compacts or not; bytes that are no value of the topic are logged and the
value before them stays.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import ValidationError

from pipelines.rules.configuration import Held, configuration_held, configuration_of, followed, held_after
from schemas.clock import Clock, wall_seconds
from schemas.config import ConfigChange, Configuration
from schemas.connection import Connection
from schemas.errors import Undecodable
from schemas.facts import Value
from schemas.topics import CONFIG, CONNECTIONS, Topic
from sinks.codec import decode
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import LOGGER, Follower, RawRecord
from sinks.settings import KafkaSettings

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
V = TypeVar("V")

CONFIG_WAIT_MS = 250
"""On the embedded broker news of the configuration may take this long: it changes rarely, and each fetch costs."""
CONNECTIONS_WAIT_MS = 100
RIGHT_WITHIN_S = 3.0
"""So long (wall) a start waits where the items do not fit together: they may just be being applied, one record each."""
CURE = "write them right and apply them: derms config apply FILE, with --prune to remove what the file does not have"
MANY = 500
"""So many records in one poll only come while a topic is read from its beginning: what follows from them is derived at its end."""


class View(Protocol[T_co]):
    """Something with a present value."""

    def current(self) -> T_co:
        """The present value. Cheap; to be asked each time, not kept."""


@dataclass(frozen=True, slots=True)
class FixedView(Generic[T]):
    """A value that stays; for tests and for flows without a broker."""

    value: T

    def current(self) -> T:
        """The value."""
        return self.value


class _TopicView(ABC, Generic[V]):
    """The last value of each key of one topic, kept by a thread."""

    def __init__(self, settings: KafkaSettings, clock: Clock, topic: Topic, model: type[Value], fetch_wait_ms: int) -> None:
        self._clock, self._topic, self._model = clock, topic, model
        self._latest: dict[str, V] = {}
        self._shown: Mapping[str, V] = MappingProxyType(self._latest)
        self._lock = threading.Lock()
        self._follower = Follower(settings, [topic], self._take, client_id=f"{topic.name}-view", fetch_wait_ms=fetch_wait_ms)
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
        for record in records:
            if not self._wanted(record.key):
                continue
            if not record.raw:
                latest.pop(record.key, None)
                continue
            try:
                value = decode(record.raw, self._topic)
            except Undecodable as error:
                LOGGER.warning("%s[%d] offset %d is left out: %s", record.topic, record.partition, record.offset, error)
                continue
            if isinstance(value, self._model):
                latest[record.key] = self._kept(latest.get(record.key), value)
        with self._lock:
            self._latest, self.changed_at = latest, self._clock.now()
            self._shown = MappingProxyType(latest)  # the same object as long as nothing changes: readers keep what they derive from it
        if self._ready or len(records) < MANY:
            self._derive()

    def _wanted(self, key: str) -> bool:
        """Whether a value of that key is kept."""
        return True

    @abstractmethod
    def _kept(self, old: V | None, new: Any) -> V:
        """What is kept of the value `new`, one of the model, that came after `old` was kept."""

    def _derive(self) -> None:
        with self._deriving:
            self._changed(self._latest)

    @abstractmethod
    def _changed(self, latest: Mapping[str, V]) -> None:
        """The values are others now; called by one thread at a time, after each poll, but not for the large ones of the start:
        to derive a configuration of 100,000 assets anew for each thousand of them would take minutes."""


class ConnectionsView(_TopicView[Connection]):
    """Where each partner's connection stands, by partner id."""

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        super().__init__(settings, clock, CONNECTIONS, Connection, CONNECTIONS_WAIT_MS)

    def current(self) -> Mapping[str, Connection]:
        """The connections; a snapshot that does not change under its reader. Raises `Unavailable` before `wait_ready`."""
        return self._values()

    def _kept(self, old: Connection | None, new: Any) -> Connection:
        return cast("Connection", new)

    def _changed(self, latest: Mapping[str, Connection]) -> None:
        """Nothing is derived from them."""


class _Config(_TopicView[V]):
    """The configuration in force.

    Items come one record each, in the order of their references, so between two records of one `apply` the whole may
    be inconsistent for an instant (a scope has left a circuit that another has yet to take). Then the last consistent
    configuration stays in force, and `problem` says why the newer one is not (None when it is). `begun` says whether there was
    one at all since the topic was read to its end: without, to go on would be to know of no partner and no asset.
    """

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        super().__init__(settings, clock, CONFIG, ConfigChange, CONFIG_WAIT_MS)
        self._configuration = Configuration()
        self.problem: str | None = None
        self.begun = False

    async def check(self) -> None:
        """For `/health/ready`. Raises Unavailable if no configuration has been consistent since the start."""
        if not self.begun:
            raise Unavailable(f"no configuration is in force: {self.problem}")

    def current(self) -> Configuration:
        """The last consistent configuration; empty if there never was an item. Raises `Unavailable` before `wait_ready`."""
        self._values()
        return self._configuration

    @abstractmethod
    def _configured(self, latest: Mapping[str, V]) -> Configuration:
        """What the items amount to. Raises ValueError."""

    def _changed(self, latest: Mapping[str, V]) -> None:
        try:
            self._configuration, self.problem = self._configured(latest), None
            self.begun = self._ready
        except ValidationError as error:
            self._refused("; ".join(str(each["msg"]) for each in error.errors(include_url=False, include_input=False)))
        except ValueError as error:
            self._refused(str(error))

    def _refused(self, words: str) -> None:
        self.problem = words
        LOGGER.warning("the items on %s do not fit together; the configuration before stays in force: %s", self._topic.name, words)


class ConfigView(_Config[Held]):
    """The configuration in force, for flows.

    With `kinds` only items of these are read, and the configuration has no others: who asks for partners alone need not hold
    100,000 assets. They must be closed under references.
    """

    def __init__(self, settings: KafkaSettings, clock: Clock, kinds: Collection[str] | None = None) -> None:
        super().__init__(settings, clock)
        self._kinds = None if kinds is None else frozenset(kinds)

    def wait_ready(self, timeout_s: float) -> None:
        """As of every view. Raises Misconfigured where the items are not valid or do not fit together."""
        super().wait_ready(timeout_s)
        until = wall_seconds() + RIGHT_WITHIN_S
        while not self.begun and wall_seconds() < until:
            threading.Event().wait(0.1)
        if not self.begun:
            raise Misconfigured(self._topic.name, f"its items are no configuration: {self.problem}", CURE)

    def _wanted(self, key: str) -> bool:
        return self._kinds is None or key.partition("/")[0] in self._kinds

    def _kept(self, old: Held | None, new: Any) -> Held:
        return held_after(old, new)

    def _configured(self, latest: Mapping[str, Held]) -> Configuration:
        return configuration_held(latest)


class ConfigChangesView(_Config[ConfigChange]):
    """The configuration in force and the changes that made it: for who changes it, or shows who did."""

    def changes(self) -> Mapping[str, ConfigChange]:
        """The last change of each item, by `kind/id`: who, when, which revision. Raises `Unavailable` before `wait_ready`."""
        return self._values()

    def _kept(self, old: ConfigChange | None, new: Any) -> ConfigChange:
        return followed(old, new)

    def _configured(self, latest: Mapping[str, ConfigChange]) -> Configuration:
        return configuration_of(latest)
