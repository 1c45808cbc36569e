"""The assets of one Kafka partition in one shard: they share a watermark, so they close together (semantics 1.9, 1.10).

A quarter of a key is open until `closed`, then revisable until `cut` passes it, then gone. What lies before is carried
as a few readings (`quarter_standing`): `tail` up to each key's `closed`, `base` up to `cut`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_blocks import Block
from pipelines.rules.quarter_hours import Judged, MeterTiming, judged, rows_of
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_readings import EXPORT, IMPORT, Flags, Ints, Table, joined, no_readings
from pipelines.rules.quarter_standing import standing
from pipelines.rules.quarter_written import Written
from schemas.intervals import QUARTER_MS

_CHUNK = 4096
"""So many keys are computed at once: enough for numpy, and little memory."""


@dataclass
class Found:
    """What a step of a lane brought to light, in tables; keys are the lane's."""

    rows: list[NDArray[np.void]] = field(default_factory=list)
    revisions: list[NDArray[np.int32]] = field(default_factory=list)
    running: list[NDArray[np.void]] = field(default_factory=list)
    late: list[tuple[Table, Ints, int]] = field(default_factory=list)
    """Readings too late for their quarter, their offsets, and the watermark they met."""
    conflicts: list[tuple[NDArray[np.int32], Ints]] = field(default_factory=list)
    closed: list[NDArray[np.int32]] = field(default_factory=list)
    """Keys whose `closed` was set or moved on."""


