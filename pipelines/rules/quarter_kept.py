"""The register values a shard keeps: those that may still decide what energy a quarter has (semantics 1.1, 1.2).

Of values that follow each other within a minute and only rise, the first and the last of a quarter are enough: energy is
the difference between its ends. The others are dropped, and the value behind them is marked `THINNED`. All others stay:
what is slower, what fell and what lies around it. A late value that fits between the two it comes among has risen like
those that were dropped; of one that does not fit it can no longer be said what it is: it is `unsure`, for a repair to decide.
"""

from typing import Any

import numpy as np
from numba import njit

from pipelines.rules.quarter_readings import EXPORT, IMPORT, Flags, Floats, Ints, Records, Table
from pipelines.rules.quarter_registers import HOUR_MS
from schemas.intervals import QUARTER_MS

THINNED = 16
"""IMPORT and EXPORT times this are bits of `flags`: values of that register between the kept one before and this one were dropped."""
DENSE_MS = 60_000
"""Only values that come faster than this are dropped."""
CALM = 2
"""After a fall the value that ends so many rises counts whatever the fall turns out to be (three in a row make a base)."""


def merged(kept: Table, rows: Table, fresh: Ints, max_w: Floats) -> tuple[Table, Table]:
    """The kept values with the register values of `rows[fresh]` among them, thinned out, and the rows that are unsure.

    `kept` is by key and instant, and so is `fresh`: indexes of readings that count. `max_w` is by key.
    """
    out, new = np.empty(len(kept) + len(fresh), kept.dtype), np.zeros(len(kept) + len(fresh), np.bool_)
    unsure = np.zeros(len(fresh), np.int64)
    size, doubtful = _merge(kept, rows, fresh, max_w, out, new, unsure)
    return out[:size], rows[unsure[:doubtful]]


@njit(cache=True, nogil=True)
def _merge(
    kept: Records, rows: Records, fresh: Ints, max_w: Floats, out: Records, new: Flags, unsure: Ints
) -> tuple[int, int]:  # fmt: skip
    i = j = size = doubtful = 0
    while i < len(kept) or j < len(fresh):
        key = kept[i].key if i < len(kept) else rows[fresh[j]].key
        if j < len(fresh):
            key = min(key, rows[fresh[j]].key)
        begin, first, among = size, j, False
        while True:
            old = i < len(kept) and kept[i].key == key
            young = j < len(fresh) and rows[fresh[j]].key == key
            if not old and not young:
                break
            new[size] = young and (not old or rows[fresh[j]].at < kept[i].at)
            if new[size]:
                among = among or old
                out[size] = rows[fresh[j]]
                out[size].flags &= IMPORT | EXPORT
                j += 1
            else:
                out[size] = kept[i]
                i += 1
            size += 1
        if j == first:
            continue  # nothing new of this key
        if among:
            doubtful = _fit(out, begin, size, new, max_w[key], IMPORT, rows, fresh, first, j, unsure, doubtful)
            doubtful = _fit(out, begin, size, new, max_w[key], EXPORT, rows, fresh, first, j, unsure, doubtful)
        _thin(out, begin, size, IMPORT)
        _thin(out, begin, size, EXPORT)
        size = _without_empty(out, begin, size)
    return size, doubtful


@njit(cache=True, nogil=True)
def _without_empty(out: Records, begin: int, end: int) -> int:
    size = begin
    for i in range(begin, end):
        if out[i].flags & (IMPORT | EXPORT):
            if size < i:
                out[size] = out[i]
            size += 1
    return size


@njit(cache=True, nogil=True)
def _value(row: Any, flag: int) -> float:
    """The row's value of that register; -1 where it has none that could count."""
    if not row.flags & flag:
        return -1.0
    return row.import_wh if flag == IMPORT else row.export_wh  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _fit(
    out: Records, begin: int, end: int, new: Flags, max_w: float, flag: int, rows: Records, fresh: Ints, first: int, last: int,
    unsure: Ints, doubtful: int,
) -> int:  # fmt: skip
    """Judge one key's new values that came where others had been dropped; unsure ones lose their flag."""
    thinned, following = flag * THINNED, -1
    for i in range(end - 1, begin - 1, -1):  # backwards: so the old value behind each new one is known
        value = _value(out[i], flag)
        if value < 0:
            continue
        if not new[i]:
            following = i
            continue
        if following < 0 or not out[following].flags & thinned:
            continue
        before = i - 1  # there is one: something was dropped behind it
        while new[before] or _value(out[before], flag) < 0:
            before -= 1
        low = _value(out[before], flag)
        fallen = value < low and value > max_w * (out[i].at - out[before].at) / HOUR_MS
        if fallen or low <= value <= _value(out[following], flag):
            out[i].flags |= thinned
            continue
        out[i].flags &= ~flag & 0xFF
        for j in range(first, last):
            if rows[fresh[j]].at == out[i].at and (doubtful == 0 or unsure[doubtful - 1] != fresh[j]):
                unsure[doubtful] = fresh[j]
                doubtful += 1
    return doubtful


@njit(cache=True, nogil=True)
def _thin(out: Records, begin: int, end: int, flag: int) -> None:
    """Take the flag from one key's values that no longer matter, and mark the ones behind them."""
    kept, middle = -1, -1
    kept_calm, middle_calm, kept_value, middle_value = 0, 0, 0.0, 0.0
    for i in range(begin, end):
        value = _value(out[i], flag)
        if value < 0:
            continue
        if kept < 0:
            kept, kept_calm, kept_value = i, CALM, value
            continue
        if middle < 0:
            middle, middle_calm, middle_value = i, min(CALM, kept_calm + 1) if value >= kept_value else 0, value
            continue
        calm = min(CALM, middle_calm + 1) if value >= middle_value else 0
        rises = kept_calm == CALM and middle_calm == CALM and calm == CALM
        quarter = out[i].at // QUARTER_MS
        if rises and out[i].at - out[middle].at < DENSE_MS and out[kept].at // QUARTER_MS == quarter:
            out[middle].flags &= ~flag & 0xFF
            out[i].flags |= flag * THINNED
        else:
            kept, kept_calm, kept_value = middle, middle_calm, middle_value
        middle, middle_calm, middle_value = i, calm, value
