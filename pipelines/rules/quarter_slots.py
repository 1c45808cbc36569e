"""The quarters a shard keeps: records in one pool, and which of them is whose (semantics 1.9, 1.10).

A record is made when a quarter of a key gets its first reading or row, and goes back to the pool when the quarter can no
longer change: so memory follows what is open and revisable, whatever came before.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_minutes import MINUTE, QUARTER, fold, lacking, power_rows
from pipelines.rules.quarter_readings import Flags, Floats, Ints, Table
from schemas.intervals import MINUTES_PER_QUARTER, QUARTER_MS

_NONE = -1
_NEAR = 8

Packed = tuple[NDArray[np.int32], NDArray[np.void], NDArray[np.void]]
"""Keys, and their records of one quarter: minutes (of as many columns as have begun) and quarters."""


class Slots:
    """Records (`minutes`, `quarters`) by slot, and `slots[block, key]`: the slot of a key's quarter that begins at `starts[block]`, or -1.

    `base_at`, `base_w` are each key's last power before the quarters that are kept; -1 for none.
    """

    def __init__(self) -> None:
        self.starts: Ints = np.zeros(0, np.int64)
        self.slots: NDArray[np.int32] = np.zeros((0, 0), np.int32)
        self.minutes: Table = np.zeros((0, MINUTES_PER_QUARTER), MINUTE)
        self.quarters: Table = np.zeros(0, QUARTER)
        self.base_at: Ints = np.zeros(0, np.int64)
        self.base_w: Floats = np.zeros(0)
        self._free: NDArray[np.int32] = np.zeros(0, np.int32)
        self._left = 0

    @property
    def used(self) -> int:
        """How many records there are."""
        return len(self.quarters) - self._left

    def know(self, keys: int) -> None:
        """There are so many keys now."""
        more = keys - len(self.base_at)
        if more > 0:
            self.base_at = np.concatenate((self.base_at, np.full(more, _NONE, np.int64)))
            self.base_w = np.concatenate((self.base_w, np.zeros(more)))
        if keys > self.slots.shape[1]:
            wider = np.full((len(self.starts), max(keys, 2 * self.slots.shape[1])), _NONE, np.int32)
            wider[:, : self.slots.shape[1]] = self.slots
            self.slots = wider

    def fold(self, rows: Table, order: Ints) -> NDArray[np.int8]:
        """Take readings in, in `order`; what becomes of each (`ACCEPTED`, ...). Their quarters must not be forgotten ones."""
        verdicts = np.zeros(len(rows), np.int8)
        if len(rows):
            first, last = int(rows["at"].min()) // QUARTER_MS, int(rows["at"].max()) // QUARTER_MS
            near = last - first < _NEAR
            self._make_blocks((np.arange(first, last + 1) if near else np.unique(rows["at"] // QUARTER_MS)) * QUARTER_MS)
            self._room(lacking(rows, order, self.starts, self.slots))
            words = rows.view(np.uint64).reshape(len(rows), -1)
            self._left = fold(rows, words, order, self.starts, self.slots, self._free, self._left, self.minutes, self.quarters, verdicts)
        return verdicts

    def of(self, key: NDArray[np.int32], start: Ints, *, make: bool = False) -> NDArray[np.int32]:
        """The slot of each quarter (key, start); -1 where there is none, or, with `make`, a new empty one."""
        if make:
            self._make_blocks(np.unique(start))
            block = np.searchsorted(self.starts, start)
            lacking = np.flatnonzero(self.slots[block, key] < 0)
            self._room(len(lacking))
            fresh = self._free[self._left - len(lacking) : self._left]
            self._left -= len(lacking)
            self.quarters[fresh] = _EMPTY
            self.minutes[fresh] = np.zeros(1, MINUTE)
            self.slots[block[lacking], key[lacking]] = fresh
            return self.slots[block, key]
        found = np.full(len(key), _NONE, np.int32)
        if len(self.starts):
            block = np.minimum(np.searchsorted(self.starts, start), len(self.starts) - 1)
            there = self.starts[block] == start
            found[there] = self.slots[block[there], key[there]]
        return found

    def packed(self, start: int, key: Ints) -> Packed:
        """What is kept of one quarter of some keys that have it, without the minutes that nobody has begun."""
        slot = self.slots[np.searchsorted(self.starts, start), key]
        begun = np.flatnonzero((self.minutes["seen"][slot] != 0).any(axis=0))
        width = int(begun[-1]) + 1 if len(begun) else 0
        return key.astype(np.int32), np.ascontiguousarray(self.minutes[slot, :width]), self.quarters[slot]

    def unpack(self, parts: Iterable[tuple[int, Packed]]) -> None:
        """Put back what `packed` gave, by the quarter's start; those keys must not have that quarter yet."""
        for start, (key, minutes, quarters) in parts:
            slot = self.of(key, np.full(len(key), start, np.int64), make=True)
            self.minutes[slot[:, None], np.arange(minutes.shape[1])[None, :]] = minutes
            self.quarters[slot] = quarters

    def power(self, key: NDArray[np.int32], start: Ints, max_hold: int, until: int | None) -> Floats:
        """The columns of `power_rows` for the quarters (key, start)."""
        out = np.zeros((len(key), 5))
        power_rows(
            key, start, self.starts, self.slots, self.minutes, self.quarters,
            self.base_at, self.base_w, max_hold, -1 if until is None else until, out,
        )  # fmt: skip
        return out

    def open_copy(self, keys: Ints, since: int) -> "Slots":
        """A copy of what is kept of some keys in quarters that end after `since`, to try things out on."""
        copy, few = Slots(), self.starts + QUARTER_MS > since
        chosen = np.zeros(self.slots.shape[1], np.bool_)
        chosen[keys] = True
        copy.starts, copy.slots = self.starts[few], np.where(chosen, self.slots[few], _NONE).astype(np.int32)
        block, key = np.nonzero(copy.slots >= 0)
        slot = copy.slots[block, key]
        copy.minutes, copy.quarters = self.minutes[slot], self.quarters[slot]
        copy.slots[block, key] = np.arange(len(slot), dtype=np.int32)
        copy.base_at, copy.base_w, copy._free = self.base_at, self.base_w, np.zeros(len(slot), np.int32)
        return copy

    def forget(self, cut: Ints) -> None:
        """Quarters that begin before their key's `cut` are no longer kept; their last power is."""
        gone = np.flatnonzero(self.starts < cut.max(initial=0))
        for block in gone.tolist():
            key = np.flatnonzero((self.slots[block, : len(cut)] >= 0) & (self.starts[block] < cut))
            slot = self.slots[block, key]
            self._carry(key, int(self.starts[block]), slot)
            self._free[self._left : self._left + len(slot)] = slot
            self._left += len(slot)
            self.slots[block, key] = _NONE
        if len(gone):
            empty = np.concatenate([(self.slots[gone] < 0).all(axis=1), np.zeros(len(self.starts) - len(gone), np.bool_)])
            self.starts, self.slots = self.starts[~empty], self.slots[~empty]

    def _carry(self, key: Ints, start: int, slot: NDArray[np.int32]) -> None:
        counted = self.minutes["count"][slot] > 0
        some = np.flatnonzero(counted.any(axis=1))
        minute = MINUTES_PER_QUARTER - 1 - np.argmax(counted[some, ::-1], axis=1)
        self.base_at[key[some]] = start + minute * 60_000 + self.minutes["last_ms"][slot[some], minute]
        self.base_w[key[some]] = self.minutes["last"][slot[some], minute]

    def select(self, keys: Flags) -> None:
        """Keep only these keys, which have no gaps between them afterwards; the others must have nothing left here."""
        self.slots = np.ascontiguousarray(self.slots[:, : len(keys)][:, keys])
        self.base_at, self.base_w = self.base_at[keys], self.base_w[keys]

    def _make_blocks(self, starts: Ints) -> None:
        new = np.setdiff1d(starts, self.starts)
        if len(new):
            blank = np.full((len(new), self.slots.shape[1]), _NONE, np.int32)
            both, rows = np.concatenate((self.starts, new)), np.vstack((self.slots, blank))
            order = np.argsort(both)
            self.starts, self.slots = both[order], np.ascontiguousarray(rows[order])

    def _room(self, wanted: int) -> None:
        """At least so many free records."""
        if wanted <= self._left:
            return
        size = len(self.quarters)
        more = max(wanted - self._left, size // 4, 64)
        minutes, quarters = np.empty((size + more, MINUTES_PER_QUARTER), MINUTE), np.empty(size + more, QUARTER)
        minutes[:size], quarters[:size] = self.minutes, self.quarters  # what is not used yet takes no memory
        self.minutes, self.quarters = minutes, quarters
        free = np.zeros(size + more, np.int32)
        free[: self._left] = self._free[: self._left]
        free[self._left : self._left + more] = np.arange(size + more - 1, size - 1, -1)
        self._free, self._left = free, self._left + more


_EMPTY = np.zeros(1, QUARTER)
_EMPTY["min_w"] = _EMPTY["max_w"] = _EMPTY["stored_wh"] = np.nan
_EMPTY["stored_ms"] = _EMPTY["newest_ms"] = -1
