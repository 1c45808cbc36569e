"""Group rows: what scopes' assets amount to for the groups bound to them, and when that is told (semantics 2).

A group shard keeps some scopes. What their members did arrives as `GroupNews` from the telemetry shards, in any order among
them; a group's row follows once nothing more is waited for, and again when its content changes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.group_bindings import Binding, assets_said, groups_said, scope_hash
from pipelines.rules.group_members import Scopes, Seats
from pipelines.rules.group_news import GroupNews, GroupRows, Members, together
from pipelines.rules.group_quarters import Kept, Quarter
from pipelines.rules.quarter_readings import Flags, Ints
from pipelines.rules.quarter_roster import Roster
from schemas.intervals import QUARTER_MS

_SPARE = 64
"""So many seats nobody is bound to may stay, and a quarter of all: news may know an asset before the configuration does here."""
_OVERDUE, _FROZEN, _TICK = range(3)
"""The columns of what telemetry shards told."""

LEAST_MS = 24 * 3_600_000
"""Beyond the correction horizon, quarters of so long are kept for partitions that are behind the others, whatever they take."""
MOST_ROWS, MOST_QUARTERS = 500_000, 2_000
"""More are kept while they have room for no more rows of members than that (about 100 bytes each), up to so many quarters: partitions
of few assets, which are read by the message as others are, get the further ahead in a backlog the fewer they are."""

_Line = tuple[int, str, str, int]
"""Which row, the group, its scope, the revision."""


class GroupShard:
    """The state of some scopes' groups. `step` is deterministic: the same news in the same order give the same."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seats = Seats()
        self.quarters: dict[int, Quarter] = {}
        self.told: dict[int, tuple[int, int, int]] = {}
        """By telemetry shard: up to when nobody is waited for, up to when nothing can change (ms), and its last round."""
        self.overdue = self.gone = self.ticked = 0
        self.passed: dict[tuple[str, int], int] = {}
        """How many final rows of members came for quarters that were gone, by scope with a group and start (ms), in the last step."""
        self._roster: Roster | None = None
        self._bound: tuple[list[Binding], list[Binding]] = ([], [])
        self._scopes = Scopes(*self._bound, self.seats)

    def step(self, news: Sequence[GroupNews], roster: Roster) -> list[GroupRows]:
        """Take in news that came together, by the configuration in force, and say which rows follow from all of them: first final
        ones, then provisional ones."""
        shards = news[0].shards
        if roster is not self._roster:
            self._follow(roster, shards)
        self.passed = {}
        self._keep(together(one.rows for one in news), running=False)
        self._keep(together(one.running for one in news), running=True)
        touched = self._settle(news, shards)
        out: list[GroupRows] = []
        for start in sorted(self.quarters):
            quarter = self.quarters[start]
            due = quarter.changed | (quarter.open & touched)
            if due.any():
                out += self._final(quarter, due)
        found = [*_joined(out), *self._round(shards)]
        self._forget(shards, roster.timing.horizon)
        return found

    def _follow(self, roster: Roster, shards: int) -> None:
        """Make what follows from the bindings: everything that can still change is summed again."""
        roster.tell_apart()
        self._roster = roster

        def mine(scope: str) -> bool:
            return scope_hash(scope) % shards == self.number

        assets = (said for scope, some in roster.by_scope.items() if mine(scope) for said in assets_said(some))
        groups = (said for scope, some in roster.groups.items() if mine(scope) for said in groups_said(some))
        self._bound = (
            roster.assets_before.bindings(assets, mine, self.gone),
            roster.groups_before.bindings(groups, mine, self.gone),
        )
        self._scopes = Scopes(*self._bound, self.seats)
        self._leave()
        for quarter in self.quarters.values():
            quarter.look_again(self._scopes)

    def _leave(self) -> None:
        """Assets that are bound nowhere here leave, once they are many."""
        bound = np.zeros(len(self.seats.marks), np.bool_)
        bound[self._scopes.seats] = True
        if np.count_nonzero(~bound) > _SPARE + len(bound) // 4:
            held = self.seats.kept(bound)
            for quarter in self.quarters.values():
                quarter.move(held)
            self._scopes = Scopes(*self._bound, self.seats)

    def _keep(self, members: Members, *, running: bool) -> None:
        """Put rows where they belong; those of quarters that are gone are not taken, but told of: what else the groups' rows were made
        of is no longer known."""
        if not len(members.rows):
            return
        seats = self.seats.of(members.marks)
        places = self.seats.places(seats, members.phases)
        starts = members.rows["start"]
        for start in {*starts.tolist()}:
            mine = np.flatnonzero(starts == start)
            if start < self.gone:
                if not running:
                    self._pass_by(start, seats[mine])
                continue
            if start not in self.quarters:
                self.quarters[start] = Quarter(start)
                self.quarters[start].look_again(self._scopes)
            quarter = self.quarters[start]
            (quarter.running if running else quarter.final).put(places[mine], members.rows[mine], len(self.seats.since), running=running)
            if not running:
                self._mark(quarter, places[mine], seats[mine])

    def _pass_by(self, start: int, seats: Ints) -> None:
        for scope in np.flatnonzero(self._scopes.with_seats(seats, len(self.seats.marks)) & self._scopes.reporting).tolist():
            if count := self._scopes.bound(scope, seats, start):
                self.passed[self._scopes.names[scope], start] = count

    def _mark(self, quarter: Quarter, places: Ints, seats: Ints) -> None:
        """The scopes of these seats have changed in this quarter; in later ones too, where a phase is met for the first time."""
        quarter.changed |= self._scopes.with_seats(seats, len(self.seats.marks)) & self._scopes.reporting
        earlier = quarter.start < self.seats.since[places]
        if earlier.any():
            self.seats.since[places[earlier]] = quarter.start
            known = self._scopes.with_seats(seats[earlier], len(self.seats.marks)) & self._scopes.reporting
            for later in self.quarters.values():
                if later.start > quarter.start:
                    later.changed |= known

    def _settle(self, news: Sequence[GroupNews], shards: int) -> Flags:
        """The scopes whose members closed quarters, or all, when those waited for in vain are waited for no longer."""
        seats = self.seats.of(np.concatenate([one.settled for one in news]))
        np.maximum.at(self.seats.settled, seats, np.concatenate([one.until for one in news]))
        for one in news:
            told = self.told.get(one.shard, (0, 0, 0))
            said = (one.overdue_until, one.frozen_until, one.tick)
            self.told[one.shard] = (max(told[0], said[0]), max(told[1], said[1]), max(told[2], said[2]))
        overdue = self._least(_OVERDUE, shards)
        if overdue > self.overdue:
            self.overdue = overdue
            return self._scopes.reporting
        return self._scopes.with_seats(seats, len(self.seats.marks))

    def _least(self, which: int, shards: int) -> int:
        """What all telemetry shards have told: by then all their rows from before have come."""
        return min(told[which] for told in self.told.values()) if len(self.told) >= shards else 0

    def _final(self, quarter: Quarter, due: Flags) -> list[GroupRows]:
        """The rows of these scopes that can be told now and have not been told, or not so."""
        quarter.changed &= ~due
        found = quarter.final_sums(due, self._scopes, self.seats, self.overdue)
        told: list[_Line] = []
        for index, scope in enumerate(found.scopes.tolist()):
            quarter.open[scope] = False
            content = found.rows[index].tobytes()
            for group in self._scopes.groups(scope, quarter.start):
                revision, last = quarter.said.get(group, (0, b""))
                if content != last:
                    quarter.said[group] = (revision + 1, content)
                    told.append((index, group, self._scopes.names[scope], revision + 1))
        return _written(found.rows, told)

    def _round(self, shards: int) -> Iterator[GroupRows]:
        """The provisional rows, once all telemetry shards have told theirs of this round."""
        tick = self._least(_TICK, shards)
        if tick <= self.ticked:
            return
        self.ticked = tick
        for start in sorted(self.quarters):
            quarter = self.quarters[start]
            if not len(quarter.running.marks):
                continue
            found = quarter.running_sums(self._scopes, self.seats)
            if not found.running.any():
                quarter.running = Kept()
            yield from _written(
                found.rows,
                [
                    (index, group, self._scopes.names[scope], 0)
                    for index, (scope, running) in enumerate(zip(found.scopes.tolist(), found.running.tolist(), strict=True))
                    for group in (self._scopes.groups(scope, start) if running else ())
                    if group not in quarter.said
                ],
            )

    def _forget(self, shards: int, horizon: int) -> None:
        """Quarters that cannot change any more leave; and the first of those nobody is waited for, where they are more than can be
        kept for a partition that is far behind, or stands still."""
        self.gone = max(self.gone, self._least(_FROZEN, shards))
        kept = sorted(start for start in self.quarters if start >= self.gone)
        most = max((LEAST_MS + horizon) // QUARTER_MS, min(MOST_QUARTERS, MOST_ROWS // max(1, len(self.seats.since))))
        for start in kept[: max(0, len(kept) - most)]:
            if start + QUARTER_MS <= self.overdue:
                self.gone = start + QUARTER_MS
        for start in [start for start in self.quarters if start < self.gone]:
            del self.quarters[start]


def _written(rows: NDArray[np.void], lines: list[_Line]) -> list[GroupRows]:
    if not lines:
        return []
    index, groups, scopes, revisions = zip(*lines, strict=True)
    return [GroupRows(list(groups), list(scopes), rows[list(index)], np.array(revisions, np.int32))]


def _joined(some: list[GroupRows]) -> list[GroupRows]:
    """All in one, if there are any: what it costs to write them is mostly paid once."""
    if len(some) < 2:
        return some
    rows, revisions = np.concatenate([one.rows for one in some]), np.concatenate([one.revisions for one in some])
    return [GroupRows([group for one in some for group in one.groups], [scope for one in some for scope in one.scopes], rows, revisions)]
