"""Cumulative registers: which values count, and the energy between the ends of a quarter (semantics 1.1, 1.2, 1.5)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import Flags, Floats, Ints, Table, position
from schemas.intervals import QUARTER_MS

HOUR_MS = 3_600_000
CONFIRMING = 3
"""So many fallen values in a row make a new base."""


class Counted(NamedTuple):
    """The values of one register that count, by key and instant, with `row` where they stand in their table.

    `gain` is the energy since the value before of the same key; `plain` is False where that is not their difference
    (a reset, a new base). `settled` is False for values that count only because of later ones. `waiting` are the rows
    of values below the last good one that further values may confirm, `left_out` those of all that do not count,
    `fell` the keys whose register fell anywhere.
    """

    key: NDArray[np.int32]
    at: Ints
    value: Floats
    gain: Floats
    plain: Flags
    settled: Flags
    row: Ints
    waiting: Ints
    left_out: Ints
    fell: NDArray[np.int32]


def counted(readings: Table, register: str, flag: int, max_w: Floats) -> Counted:
    """Judge a register's values in a table in order. `max_w` is by key.

    Only keys whose register falls cost more than a comparison; they are walked through one value at a time.
    """
    present = (readings["flags"] & flag) != 0
    row = np.flatnonzero(present & (readings[register] >= 0))
    negative = np.flatnonzero(present & (readings[register] < 0))
    key, at, value = readings["key"][row], readings["at"][row], readings[register][row]
    same = np.concatenate((np.zeros(min(1, len(key)), np.bool_), key[1:] == key[:-1]))
    gain = np.where(same, np.diff(value, prepend=value[:1]), 0.0)
    fell = np.unique(key[gain < 0])
    kind = np.full(len(key), _RISE, np.int8)
    waiting: list[int] = []
    for fallen in fell:
        low, high = np.searchsorted(key, fallen), np.searchsorted(key, fallen, side="right")
        span = slice(low, high)
        waiting += [int(low) + i for i in _walk(at[span], value[span], float(max_w[fallen]), kind[span], gain[span])]
    good = kind != _LEFT_OUT
    plain, settled = kind <= _CONFIRMED, (kind == _RISE) | (kind == _RESET)
    if not len(fell):
        return Counted(key, at, value, gain, plain, settled, row, row[:0], negative, fell)
    left_out = np.sort(np.concatenate((negative, row[~good])))
    wait = row[np.array(waiting, np.int64)]
    return Counted(key[good], at[good], value[good], gain[good], plain[good], settled[good], row[good], wait, left_out, fell)


_RISE, _CONFIRMED, _RESET, _BASE, _LEFT_OUT = range(5)
"""What a value is: a rise, a rise that later values confirmed, a reset, a new base that later values confirmed, or none."""


def _walk(at: Ints, value: Floats, max_w: float, kind: NDArray[np.int8], gain: Floats) -> list[int]:
    """Judge one key's values, writing `kind` and `gain`; returns the indexes of those that wait to be confirmed."""
    instants, values = at.tolist(), value.tolist()
    last, fallen = 0, list[int]()
    for i in range(1, len(values)):
        rise = values[i] - values[last]
        if rise >= 0:
            kind[i], gain[i], last, fallen = _RISE, rise, i, []
        elif values[i] <= max_w * (instants[i] - instants[last]) / HOUR_MS:
            kind[i], gain[i], last, fallen = _RESET, values[i], i, []
        else:
            kind[i] = _LEFT_OUT
            fallen = [*fallen, i] if fallen and values[i] >= values[fallen[-1]] else [i]
            if len(fallen) == CONFIRMING:
                first, second, third = fallen
                kind[first], gain[first] = _BASE, 0.0
                kind[second], gain[second] = _CONFIRMED, values[second] - values[first]
                kind[third], gain[third] = _RISE, values[third] - values[second]
                last, fallen = third, []
    return fallen


class RegisterEnergy(NamedTuple):
    """What one register gives for each quarter: energy and value at the end (NaN where it gives none), coverage, `reset`."""

    wh: Floats
    register_wh: Floats
    coverage: Floats
    reset: Flags


