"""Views: the present value of something kept on a compacted topic, for flows, the gateway and commands.

One view of a kind in a process, read to its topic's end before the first input (architecture, "The way of data").
"""

import threading
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import ValidationError

from pipelines.rules.changes_past import ChangesPast
from pipelines.rules.configuration import Held, configuration_held, configuration_of, followed, held_after
from pipelines.topic_view import TopicView
from schemas.clock import Clock, wall_seconds
from schemas.config import ConfigChange, Configuration
from schemas.connection import Connection
from schemas.topics import CONFIG, CONNECTIONS
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import LOGGER
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


class ConnectionsView(TopicView[Connection]):
    """Where each partner's connection stands, by partner id."""

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        super().__init__(settings, clock, CONNECTIONS, Connection, CONNECTIONS_WAIT_MS)

    def current(self) -> Mapping[str, Connection]:
        """The connections; a snapshot that does not change under its reader. Raises `Unavailable` before `wait_ready`."""
        return self._values()

    def _kept(self, old: Connection | None, new: Any) -> Connection:
        return cast("Connection", new)

    def _changed(self, latest: Mapping[str, Connection], place: int) -> None:
        """Nothing is derived from them."""


class _Config(TopicView[V]):
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
    def _configured(self, latest: Mapping[str, V], place: int) -> Configuration:
        """What the items amount to, after the change at `place`. Raises ValueError."""

    def _changed(self, latest: Mapping[str, V], place: int) -> None:
        try:
            self._configuration, self.problem = self._configured(latest, place), None
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
    100,000 assets. They must be closed under references. One that `remembers` can say what was a moment ago.
    """

    def __init__(self, settings: KafkaSettings, clock: Clock, kinds: Collection[str] | None = None, *, remembers: bool = False) -> None:
        super().__init__(settings, clock)
        self._kinds = None if kinds is None else frozenset(kinds)
        self._past: ChangesPast[Held] | None = ChangesPast() if remembers else None

    def wait_ready(self, timeout_s: float) -> None:
        """As of every view. Raises Misconfigured where the items are not valid or do not fit together."""
        super().wait_ready(timeout_s)
        until = wall_seconds() + RIGHT_WITHIN_S
        while not self.begun and wall_seconds() < until:
            threading.Event().wait(0.1)
        if not self.begun:
            raise Misconfigured(self._topic.name, f"its items are no configuration: {self.problem}", CURE)

    def at(self, place: int) -> Configuration | None:
        """The configuration that the changes up to that place amount to (`Configuration.place`).

        None where it has not come so far yet, where that is too long ago for who `remembers`, and where they did not fit together.
        With 100,000 assets a place of before takes a second.
        """
        now = self._configuration
        if now.place == place:
            return now
        with self._lock:
            if self._past is None or place > self._place or (then := self._past.at(place, self._latest)) is None:
                return None
        try:
            return configuration_held(then, place)
        except ValueError:
            return None

    def _passed(self, changes: list[tuple[int, str, Held | None]]) -> None:
        if self._past is not None:
            for change in changes:
                self._past.note(*change)

    def _wanted(self, key: str) -> bool:
        return self._kinds is None or key.partition("/")[0] in self._kinds

    def _kept(self, old: Held | None, new: Any) -> Held:
        return held_after(old, new)

    def _configured(self, latest: Mapping[str, Held], place: int) -> Configuration:
        return configuration_held(latest, place)


class ConfigChangesView(_Config[ConfigChange]):
    """The configuration in force and the changes that made it: for who changes it, or shows who did."""

    def changes(self) -> Mapping[str, ConfigChange]:
        """The last change of each item, by `kind/id`: who, when, which revision. Raises `Unavailable` before `wait_ready`."""
        return self._values()

    def _kept(self, old: ConfigChange | None, new: Any) -> ConfigChange:
        return followed(old, new)

    def _configured(self, latest: Mapping[str, ConfigChange], place: int) -> Configuration:
        return configuration_of(latest)
