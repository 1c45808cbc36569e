"""The members of a group shard's scopes as columns, and what is known of each asset whatever the quarter (semantics 2)."""

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.group_bindings import Binding, among, marks_of
from pipelines.rules.quarter_readings import Flags, Ints

PHASES = 4
_NEVER = np.iinfo(np.int64).max


class Seats:
    """A seat for each asset heard of or bound, a place for each of its phases that ever had a row. Columns by seat or place.

    `settled` is up to where (ms) an asset's quarters are closed; `since` the first quarter that had a final row of a place.
    """

    def __init__(self) -> None:
        self.marks: Ints = np.zeros(0, np.int64)
        self.settled: Ints = np.zeros(0, np.int64)
        self.place: NDArray[np.int32] = np.zeros((0, PHASES), np.int32)
        self.since: Ints = np.zeros(0, np.int64)
        self._order: Ints = np.zeros(0, np.int64)
        self._sorted: Ints = np.zeros(0, np.int64)

    def of(self, marks: Ints) -> Ints:
        """The seat of each mark; new ones get theirs."""
        at = among(self._sorted, marks)
        if (at < 0).any():
            new = np.unique(marks[at < 0])
            self.marks = np.concatenate((self.marks, new))
            self.settled = np.concatenate((self.settled, np.zeros(len(new), np.int64)))
            self.place = np.vstack((self.place, np.full((len(new), PHASES), -1, np.int32)))
            self.sort()
            at = among(self._sorted, marks)
        return self._order[at]

    def sort(self) -> None:
        """Make the order by which marks are found."""
        self._order = np.argsort(self.marks)
        self._sorted = self.marks[self._order]

    def places(self, seats: Ints, phases: NDArray[np.int8]) -> Ints:
        """The place of each seat and phase; new ones are made."""
        place = self.place[seats, phases]
        if (place < 0).any():
            new = np.unique(seats[place < 0] * PHASES + phases[place < 0])
            self.place[new // PHASES, new % PHASES] = np.arange(len(self.since), len(self.since) + len(new))
            self.since = np.concatenate((self.since, np.full(len(new), _NEVER)))
            place = self.place[seats, phases]
        return place.astype(np.int64)

    def kept(self, seats: Flags) -> Ints:
        """Drop all other seats; the places that are left, by their new numbers."""
        self.marks, self.settled, self.place = self.marks[seats], self.settled[seats], self.place[seats]
        held = np.sort(self.place[self.place >= 0]).astype(np.int64)
        now = np.full(len(self.since) + 1, -1, np.int32)
        now[held] = np.arange(len(held))
        self.place, self.since = now[self.place], self.since[held]
        self.sort()
        return held


class Scopes:
    """The scopes of a shard, their members in a fixed order, and their groups. Made anew with each configuration."""

    def __init__(self, assets: list[Binding], groups: list[Binding], seats: Seats) -> None:
        self.names = sorted({one.scope for one in assets})
        index = {name: number for number, name in enumerate(self.names)}
        self.of_member: NDArray[np.int32] = np.array([index[one.scope] for one in assets], np.int32)
        self.first: Ints = np.searchsorted(self.of_member, np.arange(len(self.names) + 1)).astype(np.int64)
        self.seats: NDArray[np.int32] = seats.of(marks_of(one.name for one in assets)).astype(np.int32)
        self.meters: Flags = np.array([one.meter for one in assets], np.bool_)
        self.begin: Ints = np.array([one.begin for one in assets], np.int64)
        self.end: Ints = np.array([one.end for one in assets], np.int64)
        self.metered: Flags = np.zeros(len(self.names), np.bool_)
        self.metered[self.of_member[self.meters]] = True
        self._one: NDArray[np.int32] = np.full(len(seats.marks) + 1, len(self.names), np.int32)
        self._one[self.seats] = self.of_member
        self._more = np.flatnonzero(self._one[self.seats] != self.of_member)
        self._groups = {scope: list(some) for scope, some in groupby(groups, lambda one: one.scope)}
        self.reporting: Flags = np.array([name in self._groups for name in self.names], np.bool_)

    def groups(self, scope: int, start: int) -> list[str]:
        """The ids of the groups bound to a scope in the quarter from `start` (ms)."""
        return [one.name for one in self._groups.get(self.names[scope], ()) if one.begin <= start < one.end]

    def bound(self, scope: int, seats: Ints, start: int) -> int:
        """How many of these seats are bound to a scope in the quarter from `start` (ms); none where no group is."""
        members = slice(self.first[scope], self.first[scope + 1])
        here = (self.begin[members] <= start) & (start < self.end[members]) & np.isin(self.seats[members], seats)
        return int(np.count_nonzero(here)) if self.groups(scope, start) else 0

    def with_seats(self, seats: Ints, of_all: int) -> Flags:
        """By scope: whether any of these seats (of so many) has a member there, in whatever quarter."""
        if len(self._one) < of_all + 1:  # the last entry is nobody's
            self._one = np.concatenate((self._one, np.full(of_all + 1 - len(self._one), len(self.names), np.int32)))
        found = np.zeros(len(self.names) + 1, np.bool_)
        found[self._one[seats]] = True
        if len(self._more):
            found[self.of_member[self._more[np.isin(self.seats[self._more], seats)]]] = True
        return found[:-1]
