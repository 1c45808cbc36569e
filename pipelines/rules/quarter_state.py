"""A shard: a fat share of all assets (semantics 1.9, 1.10, engine.md 1).

It is fed with its part of each poll, and with every poll's partition progress, so that all shards know all watermarks.
Readings wait in a buffer until their partition's watermark has passed them, then they are folded into their quarters in
order of instants; `quarter_closing` makes rows of those.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_arrivals import BEHIND, LATE, STEP_MS, Buffer, arrive, met
from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.quarter_kept import merged
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_minutes import ACCEPTED, CONFLICT, in_order
from pipelines.rules.quarter_parts import Edition, Part
from pipelines.rules.quarter_readings import EXPORT, IMPORT, Flags, Floats, Ints, Table, no_readings, position
from pipelines.rules.quarter_roster import EDITIONS, Roster
from pipelines.rules.quarter_slots import Slots
from pipelines.rules.watermarks import Watermarks
from schemas.intervals import QUARTER_MS

FOLD_AT_ONCE = 16_384
"""So many readings may wait before they are folded, or as many as there are register values: larger folds are cheaper."""


Segment = tuple[int, int]
"""A partition, and the start of a quarter."""


@dataclass
class Step:
    """What one step brought to light; keys are the shard's."""

    rows: list[NDArray[np.void]] = field(default_factory=list)
    revisions: list[NDArray[np.int32]] = field(default_factory=list)
    running: list[NDArray[np.void]] = field(default_factory=list)
    late: list[tuple[Table, Ints, Ints]] = field(default_factory=list)
    """Readings too late for their quarter, or (unsure) for what their register value means; their offsets, and the watermark each met."""
    conflicts: list[tuple[NDArray[np.int32], Ints]] = field(default_factory=list)
    closed: list[NDArray[np.int32]] = field(default_factory=list)
    """Keys whose `closed` was set or moved on."""
    strays: list[tuple[str, int, int]] = field(default_factory=list)
    """Assets newly met on a second partition: (asset, its partition, the other one)."""
    provisional: bool = False
    folded: int = 0
    repeated: int = 0


