"""One quarter of a group shard: its members' rows by place, and what was said of its groups (semantics 2)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.group_members import Scopes, Seats
from pipelines.rules.group_news import GROUP_ROW
from pipelines.rules.group_sums import ESTIMATED, HERE, METER, NOTHING, NUMBERS, RESET, RUNNING, sums
from pipelines.rules.quarter_hours import ROW
from pipelines.rules.quarter_readings import Flags, Floats, Ints
from schemas.intervals import QUARTER_MS

_LAST_MINUTE = NUMBERS.index("last_minute_w")
_FIELDS: Any = ROW.fields
_FIRST_NUMBER = _FIELDS[NUMBERS[0]][1]
_NUMBERS_SIZE = 8 * len(NUMBERS)


class Kept:
    """Rows by place: `numbers` has the columns `group_sums.NUMBERS`, `marks` says whether there is one, and its flags."""

    def __init__(self) -> None:
        self.numbers: Floats = np.zeros((0, len(NUMBERS)))
        self.samples: Ints = np.zeros(0, np.int64)
        self.marks: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def grow(self, size: int) -> None:
        """Have room for so many places."""
        more = size - len(self.marks)
        if more > 0:
            self.numbers = np.concatenate((self.numbers, np.zeros((more, len(NUMBERS)))))
            self.samples = np.concatenate((self.samples, np.zeros(more, np.int64)))
            self.marks = np.concatenate((self.marks, np.zeros(more, np.uint8)))

    def put(self, places: Ints, rows: NDArray[np.void], size: int, *, running: bool) -> None:
        """Rows (`ROW`, in memory one after the other) at their places, of `size`; a later one replaces an earlier."""
        self.grow(size)
        octets = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
        self.numbers[places] = octets[:, _FIRST_NUMBER : _FIRST_NUMBER + _NUMBERS_SIZE].view(np.float64)
        if not running:
            self.numbers[places, _LAST_MINUTE] = np.nan
        self.samples[places] = rows["samples"]
        self.marks[places] = HERE + ESTIMATED * rows["estimated"] + RESET * rows["reset"] + RUNNING * running

    def under(self, other: "Kept") -> "Kept":
        """These rows where `other` has none (of the same size), else its."""
        both, here = Kept(), (other.marks & HERE) != 0
        both.numbers = np.where(here[:, None], other.numbers, self.numbers)
        both.samples, both.marks = np.where(here, other.samples, self.samples), np.where(here, other.marks, self.marks)
        return both

    def move(self, held: Ints) -> None:
        """Only these places are left, in this order."""
        held = held[held < len(self.marks)]
        self.numbers, self.samples, self.marks = self.numbers[held], self.samples[held], self.marks[held]


class Summed(NamedTuple):
    """What some scopes amount to, those with a row only; `running` says whether any member's row is a provisional one."""

    scopes: NDArray[np.int32]
    rows: NDArray[np.void]
    running: Flags


class Quarter:
    """A quarter from `start` (ms) that can still change.

    `said` has for each group its last revision and the bytes of that row. By scope: `changed` says that rows of members
    came since it was last summed, `open` that a group of it has not been told of yet.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.final, self.running = Kept(), Kept()
        self.said: dict[str, tuple[int, bytes]] = {}
        self.changed: Flags = np.zeros(0, np.bool_)
        self.open: Flags = np.zeros(0, np.bool_)

    def look_again(self, scopes: Scopes) -> None:
        """Who belongs where may have changed: everything is to be summed again."""
        self.changed, self.open = scopes.reporting.copy(), scopes.reporting.copy()

    def final_sums(self, some: Flags, scopes: Scopes, seats: Seats, overdue: int) -> Summed:
        """The rows of those of some scopes whose members are all closed, or from before `overdue` (ms), when nobody is waited for."""
        self.final.grow(len(seats.since))
        return self._sums(self.final, some, scopes, seats, waiting=self.start + QUARTER_MS > overdue)

    def running_sums(self, scopes: Scopes, seats: Seats) -> Summed:
        """What the open scopes amount to so far: members' provisional rows, final ones where there are."""
        self.final.grow(len(seats.since))
        self.running.grow(len(seats.since))
        return self._sums(self.running.under(self.final), self.open, scopes, seats, waiting=False)

    def move(self, held: Ints) -> None:
        """Only these places are left, in this order."""
        self.final.move(held)
        self.running.move(held)

    def _sums(self, kept: Kept, some: Flags, scopes: Scopes, seats: Seats, *, waiting: bool) -> Summed:
        todo = np.flatnonzero(some).astype(np.int32)
        size = len(todo)
        numbers, samples, missing = np.empty((size, len(NUMBERS))), np.empty(size, np.int64), np.empty(size, np.int64)
        marks, kinds = np.empty(size, np.uint8), np.empty(size, np.int8)
        sums(
            todo, scopes.first, scopes.metered, scopes.seats, scopes.meters, scopes.begin, scopes.end, seats.place, seats.since,
            kept.numbers, kept.samples, kept.marks, seats.settled, self.start, self.start + QUARTER_MS, waiting,
            numbers, samples, missing, marks, kinds,
        )  # fmt: skip
        there = np.flatnonzero(kinds != NOTHING)
        rows = np.empty(len(there), GROUP_ROW)
        if not len(there):
            return Summed(todo[there], rows, np.zeros(0, np.bool_))
        for column, name in enumerate(NUMBERS):
            rows[name] = numbers[there, column] + 0.0  # one zero: rows are compared by their bytes
        rows["start"], rows["samples"], rows["missing_members"] = self.start, samples[there], missing[there]
        rows["method"] = kinds[there] != METER
        rows["estimated"], rows["reset"] = (marks[there] & ESTIMATED) != 0, (marks[there] & RESET) != 0
        return Summed(todo[there], rows, (marks[there] & RUNNING) != 0)
