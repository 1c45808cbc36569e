"""What a quarter hour keeps of its readings once they are in order: minutes of power, and who was seen (semantics 1.3 to 1.7).

One record a minute and one a quarter, for each asset and phase with readings in it: 690 bytes, however many readings came.
These are the loops over readings: compiled, and the only place of the metering rule that is.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import ESTIMATED, POWER, STORED, Floats, Ints, Records
from schemas.intervals import MINUTES_PER_QUARTER, QUARTER_MS

MINUTE_MS, SECOND_MS = 60_000, 1_000
MINUTES_PER_HOUR = 60

MINUTE = np.dtype(
    [("total", np.float64), ("last", np.float64), ("seen", np.uint64), ("mark_a", np.uint64), ("mark_b", np.uint64),
     ("last_ms", np.uint16), ("count", np.uint8)]
)  # fmt: skip
"""One minute: sum, last and count of its powers, the seconds in which there was a reading (a bit each), and marks of those
readings' values: 128 bits of which each reading sets a few, so that a repeated reading can be told from a differing one."""

QUARTER = np.dtype(
    [("min_w", np.float64), ("max_w", np.float64), ("stored_wh", np.float64), ("stored_ms", np.int32), ("newest_ms", np.int32),
     ("samples", np.int32), ("powers", np.int32), ("estimated", np.bool_), ("revision", np.int32), ("digest", np.uint64)]
)  # fmt: skip
"""One quarter: extremes, last state of charge, counts, and revision and digest of the row last written (0: none)."""

ACCEPTED, REPEATED, CONFLICT = 0, 1, 2
"""What becomes of a reading: it counts; it changes nothing; it differs from the first of its identity and does not count."""

_ONE = np.uint64(1)
_LOW = np.uint64(63)
_MIX_A, _MIX_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S31, _S6 = np.uint64(27), np.uint64(31), np.uint64(6)


@njit(cache=True, nogil=True)
def in_order(rows: Records, keys: int) -> Ints:
    """The indexes of the rows by key and instant, those of one identity in order of arrival. `keys` is the number of keys."""
    first = np.zeros(keys + 1, np.int64)
    for i in range(len(rows)):
        first[rows[i].key + 1] += 1
    for k in range(keys):
        first[k + 1] += first[k]
    order, filled = np.empty(len(rows), np.int64), first[:-1].copy()
    for i in range(len(rows)):
        k = rows[i].key
        order[filled[k]] = i
        filled[k] += 1
    for k in range(keys):
        low, high = first[k], first[k + 1]
        moved = 0
        for j in range(low + 1, high):  # nearly in order as they come: then this is linear
            one, at, place = order[j], rows[order[j]].at, j
            while place > low and rows[order[place - 1]].at > at and moved < 64 * (high - low):
                order[place] = order[place - 1]
                place -= 1
                moved += 1
            order[place] = one
        if moved >= 64 * (high - low) and high > low:
            instants = np.empty(high - low, np.int64)
            own = np.sort(order[low:high])
            for j in range(high - low):
                instants[j] = rows[own[j]].at
            order[low:high] = own[np.argsort(instants, kind="mergesort")]
    return order


@njit(cache=True, nogil=True)
def _mixed(word: np.uint64, other: np.uint64) -> np.uint64:
    word = (word ^ other) * _MIX_A
    word = (word ^ (word >> _S27)) * _MIX_B
    return word ^ (word >> _S31)


@njit(cache=True, nogil=True)
def _marked(minute: Any, mark: np.uint64, put: bool) -> bool:
    """Whether all bits of a mark were set already; with `put` they are afterwards."""
    known = True
    for turn in range(3):
        bit = (mark >> np.uint64(7 * turn)) & np.uint64(127)
        mask = _ONE << (bit & _LOW)
        if bit >> _S6:
            known = known and (minute.mark_b & mask) != 0
            if put:
                minute.mark_b |= mask
        else:
            known = known and (minute.mark_a & mask) != 0
            if put:
                minute.mark_a |= mask
    return known