def register_energy(values: Counted, key: NDArray[Any], start: Ints, max_interpolation: int) -> RegisterEnergy:
    """The energy of the quarters (key, start) between the register's values at their two ends. Durations in ms."""
    end, count = start + QUARTER_MS, len(values.key)
    where = position(values.key, values.at)
    head, tail = (_end(values, where, key, at, max_interpolation) for at in (start, end))
    if count == 0:
        nothing = np.full(len(key), np.nan)
        return RegisterEnergy(nothing, nothing, np.zeros(len(key)), np.zeros(len(key), np.bool_))

    inside_head = head.has_after & (head.after_at < end)
    inside_tail = tail.has_before & (tail.before_at >= start)
    from_head, from_tail = head.exact | head.bridged, tail.exact | tail.bridged
    known = (from_head | inside_head) & (from_tail | inside_tail)
    # Both ends from one and the same reading: nothing was measured between them.
    first = np.where(head.bridged, -1, head.after)
    last = np.where(tail.exact, tail.after, np.where(tail.bridged, -2, tail.after - 1))
    known &= first != last

    nearest = np.clip(np.where(tail.exact, tail.after, tail.after - 1), 0, count - 1)
    at_head = np.where(head.bridged, head.line, values.value[np.minimum(head.after, count - 1)])
    at_tail = np.where(tail.bridged, tail.line, values.value[nearest])
    wh = np.where(known, at_tail - at_head, np.nan)
    uneven: Ints = np.concatenate((np.zeros(1, np.int64), np.cumsum(~values.plain)))
    left = np.where(head.bridged, head.after - 1, head.after)
    right = np.where(tail.exact | tail.bridged, tail.after, tail.after - 1)
    for pair in np.flatnonzero(known & (uneven[np.clip(right + 1, 0, count)] > uneven[np.clip(left + 1, 0, count)])):
        wh[pair] = _uneven(values, int(left[pair]), int(right[pair]), int(start[pair]), int(end[pair]))

    on_line = tail.bridged & values.plain[np.minimum(tail.after, count - 1)]
    shown = np.where(on_line, tail.line, values.value[nearest])
    fallen: Ints = uneven[np.searchsorted(where, position(key, end), side="right")]
    reset = fallen != uneven[np.searchsorted(where, position(key, start), side="right")]
    head_gap = np.where(inside_head, head.after_at - start, QUARTER_MS) * ~(head.exact | head.near)
    tail_gap = np.where(inside_tail, end - tail.before_at, QUARTER_MS) * ~(tail.exact | tail.near)
    coverage = np.maximum(0.0, 1 - (head_gap + tail_gap) / QUARTER_MS)
    return RegisterEnergy(wh, np.where(known, shown, np.nan), coverage, reset)


class _End(NamedTuple):
    """How a register's values lie around one end of each quarter."""

    after: Ints
    exact: Flags
    has_after: Flags
    has_before: Flags
    after_at: Ints
    before_at: Ints
    bridged: Flags
    near: Flags
    line: Floats


def _end(values: Counted, where: Ints, key: NDArray[Any], at: Ints, max_interpolation: int) -> _End:
    count = len(values.key)
    sought = position(key, at)
    after = np.searchsorted(where, sought)
    if count == 0:
        no, zero = np.zeros(len(key), np.bool_), np.zeros(len(key), np.int64)
        return _End(after, no, no, no, zero, zero, no, no, np.zeros(len(key)))
    this, before = np.minimum(after, count - 1), np.maximum(after - 1, 0)
    has_after = (after < count) & (values.key[this] == key)
    has_before = (after > 0) & (values.key[before] == key)
    exact = has_after & (where[this] == sought)
    gap = values.at[this] - values.at[before]
    both = has_after & has_before & ~exact
    share = np.divide(at - values.at[before], gap, out=np.zeros(len(key)), where=both)
    line = values.value[before] + (values.value[this] - values.value[before]) * share
    return _End(
        after, exact, has_after, has_before, values.at[this], values.at[before],
        both & (gap <= max_interpolation), both & (gap <= QUARTER_MS), line,
    )  # fmt: skip


def _uneven(values: Counted, left: int, right: int, start: int, end: int) -> float:
    """The energy of [start, end) over the segments between two values, where differences of values would not say it."""
    energy = 0.0
    for i in range(left + 1, right + 1):
        begins, ends = int(values.at[i - 1]), int(values.at[i])
        energy += float(values.gain[i]) * (min(ends, end) - max(begins, start)) / (ends - begins)
    return energy