class Lane:
    """State of the keys of one partition, and the steps it takes. Instants are ms."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.watermark, self.cut, self.next_close = 0, 0, 0
        self.blocks: dict[int, Block] = {}
        self.written = Written()
        self.base, self.tail = no_readings(), no_readings()

    def add(self, readings: Table, offset: Ints, found: Found) -> None:
        """Take in readings (their `key` set) in order of arrival, all judged by the present watermark."""
        keys, start = self.keys, readings["at"] // QUARTER_MS * QUARTER_MS
        fresh = keys.closed[readings["key"]] < 0
        if fresh.any():
            open_from = np.minimum(start[fresh], self.watermark // QUARTER_MS * QUARTER_MS)
            keys.begin(readings["key"][fresh], np.maximum(open_from, self.cut))
            found.closed.append(np.unique(readings["key"][fresh]))
        late = start < self.cut
        if late.any():
            found.late.append((readings[late], offset[late], self.watermark))
            readings, start = readings[~late], start[~late]
        if not len(readings):
            return
        key, at = readings["key"].copy(), readings["at"]
        keys.touched[key] = True
        register = (readings["flags"] & (IMPORT | EXPORT)) != 0
        past = at < keys.closed[key]
        keys.dirty[key[past | (register & (at < keys.reached_until[key]))]] = True
        np.maximum.at(keys.last_register, key[register], at[register])
        self.next_close = min(self.next_close, int(keys.closed[key].min()) + QUARTER_MS)
        for quarter in np.unique(start).tolist():
            self.blocks.setdefault(quarter, Block()).add(readings[start == quarter] if (start != quarter).any() else readings)

    def advance(self, watermark: int, timing: MeterTiming, found: Found) -> None:
        """Event time has come to `watermark`: revise what late readings touched, close what is complete, forget what is past."""
        self.watermark = max(self.watermark, watermark)
        if self.keys.dirty.any():
            self._revise(timing, found)
        if self.watermark >= self.next_close:
            self._close(timing, found)
        cut = int(cut_of(np.int64(self.watermark), timing))
        if cut > self.cut:
            self._forget(cut, timing)

    def run(self, chosen: Flags, until: int, timing: MeterTiming, found: Found) -> None:
        """Compute the open quarters of those chosen keys that had readings since the last time, up to `until`."""
        keys = self.keys
        for some in _chunks(np.flatnonzero(chosen & keys.touched)):
            starts = [start for start in sorted(self.blocks) if start <= until]
            pairs = self._pairs(some, starts, keys.closed[some], np.full(len(some), until + 1))
            if len(pairs[0]):
                found.running.append(rows_of(self._known(some, self.tail, found), *pairs, timing, until))
        keys.touched[:] = False

    def _close(self, timing: MeterTiming, found: Found) -> None:
        keys = self.keys
        until = self._closable(timing)
        due = np.flatnonzero(until > keys.closed).astype(np.int32)
        for some in _chunks(due):
            pairs = self._pairs(some, self._candidates(timing), keys.closed[some], until[some])
            if len(pairs[0]):
                known = self._known(some, self.tail, found)
                self._write(rows_of(known, *pairs, timing), found)
                self._stand(known, some, until[some], timing)
            keys.closed[some] = until[some]
        if len(due):
            found.closed.append(due)
        waiting = bool((until < self.watermark // QUARTER_MS * QUARTER_MS)[keys.closed >= 0].any())
        self.next_close = 0 if waiting else self.watermark // QUARTER_MS * QUARTER_MS + QUARTER_MS

    def _closable(self, timing: MeterTiming) -> Ints:
        """Up to where each key's quarters may be closed now: a register's next value is waited for (1.9)."""
        keys = self.keys
        passed = self.watermark // QUARTER_MS * QUARTER_MS
        last = keys.last_register
        # The first end that is neither reached by a value nor waited for long enough; before max_interpolation, a value would tell.
        end = np.maximum(np.maximum(last, self.watermark - timing.register_wait) // QUARTER_MS * QUARTER_MS, keys.closed) + QUARTER_MS
        waits = (last > 0) & (end <= passed) & (end <= last + timing.max_interpolation)
        return np.where(keys.closed < 0, -1, np.maximum(np.where(waits, end - QUARTER_MS, passed), keys.closed))

    def _revise(self, timing: MeterTiming, found: Found) -> None:
        keys = self.keys
        for some in _chunks(np.flatnonzero(keys.dirty)):
            known = self._known(some, self.base, found)
            pairs = self._pairs(some, self._candidates(timing), np.full(len(some), self.cut), keys.closed[some])
            if len(pairs[0]):
                self._write(rows_of(known, *pairs, timing), found)
            self._stand(known, some, keys.closed[some], timing)
        keys.dirty[:] = False

    def _forget(self, cut: int, timing: MeterTiming) -> None:
        gone = [start for start in self.blocks if start < cut]
        self.cut = cut
        if not gone:
            self.written.forget(cut)
            return
        touched = np.unique(np.concatenate([self.blocks[start].rows()["key"] for start in gone]))
        parts = [self.base[~self.keys.among(touched)[self.base["key"]]]]
        for some in _chunks(touched):
            wanted = self.keys.among(some)
            rows = [self.base[wanted[self.base["key"]]], *(self.blocks[start].of(wanted, some) for start in sorted(gone))]
            known = judged(joined(rows), self.keys.max_w)
            parts.append(standing(known, some, np.full(len(some), cut), self.keys.max_w, timing.max_interpolation).carried)
        self.base = joined(parts)
        for start in gone:
            del self.blocks[start]
        self.written.forget(cut)

    def _candidates(self, timing: MeterTiming) -> list[int]:
        """The quarters that can have a row: those with readings, and those a register may bridge up to one of them."""
        reach = -(-timing.max_interpolation // QUARTER_MS) * QUARTER_MS
        return sorted({start - back for start in self.blocks for back in range(0, reach + 1, QUARTER_MS)})

    def _pairs(self, some: NDArray[np.int32], starts: list[int], begin: Ints, until: Ints) -> tuple[NDArray[np.int32], Ints]:
        """(key, start) in order, for the starts within [begin, until) of each key."""
        low, high = int(begin.min()), int(until.max())
        near = np.array([start for start in starts if low <= start < high], np.int64)
        index, which = np.nonzero((near >= begin[:, None]) & (near < until[:, None]))
        return some[index], near[which]

    def _known(self, some: NDArray[np.int32], before: Table, found: Found) -> Judged:
        """All that is known of some keys: what is carried from before, and their readings in the blocks since."""
        wanted = self.keys.among(some)
        parts = [before[wanted[before["key"]]]]
        since = self.cut if before is self.base else int(self.keys.closed[some].min())
        for start in sorted(self.blocks):
            if start < since:
                continue
            block = self.blocks[start]
            if block.untidy() or (start + QUARTER_MS <= self.watermark and block.ordered < block.size):
                told = block.tidy()
                if len(told.conflict_key):
                    found.conflicts.append((told.conflict_key, told.conflict_at))
            rows = block.of(wanted, some)
            if before is not self.base:  # the tail of each key stands for all before its own `closed`
                rows = rows[rows["at"] >= self.keys.closed[rows["key"]]]
            parts.append(rows)
        return judged(joined(parts), self.keys.max_w)

    def _stand(self, known: Judged, some: NDArray[np.int32], at: Ints, timing: MeterTiming) -> None:
        stands = standing(known, some, at, self.keys.max_w, timing.max_interpolation)
        rest = self.tail[~self.keys.among(some)[self.tail["key"]]]
        self.tail = joined([rest, stands.carried])
        self.keys.reached_until[some] = stands.reached_until

    def _write(self, rows: NDArray[np.void], found: Found) -> None:
        changed, revisions = self.written.revise(rows, len(self.keys.closed))
        if len(changed):
            found.rows.append(changed)
            found.revisions.append(revisions)


def _chunks(keys: NDArray[np.integer]) -> Iterator[NDArray[np.int32]]:
    for first in range(0, len(keys), _CHUNK):
        yield keys[first : first + _CHUNK].astype(np.int32)


def cut_of(watermark: Ints | np.int64, timing: MeterTiming) -> Ints | np.int64:
    """The start of the first quarter that may still be revised: it ends at most the horizon before the watermark (1.10)."""
    return np.maximum(0, -(-(watermark - timing.horizon - QUARTER_MS) // QUARTER_MS) * QUARTER_MS)
