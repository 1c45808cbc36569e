"""Power: minutes, what they hold, and the energy of a quarter from them (semantics 1.3, 1.4)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import POWER, Floats, Ints, Table, first_of_key, position
from schemas.intervals import MINUTES_PER_QUARTER, QUARTER_MS

MINUTE_MS = 60_000
MINUTES_PER_HOUR = 60


class PowerEnergy(NamedTuple):
    """What power says of each quarter. Means, minima and maxima are NaN where there is nothing to take them from.

    `covered` is the number of covered minutes (the running one by its share), `inside` that of readings inside;
    `last_minute_w` the mean of the last covered minute that is over, else of the running one.
    """

    import_wh: Floats
    export_wh: Floats
    mean_w: Floats
    min_w: Floats
    max_w: Floats
    covered: Floats
    inside: Ints
    last_minute_w: Floats


def power_energy(readings: Table, key: NDArray[Any], start: Ints, max_hold: int, until: int | None = None) -> PowerEnergy:
    """The energy of the quarters (key, start), which are in order, from a table in order.

    With `until` time ends there: what has been used so far. Durations and instants in ms.
    """
    power = readings[(readings["flags"] & POWER) != 0]
    at, watts = power["at"].copy(), power["power_w"].copy()
    where, size = position(power["key"], at), len(key)
    quarter = np.searchsorted(position(key, start), where, side="right") - 1
    held_by = np.maximum(quarter, 0)
    own = (quarter >= 0) & (size > 0)
    if size:
        own &= (key[held_by] == power["key"]) & (at < start[held_by] + QUARTER_MS)
    quarter, inside_at, inside_w = quarter[own], at[own], watts[own]

    slot = quarter * MINUTES_PER_QUARTER + (inside_at - start[quarter]) // MINUTE_MS
    counts = np.bincount(slot, minlength=size * MINUTES_PER_QUARTER)
    sums = np.bincount(slot, weights=inside_w, minlength=size * MINUTES_PER_QUARTER)
    means = np.divide(sums, counts, out=np.zeros(len(sums)), where=counts > 0)
    covered = counts > 0

    empty = np.flatnonzero(~covered)
    begins = start[empty // MINUTES_PER_QUARTER] + empty % MINUTES_PER_QUARTER * MINUTE_MS
    before = np.searchsorted(where, position(key[empty // MINUTES_PER_QUARTER], begins)) - 1
    found = before >= 0
    empty, begins, before = empty[found], begins[found], before[found]
    held = (power["key"][before] == key[empty // MINUTES_PER_QUARTER]) & (begins - at[before] < max_hold)
    means[empty[held]] = watts[before[held]]
    covered[empty[held]] = True

    means, covered = means.reshape(size, MINUTES_PER_QUARTER), covered.reshape(size, MINUTES_PER_QUARTER)
    share = covered.astype(np.float64)
    if until is not None:
        begun = start[:, None] + np.arange(MINUTES_PER_QUARTER) * MINUTE_MS
        share *= np.clip((until - begun) / MINUTE_MS, 0.0, 1.0)
    return _summed(means, share, quarter, inside_w)


def _summed(means: Floats, share: Floats, quarter: Ints, inside_w: Floats) -> PowerEnergy:
    size = len(means)
    imported, exported, total, covered = (np.zeros(size) for _ in range(4))
    running, last_minute = np.full(size, np.nan), np.full(size, np.nan)
    for minute in range(MINUTES_PER_QUARTER):  # always in this order: the same readings give the same bits
        counts = share[:, minute] > 0
        value = np.where(counts, means[:, minute], 0.0) * share[:, minute]
        imported += np.maximum(value, 0.0)
        exported -= np.minimum(value, 0.0)
        total += value
        covered += share[:, minute]
        running = np.where(counts, means[:, minute], running)
        last_minute = np.where(share[:, minute] == 1, means[:, minute], last_minute)
    mean = np.divide(total, covered, out=np.full(size, np.nan), where=covered > 0)
    lowest, highest = np.full(size, np.nan), np.full(size, np.nan)
    firsts = first_of_key(quarter)
    if len(firsts):
        lowest[quarter[firsts]] = np.minimum.reduceat(inside_w, firsts)
        highest[quarter[firsts]] = np.maximum.reduceat(inside_w, firsts)
    return PowerEnergy(
        imported / MINUTES_PER_HOUR, exported / MINUTES_PER_HOUR, mean, lowest, highest,
        covered, np.bincount(quarter, minlength=size), np.where(np.isnan(last_minute), running, last_minute),
    )  # fmt: skip