@njit(cache=True, nogil=True)
def lacking(rows: Records, order: Ints, starts: Ints, slots: NDArray[np.int32]) -> int:
    """How many quarters of the rows have no record yet. `starts` holds all of them."""
    key, start, count = -1, -1, 0
    for j in range(len(order)):
        row = rows[order[j]]
        begins = row.at - row.at % QUARTER_MS
        if row.key != key or begins != start:
            key, start = row.key, begins
            count += slots[np.searchsorted(starts, start), key] < 0
    return count


@njit(cache=True, nogil=True)
def fold(
    rows: Records, words: NDArray[np.uint64], order: Ints, starts: Ints, slots: NDArray[np.int32], free: NDArray[np.int32], left: int,
    minutes: Records, quarters: Records, verdicts: NDArray[np.int8],
) -> int:  # fmt: skip
    """Take readings (`rows`, in `order`; `words` are the same bytes as 64-bit words) into their quarters, and say of each
    in `verdicts` what becomes of it. A quarter's record is made of the last of `free` (of which there are `left`; what is
    left afterwards is returned) where `slots` has none. `starts` are the quarters there are, ascending, as `slots` has them.
    """
    key, start, slot, kept = -1, -1, -1, -1
    for j in range(len(order)):
        i = order[j]
        row = rows[i]
        at = row.at
        begins = at - at % QUARTER_MS
        if row.key != key or begins != start:
            key, start = row.key, begins
            block = np.searchsorted(starts, start)
            slot = slots[block, key]
            if slot < 0:
                left -= 1
                slot = free[left]
                slots[block, key] = slot
                _begin(minutes[slot], quarters, slot)
        within = at - start
        minute = minutes[slot, within // MINUTE_MS]
        bit = _ONE << np.uint64(within % MINUTE_MS // SECOND_MS)
        instant = _mixed(np.uint64(at), _MIX_B)
        mark = _mixed(instant, words[i, 0] >> np.uint64(32) & np.uint64(0xFF))
        for value in range(2, 6):
            mark = _mixed(mark, words[i, value])
        if minute.seen & bit:
            verdicts[i] = _again(rows, words, i, kept, minute, instant, mark)
            continue
        verdicts[i], kept = ACCEPTED, i
        minute.seen |= bit
        _marked(minute, mark, True)
        if at % SECOND_MS:
            _marked(minute, instant, True)
        _count(row, within, minute, quarters[slot])
    return left


@njit(cache=True, nogil=True)
def _begin(minutes: Records, quarters: Records, slot: int) -> None:
    for each in range(MINUTES_PER_QUARTER):
        one = minutes[each]
        one.total = one.last = 0.0
        one.seen = one.mark_a = one.mark_b = np.uint64(0)
        one.last_ms = np.uint16(0)
        one.count = np.uint8(0)
    quarter = quarters[slot]
    quarter.min_w = quarter.max_w = quarter.stored_wh = np.nan
    quarter.stored_ms = quarter.newest_ms = -1
    quarter.samples = quarter.powers = quarter.revision = 0
    quarter.estimated = False
    quarter.digest = np.uint64(0)


@njit(cache=True, nogil=True)
def _again(
    rows: Records, words: NDArray[np.uint64], i: int, kept: int, minute: Any, instant: np.uint64, mark: np.uint64
) -> int:  # fmt: skip
    """What a reading is whose second has one already: exactly where that came beside it, else by the marks it left.

    Another instant of the same second is thinned out: it counts as repeated.
    """
    if kept >= 0 and rows[kept].key == rows[i].key and rows[kept].at == rows[i].at:
        if rows[kept].flags != rows[i].flags:
            return CONFLICT
        for word in range(2, 6):
            if words[kept, word] != words[i, word]:
                return CONFLICT
        return REPEATED
    if _marked(minute, mark, False):
        return REPEATED
    if rows[i].at % SECOND_MS == 0 or _marked(minute, instant, False):
        return CONFLICT
    _marked(minute, mark, True)
    return REPEATED


@njit(cache=True, nogil=True)
def _count(row: Any, within: int, minute: Any, quarter: Any) -> None:
    quarter.samples += 1
    quarter.newest_ms = max(quarter.newest_ms, within)
    if row.flags & ESTIMATED:
        quarter.estimated = True
    if row.flags & STORED and within >= quarter.stored_ms:
        quarter.stored_wh, quarter.stored_ms = row.stored_wh, within
    if row.flags & POWER:
        watts = row.power_w
        if minute.count == 0 or within % MINUTE_MS >= minute.last_ms:
            minute.last, minute.last_ms = watts, within % MINUTE_MS
        minute.total += watts
        minute.count += 1
        quarter.min_w = watts if quarter.powers == 0 else min(quarter.min_w, watts)
        quarter.max_w = watts if quarter.powers == 0 else max(quarter.max_w, watts)
        quarter.powers += 1


@njit(cache=True, nogil=True)
def last_power(key: int, before: int, since: int, starts: Ints, slots: NDArray[np.int32], minutes: Records) -> tuple[int, float]:
    """The instant and value of the key's last power in quarters that begin before `before` and end after `since`; (-1, 0) for none."""
    block = np.searchsorted(starts, before) - 1
    while block >= 0 and starts[block] + QUARTER_MS > since:
        slot = slots[block, key]
        if slot >= 0:
            for each in range(MINUTES_PER_QUARTER - 1, -1, -1):
                if minutes[slot, each].count:
                    return starts[block] + each * MINUTE_MS + minutes[slot, each].last_ms, minutes[slot, each].last
        block -= 1
    return -1, 0.0


@njit(cache=True, nogil=True)
def power_rows(
    key: NDArray[np.int32], start: Ints, starts: Ints, slots: NDArray[np.int32], minutes: Records, quarters: Records,
    base_at: Ints, base_w: Floats, max_hold: int, until: int, out: Floats,
) -> None:  # fmt: skip
    """The power of quarters (key, start) into the rows of `out`: import and export Wh, mean, covered minutes, last minute W.

    `base_at`, `base_w` are each key's last power before all quarters kept (-1: none). With `until` >= 0 time ends there.
    """
    for pair in range(len(key)):
        k, begins = key[pair], start[pair]
        held_at, held_w = last_power(k, begins, begins - max_hold, starts, slots, minutes)
        if held_at < 0 and base_at[k] >= 0:
            held_at, held_w = base_at[k], base_w[k]
        block = np.searchsorted(starts, begins)
        slot = slots[block, k] if block < len(starts) and starts[block] == begins else -1
        imported = exported = total = covered = 0.0
        running = last_minute = np.nan
        for each in range(MINUTES_PER_QUARTER):
            minute_at = begins + each * MINUTE_MS
            share = 1.0 if until < 0 else min(max((until - minute_at) / MINUTE_MS, 0.0), 1.0)
            if slot >= 0 and minutes[slot, each].count:
                mean = minutes[slot, each].total / minutes[slot, each].count
                held_at, held_w = minute_at + minutes[slot, each].last_ms, minutes[slot, each].last
            elif held_at >= 0 and minute_at - held_at < max_hold:
                mean = held_w
            else:
                continue
            if share <= 0.0:
                continue
            value = mean * share
            imported += max(value, 0.0)
            exported -= min(value, 0.0)
            total += value
            covered += share
            running = mean
            if share == 1.0:
                last_minute = mean
        out[pair, 0], out[pair, 1] = imported / MINUTES_PER_HOUR, exported / MINUTES_PER_HOUR
        out[pair, 2] = total / covered if covered > 0 else np.nan
        out[pair, 3] = covered
        out[pair, 4] = running if np.isnan(last_minute) else last_minute