class Shard:
    """The state of one shard. `quarter_closing.take_step` is what changes it."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.slots = Slots()
        self.kept: Table = no_readings()
        """Register values that may still matter, by key and instant."""
        self.buffer = Buffer()
        self.home: dict[str, int] = {}
        """Where each asset heard of stands among `keys.assets`."""
        self.times = Watermarks()
        self.watermark: Ints = np.zeros(0, np.int64)
        self.cut: Ints = np.zeros(0, np.int64)
        self.next_close: Ints = np.zeros(0, np.int64)
        self.folded: Ints = np.zeros(0, np.int64)
        """By partition: its watermark, the start of the first quarter that can still change, when to look for quarters
        to close, and up to where readings have been folded."""
        self.tick = 0
        self.stray: set[tuple[str, int]] = set()
        self.number = -1
        self.due_since = 0
        """Since when (clock) quarters are due that have not been closed; 0: none are."""
        self.segments: dict[Segment, str] = {}
        """Closed quarters that are stored as they are now, and under which name (see `quarter_snapshot`)."""
        self.looked = 0
        """In which quarter (of the furthest watermark) assets were last looked through for those that have expired."""
        self._residue = 0
        self._roster: Roster | None = None
        self._seats: Ints = np.zeros(0, np.int64)
        self._others: dict[Edition, tuple[Ints, Floats]] = {}
        """Of the editions of parts from workers that are behind, by row: where the asset stands among `keys.assets`, and its `max_w`."""

    def follow(self, roster: Roster) -> None:
        """The configuration in force; another one has other rows for its assets, perhaps another `max_w`."""
        if roster is not self._roster:
            self._roster = roster
            self._seats, self._others = self._seats_of(roster.ids), {}
            self.keys.bound_by(roster.max_w)

    def _seats_of(self, ids: list[str]) -> Ints:
        return np.array([self.home.get(asset_id, -1) for asset_id in ids], np.int64)

    def seated(self, rows: Flags) -> Flags:
        """By asset of this shard what `rows` says by row of the roster that is followed; False for assets it does not have."""
        found, here = np.zeros(len(self.keys.assets), np.bool_), self._seats >= 0
        found[self._seats[here]] = rows[here]
        return found

    def know(self, part: Part) -> None:
        """The partitions a part speaks of exist."""
        self.times.know(part.partitions)
        more = max(len(self.times), len(part.newest), len(part.clocks.bound) - 1) - len(self.watermark)
        if more > 0:
            for name in ("watermark", "cut", "next_close", "folded"):
                setattr(self, name, np.concatenate((getattr(self, name), np.zeros(more, np.int64))))

    def seat(self, part: Part, ids: list[str], step: Step) -> NDArray[np.int32]:
        """The keys of the part's readings in this shard, whose rows are of `ids`; assets heard for the first time get theirs."""
        row, (seats, limits) = part.readings["key"], self._by(part.edition, ids)
        asset = seats[row]
        strange = np.flatnonzero(asset < 0)
        if len(strange):
            rows, first = np.unique(row[strange], return_index=True)
            for each, partition in zip(rows.tolist(), part.partition[strange[first]].tolist(), strict=True):
                asset_id = ids[each]
                if asset_id not in self.home:
                    self.home[asset_id] = self.keys.add_asset(asset_id, partition)
                seats[each] = self.home[asset_id]
            asset = seats[row]
            if seats is not self._seats and self._roster is not None:
                self._seats = self._seats_of(self._roster.ids)
        key = self.keys.of(asset, part.phase, limits, row)
        self.slots.know(len(self.keys))
        self._note_strays(key, part.partition, step)
        return key

    def _by(self, edition: Edition, ids: list[str]) -> tuple[Ints, Floats]:
        """By row of an edition's `ids` where the asset stands (-1: nowhere yet), and its `max_w` by the roster that is followed."""
        roster = self._roster
        if roster is None:
            raise RuntimeError("no roster is followed yet")
        if ids is roster.ids:
            return self._seats, roster.limits
        if edition not in self._others:
            if len(self._others) >= EDITIONS:
                self._others.clear()
            limits = np.array([roster.max_w(asset_id) or np.nan for asset_id in ids], np.float64)
            self._others[edition] = self._seats_of(ids), limits
        return self._others[edition]

    def _note_strays(self, key: NDArray[np.int32], partition: NDArray[np.int32], step: Step) -> None:
        for row in np.flatnonzero(self.keys.home[key] != partition).tolist():
            asset_id, other = self.keys.assets[self.keys.asset[key[row]]], int(partition[row])
            if (asset_id, other) not in self.stray:
                self.stray.add((asset_id, other))
                step.strays.append((asset_id, int(self.keys.home[key[row]]), other))

    def meet(self, part: Part, key: NDArray[np.int32], timing: MeterTiming) -> tuple[Ints, Ints]:
        """The watermark each reading met, and the cut of that."""
        newest, clock = np.zeros((2, len(self.watermark)), np.int64)
        newest[: len(self.times)], clock[: len(self.times)] = self.times.newest, self.times.clock
        met_at, cuts = np.empty(len(key), np.int64), np.empty(len(key), np.int64)
        met(
            key, self.keys.home, part.partition, part.offset, part.before, newest, clock, self.watermark,
            part.clocks.bound, part.clocks.offset, part.clocks.at, timing.lateness, timing.horizon, met_at, cuts,
        )  # fmt: skip
        # What has left does not come back where the horizon is made longer: it is too late for that.
        return met_at, np.maximum(cuts, self.cut[self.keys.home[key]])

    def take(self, readings: Table, key: NDArray[np.int32], offset: Ints, met_at: Ints, cuts: Ints, step: Step) -> None:
        """Take in readings, in order of arrival; `key` are theirs (`readings["key"]` are rows of the roster)."""
        keys = self.keys
        kinds, poked = np.empty(len(readings), np.int8), np.zeros(len(self.watermark), np.bool_)
        fresh = keys.closed[key] < 0
        self.buffer.size = arrive(
            readings, key, met_at, cuts, keys.closed, keys.heard, keys.last_register, keys.reached_until, keys.dirty, keys.touched,
            keys.waits, keys.home, poked, kinds, self.buffer.room(len(readings)), self.buffer.size,
        )  # fmt: skip
        if fresh.any():
            new = np.unique(key[fresh])
            step.closed.append(new)
            self.next_close[keys.home[new]] = 0
        self.next_close[poked] = 0
        if not kinds.any():
            return
        late, behind = np.flatnonzero(kinds == LATE), np.flatnonzero(kinds == BEHIND)
        if len(late):
            step.late.append((_keyed(readings[late], key[late]), offset[late], met_at[late]))
        if len(behind):
            self._take_behind(_keyed(readings[behind], key[behind]), offset[behind], met_at[behind], step)

    def _take_behind(self, readings: Table, offset: Ints, met_at: Ints, step: Step) -> None:
        """Readings from before what is in order already: each comes to what had been folded when it arrived."""
        reached, home = met_at // STEP_MS * STEP_MS, self.keys.home[readings["key"]]
        for instant in np.unique(reached).tolist():
            stage = reached == instant
            until = np.zeros(len(self.watermark), np.int64)
            until[home[stage]] = instant
            self.fold(until, step)
            self.touch(readings["key"][stage], readings["at"][stage] // QUARTER_MS * QUARTER_MS)
            unsure = self._fold(readings[stage], step)
            if len(unsure):  # what their values mean cannot be said from what is kept: a repair will, from all readings
                again = stage & np.isin(position(readings["key"], readings["at"]), position(unsure["key"], unsure["at"]))
                step.late.append((readings[again], offset[again], met_at[again]))

    def fold(self, until: Ints, step: Step) -> None:
        """Fold what is on time and lies before `until` (by partition)."""
        until = np.maximum(self.folded, until)
        if (until > self.folded).any():
            self.folded = until
            self._fold(self.buffer.take(self.keys.home, until), step)

    def fold_if_many(self, step: Step) -> None:
        """Fold once enough readings wait: what comes of it does not depend on when."""
        if self.buffer.size >= self._residue + max(FOLD_AT_ONCE, len(self.kept) // 2, self._residue // 2):
            self.fold(self.watermark // STEP_MS * STEP_MS, step)
            self._residue = self.buffer.size

    def touch(self, key: NDArray[np.int32], start: Ints) -> None:
        """These quarters are no longer as they were stored."""
        if self.segments:
            for place in set(zip(self.keys.home[key].tolist(), start.tolist(), strict=True)):
                self.segments.pop(place, None)

    def expire(self, expiry: int) -> None:
        """Assets not heard of for so long (ms of event time) leave; what their quarters were made of has left before.

        Looks once a quarter. Keys are others afterwards: only between two steps.
        """
        keys, looked = self.keys, int(self.watermark.max(initial=0)) // QUARTER_MS
        if looked == self.looked:
            return
        self.looked = looked
        stay = keys.heard + expiry >= self.watermark[keys.home]
        if stay.all():
            return
        key_now = keys.keep(stay)
        self.slots.select(stay)
        for rows in (self.kept, self.buffer.rows()):
            rows["key"] = key_now[rows["key"]]
        self.kept = self.kept[self.kept["key"] >= 0]
        self.home = {asset: index for index, asset in enumerate(keys.assets)}
        self.stray = {(asset, partition) for asset, partition in self.stray if asset in self.home}
        self.segments.clear()  # they name keys that are others now
        self._roster = None

    def _fold(self, rows: Table, step: Step) -> Table:
        """Into quarters and registers; the readings whose register values are unsure."""
        if not len(rows):
            return rows
        order = in_order(rows, len(self.keys))
        verdicts = self.slots.fold(rows, order)
        conflict = verdicts == CONFLICT
        if conflict.any():
            step.conflicts.append((rows["key"][conflict].copy(), rows["at"][conflict].copy()))
        step.folded += len(rows)
        step.repeated += int(np.count_nonzero(verdicts))
        fresh = order[(verdicts[order] == ACCEPTED) & ((rows["flags"][order] & (IMPORT | EXPORT)) != 0)]
        if not len(fresh):
            return rows[:0]
        self.kept, unsure = merged(self.kept, rows, fresh, self.keys.max_w)
        return unsure


def _keyed(readings: Table, key: NDArray[np.int32]) -> Table:
    readings["key"] = key
    return readings
