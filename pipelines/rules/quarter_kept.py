"""The register values a shard keeps: those that may still decide what energy a quarter has (semantics 1.1, 1.2).

Of values that follow each other within a minute and only rise, the first and the last of a quarter are enough: energy is
the difference between its ends. The others are dropped, and the value behind them is marked `THINNED`. All others stay:
what is slower, what fell and what lies around it. A late value that fits between the two it comes among has risen like
those that were dropped; of one that does not fit it can no longer be said what it is: it is `unsure`, for a repair to decide.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import EXPORT, IMPORT, Flags, Floats, Ints, Table, joined, position
from pipelines.rules.quarter_registers import HOUR_MS
from schemas.intervals import QUARTER_MS

THINNED_IMPORT, THINNED_EXPORT = 32, 64
"""Bits of `flags`: values of that register between the kept one before and this one were dropped."""
DENSE_MS = 60_000
"""Only values that come faster than this are dropped."""
CALM = 2
"""After a fall the value that ends so many rises counts whatever the fall turns out to be (three in a row make a base)."""


def merged(kept: Table, fresh: Table, max_w: Floats) -> tuple[Table, Table]:
    """Both tables as one by key and instant, thinned out, and the fresh readings whose register values are unsure.

    Both are in that order; `fresh` are readings that count. `max_w` is by key.
    """
    rows = joined([kept, fresh])
    order = np.argsort(position(rows["key"], rows["at"]), kind="stable")
    rows, new = rows[order], order >= len(kept)
    unsure = np.zeros(len(rows), np.bool_)
    for flag, thinned, name in ((IMPORT, THINNED_IMPORT, "import_wh"), (EXPORT, THINNED_EXPORT, "export_wh")):
        value = np.ascontiguousarray(rows[name])
        if len(kept) and new.any():
            fit(rows["key"], rows["at"], value, rows["flags"], new, max_w, flag, thinned, unsure)
        thin(rows["key"], rows["at"], value, rows["flags"], flag, thinned)
    doubtful = rows[unsure]
    return rows[(rows["flags"] & (IMPORT | EXPORT)) != 0], doubtful


@njit(cache=True, nogil=True)
def fit(
    key: NDArray[np.int32], at: Ints, value: Floats, flags: NDArray[np.uint8], new: Flags, max_w: Floats, flag: int, thinned: int,
    unsure: Flags,
) -> None:  # fmt: skip
    """Judge new values that came where others had been dropped; unsure ones lose their flag."""
    following = -1
    count = len(key)
    # Backwards, so that the old value behind each new one is known; the one before it is looked for.
    for i in range(count - 1, -1, -1):
        if not flags[i] & flag or value[i] < 0:
            continue
        if following >= 0 and key[following] != key[i]:
            following = -1
        if not new[i]:
            following = i
            continue
        if following < 0 or not flags[following] & thinned:
            continue
        before = i - 1
        while before >= 0 and key[before] == key[i] and (new[before] or not flags[before] & flag or value[before] < 0):
            before -= 1
        low = value[before]  # there is one: something was dropped behind it
        fallen = value[i] < low and value[i] > max_w[key[i]] * (at[i] - at[before]) / HOUR_MS
        if fallen or low <= value[i] <= value[following]:
            flags[i] |= thinned
        else:
            flags[i] &= ~flag & 0xFF
            unsure[i] = True


@njit(cache=True, nogil=True)
def thin(key: NDArray[np.int32], at: Ints, value: Floats, flags: NDArray[np.uint8], flag: int, thinned: int) -> None:
    """Take the flag from values that no longer matter, and mark the ones behind them."""
    kept, middle = -1, -1
    kept_calm, middle_calm = 0, 0
    for i in range(len(key)):
        if not flags[i] & flag or value[i] < 0:
            continue
        if kept < 0 or key[kept] != key[i]:
            kept, kept_calm, middle = i, CALM, -1
            continue
        if middle < 0:
            middle, middle_calm = i, min(CALM, kept_calm + 1) if value[i] >= value[kept] else 0
            continue
        calm = min(CALM, middle_calm + 1) if value[i] >= value[middle] else 0
        rises = kept_calm == CALM and middle_calm == CALM and calm == CALM
        quarter = at[i] // QUARTER_MS
        if rises and at[i] - at[middle] < DENSE_MS and at[kept] // QUARTER_MS == quarter == at[middle] // QUARTER_MS:
            flags[middle] &= ~flag & 0xFF
            flags[i] |= thinned
        else:
            kept, kept_calm = middle, middle_calm
        middle, middle_calm = i, calm
