"""The barrier of a record source: nothing passes before what was appended to the barrier topics ahead of it (semantics 5)."""

from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

from pipelines.lanes import Lane, Part
from schemas.clock import wall_seconds

HELD_AT_MOST = 20_000
"""With more records waiting than this, only the barrier topics are fetched until it is reached."""
REPLAY_WITHIN_S = 5.0
"""So long (wall) a start waits until all is read that is there, to replay it in order; a partition may be without a leader."""

Stretch = tuple[Part, list[Any]]


def appended_at(message: Any) -> int:
    """When the broker appended a consumer's message, in ms."""
    return int(message.timestamp()[1])


class Gate:
    """Holds records of the other topics back until the barrier topics have been read up to the end they had after those
    records were polled. At first the barrier topics are read to their present end alone, so that a replay waits once.

    With `in_order`, topics whose records of one instant come in this order, what is there at the start is then held until all
    of it has been read (at most `HELD_AT_MOST`, and `REPLAY_WITHIN_S`) and emitted as it was appended, by `when`: a replay must
    not meet what followed from a record before the record.

    It never blocks: what is held comes with a later poll, and counts as not read yet for positions.
    """

    def __init__(self, lane: Lane, barrier: Sequence[str], in_order: Sequence[str] = (), when: Callable[[Any], int] = appended_at) -> None:
        self._lane, self._barrier = lane, frozenset(barrier)
        self._in_order, self._when = tuple(in_order), when
        self._replaying, self._present, self._replay_until = bool(in_order), None, 0.0  # type: bool, dict[Part, int] | None, float
        self._before: tuple[Part, ...] = ()
        self._others: tuple[Part, ...] = ()
        self._held: list[Stretch] = []
        self._count = 0
        self._goal: dict[Part, int] | None = None
        self._narrow = False

    @property
    def waiting(self) -> bool:
        """Whether anything waits for the barrier."""
        return self._narrow or self._replaying or bool(self._held)

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
        if self._goal is not None and self._reached(self._goal):
            if not self._replaying:
                return now + self._release()
            if self._narrow:
                self._widen()
                self._replay_until = wall_seconds() + REPLAY_WITHIN_S
            elif self._replayed():
                return now + in_order_of(self._release(), self._in_order, self._when)
        if self._count > HELD_AT_MOST and not self._narrow:
            self._only_barrier()
        return now

    def _reached(self, goal: dict[Part, int]) -> bool:
        return all(self._lane.read[part] >= end for part, end in goal.items())

    def _replayed(self) -> bool:
        """Whether all is held that was there when the barrier was reached for the first time; then, or too late, the replay is over."""
        if self._present is None:
            self._present = self._lane.ends(self._others)
        there = self._present is not None and self._reached(self._present)
        over = there or self._count > HELD_AT_MOST or wall_seconds() > self._replay_until
        self._replaying = not over
        return over

    def _widen(self) -> None:
        self._lane.fetch(self._lane.parts)
        self._narrow = False

    def _release(self) -> list[Stretch]:
        released, self._held, self._count, self._goal = self._held, [], 0, None
        self._lane.emitted(self._others)
        if self._narrow:
            self._widen()
        return released


def in_order_of(stretches: Iterable[Stretch], topics: Sequence[str], when: Callable[[Any], int]) -> list[Stretch]:
    """The records of several partitions by the instants they were appended at, those of one instant by the order of `topics`.

    The order within a partition stays, also where its clock was put back.
    """
    parts: dict[Part, list[Any]] = {}
    for part, found in stretches:
        parts.setdefault(part, []).extend(found)
    rows = []
    for part, found in parts.items():
        instants = accumulate(map(when, found), max)
        rows.append([((at, topics.index(part[0]), part), message) for at, message in zip(instants, found, strict=True)])
    merged = merge(*rows, key=itemgetter(0))
    return [(part, [message for _, message in run]) for part, run in groupby(merged, lambda row: row[0][2])]
