"""The sums of group rows, compiled: what `groups.group_content` says of one scope, for many at once (semantics 2).

Sums run in the order of members and phases, whatever the order in which rows came: a group's row is the same to the last bit.
Loops, because a scope's members differ quarter by quarter; numpy would need a pass for each question.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import Flags, Floats, Ints

NUMBERS = (
    "import_wh", "export_wh", "mean_w", "min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh", "coverage",
    "last_minute_w",
)  # fmt: skip
"""The columns of `numbers`, in the order of a row's (`quarter_hours.ROW`)."""
_IMPORT, _EXPORT, _MEAN, _MIN, _MAX, _STORED, _IMPORT_REGISTER, _EXPORT_REGISTER, _COVERAGE, _LAST_MINUTE = range(10)

HERE, ESTIMATED, RESET, RUNNING = 1, 2, 4, 8
"""Bits of `marks`: there is a row; two of what it says; it is a provisional one."""

NOTHING, METER, SUM = 0, 1, 2
"""What a scope's row is: none (members are waited for, or no row is there), the connection meter's, or the sum."""


@njit(cache=True, nogil=True)
def _total(
    seat: int, start: int, place: NDArray[np.int32], since: Ints, numbers: Floats, samples: Ints, marks: NDArray[np.uint8], total: Floats
) -> tuple[int, int]:
    """A member's row over its phases into `total`; its samples and marks (0: it has none).

    That of phase ALL where there is one, else the sum of the single ones. A phase is missed from the first quarter that
    had a row of it: coverage counts it as 0, registers and the like are not known then; extremes of a sum never are.
    """
    whole = place[seat, 0]
    if whole >= 0 and marks[whole] & HERE:
        total[:] = numbers[whole]
        return samples[whole], marks[whole]
    here, known, only = 0, 0, -1
    for phase in range(1, 4):
        at = place[seat, phase]
        if at >= 0 and marks[at] & HERE:
            here, known, only = here + 1, known + 1, at
        elif at >= 0 and since[at] <= start:
            known += 1
    if not here:
        return 0, 0
    if known == 1:
        total[:] = numbers[only]
        return samples[only], marks[only]
    total[:] = 0.0
    count, mark = 0, 0
    for phase in range(1, 4):
        at = place[seat, phase]
        if at >= 0 and marks[at] & HERE:
            total[:] += numbers[at]
            count += samples[at]
            mark |= marks[at]
    if here < known:
        total[_STORED], total[_IMPORT_REGISTER], total[_EXPORT_REGISTER], total[_LAST_MINUTE] = np.nan, np.nan, np.nan, np.nan
    total[_MIN], total[_MAX] = np.nan, np.nan
    total[_COVERAGE] /= known
    return count, mark


@njit(cache=True, nogil=True)
def sums(
    scopes: NDArray[np.int32], first: Ints, metered: Flags, seats: NDArray[np.int32], meters: Flags, begin: Ints, end: Ints,
    place: NDArray[np.int32], since: Ints, numbers: Floats, samples: Ints, marks: NDArray[np.uint8],
    settled: Ints, start: int, over: int, waiting: bool,
    out: Floats, out_samples: Ints, out_missing: Ints, out_marks: NDArray[np.uint8], kinds: NDArray[np.int8],
) -> None:  # fmt: skip
    """What each of `scopes` amounts to in the quarter from `start` (ms); `kinds` says what came of it.

    Members of scope s are `seats[first[s]:first[s + 1]]` in a fixed order, each bound for starts within [begin, end); `metered`
    says whether one of them was ever its meter (`meters`). `place` has
    for each seat and phase where its row is, `since` from when that phase is known. With `waiting` there is a row only
    if the meter, else all members, are `settled` up to the quarter's end, `over`.
    """
    total = np.empty(10, np.float64)
    for row in range(len(scopes)):
        low, high = first[scopes[row]], first[scopes[row] + 1]
        meter, bound, open_one = -1, 0, -1
        for i in range(low, high):
            if not begin[i] <= start < end[i]:
                continue
            bound += 1
            if open_one < 0 and settled[seats[i]] < over:
                open_one = i
                if waiting and not metered[scopes[row]]:
                    break
            if meters[i] and meter < 0:
                meter = i
        kinds[row] = NOTHING
        if meter >= 0:
            if waiting and settled[seats[meter]] < over:
                continue
            count, mark = _total(seats[meter], start, place, since, numbers, samples, marks, total)
            if mark:
                out[row], out_samples[row], out_missing[row], out_marks[row], kinds[row] = total, count, 0, mark, METER
            continue
        if waiting and open_one >= 0:
            continue
        net, coverage, stored, minute, count, mark, there = 0.0, 0.0, np.nan, np.nan, 0, 0, 0
        for i in range(low, high):
            if not begin[i] <= start < end[i]:
                continue
            of_one, mark_of_one = _total(seats[i], start, place, since, numbers, samples, marks, total)
            if not mark_of_one:
                continue
            there += 1
            net += total[_IMPORT] - total[_EXPORT]
            coverage += total[_COVERAGE]
            if not np.isnan(total[_STORED]):
                stored = total[_STORED] if np.isnan(stored) else stored + total[_STORED]
            if not np.isnan(total[_LAST_MINUTE]):
                minute = total[_LAST_MINUTE] if np.isnan(minute) else minute + total[_LAST_MINUTE]
            count += of_one
            mark |= mark_of_one
        if there:
            out[row, :] = np.nan
            out[row, _IMPORT], out[row, _EXPORT], out[row, _MEAN] = max(net, 0.0), max(-net, 0.0), net * 4.0
            out[row, _STORED], out[row, _COVERAGE], out[row, _LAST_MINUTE] = stored, coverage / bound, minute
            out_samples[row], out_missing[row], out_marks[row], kinds[row] = count, bound - there, mark, SUM
