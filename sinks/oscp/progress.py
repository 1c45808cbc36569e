"""Which positions are safe to commit, so that a restart sends what is owed and nothing else (semantics 8.1). Pure.

Two things are kept on the broker: for each partition of `derms.outbound` the oldest message without a final
outcome, and for each partition of `derms.deliveries` a position before every outcome that a restart needs to
know. The second comes from marks: the ends of the deliveries, read now and then. A message taken after a mark
can have outcomes only behind it.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MEMORY_MS = 7 * 86_400_000
"""Outcomes are remembered at least this long, the longest time a message is owed: a replay that makes old messages
again must meet them."""
MARK_EVERY_MS = 600_000


class Positions(Protocol):
    """Keeps the dispatch's positions; `sinks.oscp.history.Keeper` is one. Both may block and raise Unavailable."""

    def ends(self) -> Mapping[int, int]:
        """Where the deliveries end now."""

    def keep(self, outbound: Mapping[int, int], commands: Mapping[int, int], deliveries: Mapping[int, int]) -> None:
        """Keep all three together."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the deliveries ended, and which outbound offsets had been taken by then (by partition: the next one)."""

    at_ms: int
    deliveries: Mapping[int, int]
    taken: Mapping[int, int]


@dataclass(slots=True)
class _Partition:
    next: int
    open: deque[int] = field(default_factory=deque)
    done: set[int] = field(default_factory=set)


class Tracker:
    """The messages taken and not yet done, by partition and offset.

    `start` are the offsets reading begins at, `deliveries` the position from which outcomes were read.
    """

    def __init__(self, start: Mapping[int, int], deliveries: Mapping[int, int]) -> None:
        self._partitions = {partition: _Partition(offset) for partition, offset in start.items()}
        self._marks: deque[Mark] = deque([Mark(0, dict(deliveries), dict(start))])

    def take(self, partition: int, offset: int) -> None:
        """A message was read; offsets of a partition come in rising order."""
        part = self._partitions.setdefault(partition, _Partition(offset))
        part.next = offset + 1
        part.open.append(offset)

    def done(self, partition: int, offset: int) -> None:
        """The message's final outcome is recorded, or it needs none."""
        part = self._partitions[partition]
        part.done.add(offset)
        while part.open and part.open[0] in part.done:
            part.done.remove(part.open.popleft())

    def position(self, partition: int) -> int:
        """The oldest offset not done; with nothing open, the next one to be read."""
        part = self._partitions[partition]
        return part.open[0] if part.open else part.next

    def positions(self) -> dict[int, int]:
        """The position of each partition."""
        return {partition: self.position(partition) for partition in self._partitions}

    def open(self) -> int:
        """How many messages are not done."""
        return sum(len(part.open) - len(part.done) for part in self._partitions.values())

    def mark(self, now_ms: int, ends: Mapping[int, int]) -> None:
        """The deliveries ended at `ends`, read before this call; kept at most every ten minutes of clock time."""
        if now_ms - self._marks[-1].at_ms >= MARK_EVERY_MS:
            self._marks.append(Mark(now_ms, dict(ends), {number: part.next for number, part in self._partitions.items()}))

    def deliveries(self, now_ms: int) -> dict[int, int]:
        """From where a restart must read the deliveries: the newest mark that is old enough and before which nothing is open."""
        while len(self._marks) > 1 and self._safe(self._marks[1], now_ms):
            self._marks.popleft()
        return dict(self._marks[0].deliveries)

    def _safe(self, mark: Mark, now_ms: int) -> bool:
        old = mark.at_ms <= now_ms - MEMORY_MS
        return old and all(self.position(partition) >= taken for partition, taken in mark.taken.items())
