"""The barrier of a record source: nothing passes before what was appended to the barrier topics ahead of it (semantics 5)."""

from collections.abc import Sequence
from typing import Any

from pipelines.lanes import Lane, Part

HELD_AT_MOST = 20_000
"""With more records waiting than this, only the barrier topics are fetched until it is reached."""

Stretch = tuple[Part, list[Any]]


class Gate:
    """Holds records of the other topics back until the barrier topics have been read up to the end they had after those
    records were polled. At first the barrier topics are read to their present end alone, so that a replay waits once.

    It never blocks: what is held comes with a later poll, and counts as not read yet for positions.
    """

    def __init__(self, lane: Lane, barrier: Sequence[str]) -> None:
        self._lane, self._barrier = lane, frozenset(barrier)
        self._before: tuple[Part, ...] = ()
        self._others: tuple[Part, ...] = ()
        self._held: list[Stretch] = []
        self._count = 0
        self._goal: dict[Part, int] | None = None
        self._narrow = False

    @property
    def waiting(self) -> bool:
        """Whether anything waits for the barrier."""
        return self._narrow or bool(self._held)

    def open(self) -> None:
        """The lane knows its partitions now: begin with the barrier topics."""
        self._before = tuple(part for part in self._lane.parts if part[0] in self._barrier)
        self._others = tuple(part for part in self._lane.parts if part[0] not in self._barrier)
        self._only_barrier()

    def _only_barrier(self) -> None:
        self._lane.fetch(self._before)
        self._narrow = True

    def admit(self, stretches: list[Stretch]) -> list[Stretch]:
        """What may be emitted now, of these and of what was held; the positions of that are noted as done."""
        now = [stretch for stretch in stretches if stretch[0][0] in self._barrier]
        held = [stretch for stretch in stretches if stretch[0][0] not in self._barrier]
        if held:
            self._held += held
            self._count += sum(len(messages) for _, messages in held)
            self._goal = None  # ask again: it has to be asked after these were polled
        self._lane.emitted(self._before)
        if not self.waiting:
            self._lane.emitted(self._others)
            return now
        if self._goal is None:
            self._goal = self._lane.ends(self._before)
        if self._goal is not None and all(self._lane.read[part] >= end for part, end in self._goal.items()):
            return now + self._release()
        if self._count > HELD_AT_MOST and not self._narrow:
            self._only_barrier()
        return now

    def _release(self) -> list[Stretch]:
        released, self._held, self._count, self._goal = self._held, [], 0, None
        self._lane.emitted(self._others)
        if self._narrow:
            self._lane.fetch(self._lane.parts)
            self._narrow = False
        return released
