"""What flows between sources, rules and sinks: records read, values to write."""

from array import array
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from schemas.facts import Value
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes of a record that are no known value, and why."""

    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes of a record as they are: of a topic that is not decoded record by record."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record. `topic` is the plain name (no prefix); `appended_at` is the broker's append time."""

    topic: str
    partition: int
    offset: int
    appended_at: datetime
    key: str
    value: Value | Unreadable | Payload


@dataclass(frozen=True, slots=True)
class Out:
    """A value to be written to a topic under a key."""

    topic: Topic
    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class Outs:
    """Values to be written to a topic, as bytes, each under the key at its place: one object for thousands."""

    topic: Topic
    keys: list[str]
    values: list[bytes]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has come: fed to a rule when its timer is due (by the engine), or by tests."""


Offsets: TypeAlias = "range | array[int]"
"""Rising offsets; an array of 64-bit numbers only where some are left out."""


class Appended(NamedTuple):
    """By what clock each of some messages is judged: from number `first[i]` on, the clock's reading `at[i]` (ms since 1970).

    It is the one at which the broker appended them, so that they are judged alike whenever they are read (semantics 1.11);
    where the broker does not say, the one at which they were read. `first` begins with 0 and rises.
    """

    first: Sequence[int] = ()
    at: Sequence[int] = ()


UNSAID = Appended()


@dataclass(frozen=True, slots=True)
class Run:
    """The share of one Kafka partition in a poll: `payloads[first : first + count]`, and their rising offsets.

    Where `appended` is empty the poll's own clock stands for all of them.
    """

    partition: int
    first: int
    count: int
    offsets: Offsets
    appended: Appended = UNSAID


@dataclass(frozen=True, slots=True)
class Mark:
    """The broker has confirmed that everything in `partition` up to its end had been read; it has been silent since
    `since` (clock time of the first such confirmation after the last reading), and `now` is the clock."""

    partition: int
    since: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Poll:
    """One poll of telemetry: raw payloads of several partitions, never one object a reading (engine.md 2).

    `partitions` are all partitions of the topic, also those other lanes read, so that one that never spoke is known. `now` is
    the clock when it was polled: by it rows are written, but readings are judged by when they were appended (see `Run`).
    `taken` is what becomes of it (`telemetry_intake.Taken`, which control flows do not load), where somebody began ahead.
    """

    payloads: Sequence[bytes]
    runs: tuple[Run, ...]
    marks: tuple[Mark, ...]
    partitions: tuple[int, ...]
    now: datetime
    taken: "Future[Any] | None" = None
