"""What a telemetry shard tells the groups of its assets' scopes: rows, what is closed, and how time passes for the rest (semantics 2)."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.group_bindings import among, marks_of, scope_hash
from pipelines.rules.group_news import GroupNews, Members
from pipelines.rules.quarter_closing import cut_of
from pipelines.rules.quarter_hours import ROW
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_parts import Part
from pipelines.rules.quarter_readings import Flags, Ints
from pipelines.rules.quarter_roster import Roster, shard_of
from pipelines.rules.quarter_state import Shard, Step
from schemas.intervals import QUARTER_MS

_NEVER = np.iinfo(np.int64).max
_NONE: Ints = np.zeros(0, np.int64)


@dataclass
class Told:
    """What a teller remembers, in plain types. Instants are ms.

    `marks` (in order) and `shards` say which group shard heard of each of this shard's assets, by the configuration last
    followed; `former` which ones did before (a bit each), until all that was then is past `former_until`. `absent` and `overdue`
    have been told; `next_overdue` is told next time.
    """

    marks: Ints = field(default_factory=lambda: _NONE)
    shards: Ints = field(default_factory=lambda: _NONE)
    former: dict[int, int] = field(default_factory=dict)
    former_until: int = 0
    absent: int = 0
    overdue: int = 0
    next_overdue: int = 0


class _Heard(NamedTuple):
    """Columns of one length, and for each entry the group shards that hear of it: a bit each."""

    bits: Ints
    columns: tuple[Any, ...]

    def by(self, number: int) -> tuple[Any, ...]:
        """What one group shard hears of."""
        if not len(self.bits):
            return self.columns
        mine = np.flatnonzero(self.bits >> number & 1)
        return tuple(column[mine] for column in self.columns)


class Teller:
    """Makes the news of each step of one telemetry shard, for the group shards they concern."""

    def __init__(self, told: Told | None = None) -> None:
        self.told = told or Told()
        self._roster: Roster | None = None
        self._again = False
        self._assets: list[str] = []
        self._marks, self._bits = _NONE, _NONE

    def tell(self, shard: Shard, part: Part, roster: Roster, step: Step) -> list[tuple[int, GroupNews]]:
        """The group shards that hear something of this step, and what."""
        told, keys, timing = self.told, shard.keys, roster.timing
        slowest = shard.times.slowest(timing.lateness)
        frozen = int(cut_of(np.int64(slowest), timing))
        if roster is not self._roster:
            self._follow(roster, part, frozen)
        if not roster.groups and not told.former:
            return []
        if told.former and frozen >= told.former_until:
            told.former, self._assets = {}, []
        self._know(keys)
        rows, running = (self._heard(keys, some) for some in (step.rows, step.running))
        assets, until = self._settled(keys, step)
        settled = _Heard(self._bits[assets], (self._marks[assets], until))
        absent, moved = self._pass_time(slowest, shard.times.fastest() - timing.report_deadline)
        everywhere, self._again = moved or self._again or step.provisional, False
        if not everywhere and not len(rows.bits) and not len(running.bits) and not len(settled.bits):
            return []  # as most steps of few readings have nothing to tell
        tick, news = shard.tick if step.provisional else 0, []
        for number in range(part.shards):
            final, live, (marks, ends) = Members(*rows.by(number)), Members(*running.by(number)), settled.by(number)
            if moved:
                gone = (told.shards == number) & absent
                marks, ends = (
                    np.concatenate((marks, told.marks[gone])),
                    np.concatenate((ends, np.full(np.count_nonzero(gone), told.absent))),
                )
            if everywhere or len(final.rows) or len(live.rows) or len(marks):
                news.append((number, GroupNews(part.shard, part.shards, final, live, marks, ends, told.overdue, frozen, tick)))
        return news

    def _follow(self, roster: Roster, part: Part, frozen: int) -> None:
        """Another configuration: what is not done in its quarters goes to the group shards of both, and to those of the bindings
        that its changes say held before. `frozen` is as in the news."""
        told, self._roster = self.told, roster
        mine = np.flatnonzero(roster.hashes % part.shards == part.shard)
        mine = mine[np.argsort(roster.marks[mine])]
        marks, shards = roster.marks[mine], roster.group_shards(part.shards)[mine]
        at = among(marks, told.marks)
        now = np.where(at >= 0, shards[at], -1) if len(marks) else np.full(len(at), -1)
        for place in np.flatnonzero((told.shards >= 0) & (now != told.shards)).tolist():
            mark = int(told.marks[place])
            told.former[mark] = told.former.get(mark, 0) | 1 << int(told.shards[place])
            told.former_until = part.now // QUARTER_MS * QUARTER_MS + 2 * QUARTER_MS  # they may learn of it a quarter later
        for asset, scope, until in roster.heard_before:
            if until > frozen and shard_of(asset, part.shards) == part.shard:
                mark = int(marks_of([asset])[0])
                told.former[mark] = told.former.get(mark, 0) | 1 << scope_hash(scope) % part.shards
                told.former_until = max(told.former_until, until)
        told.marks, told.shards = marks, shards
        told.absent = told.overdue = 0  # some hear it for the first time
        self._again, self._assets = True, []

    def _know(self, keys: Keys) -> None:
        """For each asset with keys its mark, and which group shards hear of it: a bit each."""
        if self._assets is keys.assets and len(self._marks) == len(keys.assets):
            return
        before = self._marks if self._assets is keys.assets else _NONE
        self._assets, self._marks = keys.assets, np.concatenate((before, marks_of(keys.assets[len(before) :])))
        at = among(self.told.marks, self._marks)
        shards = np.where(at >= 0, self.told.shards[at], -1) if len(self.told.marks) else at
        self._bits = np.where(shards >= 0, np.int64(1) << np.maximum(shards, 0), 0)
        if self.told.former:
            former = np.array(sorted(self.told.former), np.int64)
            bits, at = np.array([self.told.former[mark] for mark in former.tolist()], np.int64), among(former, self._marks)
            self._bits |= np.where(at >= 0, bits[at], 0)

    def _heard(self, keys: Keys, rows: list[NDArray[np.void]]) -> "_Heard":
        joined = np.concatenate(rows) if rows else np.zeros(0, ROW)
        asset = keys.asset[joined["key"]]
        return _Heard(self._bits[asset], (joined, self._marks[asset], keys.phase[joined["key"]]))

    def _settled(self, keys: Keys, step: Step) -> tuple[Ints, Ints]:
        """The assets some of whose quarters were closed in this step, or all, where they are told again; and up to where all phases are."""
        if self._again:
            assets = np.arange(len(keys.assets))
        elif step.closed:
            assets = np.unique(keys.asset[np.concatenate(step.closed)]).astype(np.int64)
        else:
            return _NONE, _NONE
        of_asset = keys.by_asset[assets]
        return assets, np.where(of_asset >= 0, keys.closed[of_asset], _NEVER).min(axis=1) if len(keys) else assets

    def _pass_time(self, slowest: int, deadline: int) -> tuple[Flags, bool]:
        """What all partitions have passed settles assets that were never heard of (the flags, by `told.marks`); past the deadline
        nobody is waited for. And whether that moved.

        The deadline is told one step late: where time leaps, as in a backlog, the rows of this step come first.
        """
        told = self.told
        absent, overdue = slowest // QUARTER_MS * QUARTER_MS, told.next_overdue
        told.next_overdue = deadline // QUARTER_MS * QUARTER_MS
        if absent <= told.absent and overdue <= told.overdue:
            return np.zeros(len(told.marks), np.bool_), False
        told.absent, told.overdue = max(absent, told.absent), max(overdue, told.overdue)
        return among(np.sort(self._marks), told.marks) < 0, True
