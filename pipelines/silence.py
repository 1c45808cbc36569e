"""Which partitions are silent, by the broker's word, and since when (semantics 1.9, engine.md 2)."""

from collections.abc import Iterable
from datetime import datetime

from pipelines.lanes import Lane, Part
from pipelines.records import Mark
from schemas.clock import Clock, wall_seconds

MARK_EVERY_S = 1.0
GAP_S = 5.0
"""Confirmations further apart than this (wall) leave the time between them uncounted: nobody looked."""


class Silence:
    """Asks the broker about once a second, for each partition that has not spoken meanwhile, whether all of it has been read.

    `since` of a mark is the clock's instant of the first confirmation after the partition's last payload, moved on by
    the time in which the broker did not answer (or nobody asked): so `now - since` counts confirmed silence only, time
    stands still while the broker is away, and it never jumps. Nothing of this is durable.
    """

    def __init__(self, lane: Lane, clock: Clock) -> None:
        self._lane, self._clock = lane, clock
        self._next = 0.0
        self._spoken: set[Part] = set()
        self._since: dict[Part, datetime] = {}
        self._confirmed: dict[Part, tuple[datetime, float]] = {}
        self._doubtful: set[Part] = set()

    def spoke(self, parts: Iterable[Part]) -> None:
        """Take note that these partitions brought payloads."""
        for part in parts:
            self._spoken.add(part)
            self._since.pop(part, None)
            self._confirmed.pop(part, None)

    def marks(self) -> tuple[Mark, ...]:
        """The marks of this second: none if it is not over yet, or the broker does not answer."""
        if wall_seconds() < self._next:
            return ()
        self._next = wall_seconds() + MARK_EVERY_S
        spoken, self._spoken = self._spoken, set()
        found: list[Mark] = []
        for part in self._lane.parts:
            if part in spoken:
                continue
            end = self._lane.ends([part])
            if end is None:
                self._doubtful.update(self._lane.parts)
                break
            if self._lane.read[part] >= end[part]:  # beyond it: the embedded broker says less than it has after a batch
                found.append(self._mark(part))
        return tuple(found)

    def _mark(self, part: Part) -> Mark:
        now, wall = self._clock.now(), wall_seconds()
        since = self._since.setdefault(part, now)
        before = self._confirmed.get(part)
        if before is not None and (part in self._doubtful or wall - before[1] > GAP_S):
            since = self._since[part] = since + (now - before[0])
        self._doubtful.discard(part)
        self._confirmed[part] = (now, wall)
        return Mark(part[1], since, now)
