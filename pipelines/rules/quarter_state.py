"""A shard: a fat share of all assets, in one lane for each Kafka partition they speak on (semantics 1.9, 1.10, engine.md 1).

It is fed with its part of each poll, and with every poll's partition progress, so that all shards know all watermarks.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_lane import Found, Lane, cut_of
from pipelines.rules.quarter_readings import Ints, Table, no_readings
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.watermarks import Watermarks

_SLOT_BITS = 32


@dataclass(frozen=True, slots=True)
class Silence:
    """A partition all of which had been read at `since`; nothing has come until `now` (ms)."""

    partition: int
    since: int
    now: int


@dataclass(frozen=True, slots=True)
class Part:
    """One shard's part of a poll. `asset` is the row in the roster it was judged by; `readings` have no keys yet.

    Instants are ms. `before` is the newest instant among the earlier readings of the poll in the reading's partition (all shards'),
    `newest` each partition's newest instant in the poll. Readings are good ones: bad ones never get this far.
    """

    shard: int
    shards: int
    roster: Roster
    now: int
    partitions: tuple[int, ...]
    newest: dict[int, int]
    silences: tuple[Silence, ...] = ()
    asset: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    phase: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    readings: Table = field(default_factory=no_readings)
    partition: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    offset: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    before: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class Step:
    """What one step brought to light: by partition of the lane, and the assets newly met on a second partition."""

    lanes: dict[int, Found]
    strays: list[tuple[str, int, int]]
    """(asset, its partition, the other one)."""
    provisional: bool


class Shard:
    """The state of one shard."""

    def __init__(self) -> None:
        self.lanes: dict[int, Lane] = {}
        self.home: dict[str, int] = {}
        self.times = Watermarks()
        self.tick = 0
        self.stray: set[tuple[str, int]] = set()
        self.settled: dict[str, int] = {}
        """Of assets of reporting scopes: up to where groups were told that their quarters are closed."""
        self.absent_until, self.overdue_until, self.overdue_next = 0, 0, 0
        self._roster: Roster | None = None
        self._seats: Ints = np.zeros(0, np.int64)

    def step(self, part: Part) -> Step:
        """Take in a part; says what follows. Deterministic: the same parts in the same order give the same."""
        timing = part.roster.timing
        if part.roster is not self._roster:
            self._follow(part.roster)
        self.times.know(part.partitions)
        step = Step({}, [], False)
        if len(part.asset):
            self._take(part, step)
        for partition, newest in part.newest.items():
            self.times.see(partition, newest)
        for silence in part.silences:
            self.times.silent(silence.partition, silence.since, silence.now, timing.idle_after)
        self.times.advance(part.now, timing.lateness)
        for partition, lane in self.lanes.items():
            lane.advance(self.times.of(partition), timing, step.lanes.setdefault(partition, Found()))
        tick = part.now // timing.provisional_every
        if tick > self.tick:
            self.tick, step.provisional = tick, True
            self._run(part.now, part.roster, step)
        return step

    def lane_of(self, asset_id: str) -> tuple[Lane, int] | None:
        """The lane of an asset and its index there; None for one that was never heard of."""
        home = self.home.get(asset_id)
        return None if home is None else (self.lanes[home >> _SLOT_BITS], home & ((1 << _SLOT_BITS) - 1))

    def _follow(self, roster: Roster) -> None:
        """The configuration changed: its assets have other rows, perhaps another `max_w`."""
        self._roster = roster
        self._seats = np.array([self.home.get(asset_id, -1) for asset_id in roster.ids], np.int64)
        for lane in self.lanes.values():
            lane.keys.bound_by(roster.max_w)

    def _take(self, part: Part, step: Step) -> None:
        timing, homes = part.roster.timing, self._homes(part)
        lane_of, slot = homes >> _SLOT_BITS, homes & ((1 << _SLOT_BITS) - 1)
        self._note_strays(part, lane_of, step)
        for partition in np.unique(lane_of).tolist():
            lane, mine = self.lanes[partition], np.flatnonzero(lane_of == partition)
            readings, offset = part.readings[mine], part.offset[mine]
            readings["key"] = lane.keys.of(slot[mine], part.phase[mine], part.roster.limits[part.asset[mine]])
            met = np.full(len(mine), self.times.of(partition))
            own = part.partition[mine] == partition
            met[own] = self.times.passing(partition, part.before[mine][own], part.now, timing.lateness)
            # Each reading is judged by the watermark it met, not by where its poll was cut: so runs differ in nothing.
            cuts = cut_of(met, timing)
            found = step.lanes.setdefault(partition, Found())
            for cut in np.unique(cuts).tolist():
                stage = cuts == cut
                if cut > lane.cut:
                    lane.advance(int(met[stage].min()), timing, found)
                if stage.all():
                    lane.add(readings, offset, found)
                else:
                    lane.add(readings[stage], offset[stage], found)

    def _homes(self, part: Part) -> Ints:
        """Lane and index of each reading's asset as one integer; new assets live where they are first heard."""
        homes = self._seats[part.asset]
        strange = np.flatnonzero(homes < 0)
        if len(strange):
            rows, first = np.unique(part.asset[strange], return_index=True)
            for row, partition in zip(rows.tolist(), part.partition[strange[first]].tolist(), strict=True):
                if partition not in self.lanes:
                    self.lanes[partition] = Lane()
                asset_id = part.roster.ids[row]
                slot = self.lanes[partition].keys.add_asset(asset_id)
                self._seats[row] = self.home[asset_id] = partition << _SLOT_BITS | slot
            homes = self._seats[part.asset]
        return homes

    def _note_strays(self, part: Part, lane_of: Ints, step: Step) -> None:
        for row in np.flatnonzero(lane_of != part.partition).tolist():
            asset_id, other = part.roster.ids[part.asset[row]], int(part.partition[row])
            if (asset_id, other) not in self.stray:
                self.stray.add((asset_id, other))
                step.strays.append((asset_id, int(lane_of[row]), other))

    def _run(self, now: int, roster: Roster, step: Step) -> None:
        for partition, lane in self.lanes.items():
            reporting = np.array([roster.reporting_scope(asset_id) is not None for asset_id in lane.keys.assets], np.bool_)
            lane.run(reporting[lane.keys.asset], now, roster.timing, step.lanes.setdefault(partition, Found()))
