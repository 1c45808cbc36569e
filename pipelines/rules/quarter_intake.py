"""A poll's readings judged and dealt to the shards (semantics 1.8, 1.9). Pure: columns in, parts and rejects out."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.rules.append_times import Clocks, Stamps
from pipelines.rules.quarter_parts import Part, Silence
from pipelines.rules.quarter_readings import ESTIMATED, EXPORT, IMPORT, POWER, STORED, Flags, Floats, Ints, Records, no_readings
from pipelines.rules.quarter_rejects import ABOVE, ABSURD, ANCIENT, BAD, EMPTY, FUTURE, GOOD, NON_FINITE, UNKNOWN
from pipelines.rules.quarter_roster import Roster


@dataclass(frozen=True, slots=True)
class Columns:
    """A poll's readings, in order within each partition. Instants are ms.

    `asset` is the row in the roster's `ids`, or beyond them for an asset that is not configured. `present` has the
    bits POWER, IMPORT, EXPORT, STORED; `values` are those columns, in that order. `offset` is that of the message each
    reading came in.
    """

    asset: NDArray[np.int32]
    at: Ints
    phase: NDArray[np.int8]
    present: NDArray[np.uint8]
    values: tuple[Floats, Floats, Floats, Floats]
    bad: Flags
    estimated: Flags
    partition: NDArray[np.int32]
    offset: Ints


@dataclass(frozen=True, slots=True)
class Sorted:
    """What became of a poll's readings: for each an index into `quarter_rejects.REASONS`, and the good ones by shard."""

    reasons: NDArray[np.int8]
    parts: list[Part]


def sort(
    columns: Columns, roster: Roster, now: int, partitions: tuple[int, ...], silences: tuple[Silence, ...], shards: int, stamps: Stamps
) -> Sorted:
    """Judge a poll's readings, each by the clock of its stamp, and deal the good ones out. `now` (ms) is the poll's own clock.

    Every shard gets a part of every poll, empty or not, for it brings the time along.
    """
    c, size = columns, len(columns.at)
    reasons, before = np.zeros(size, np.int8), np.zeros(size, np.int64)
    newest, clocks = np.zeros(int(c.partition.max(initial=-1)) + 1, np.int64), Clocks.of(stamps)
    first = np.zeros(shards + 1, np.int64)
    _judge(
        c.asset, c.at, c.present, *c.values, c.bad, c.partition, roster.hashes, roster.limits,
        stamps.begin, stamps.at + roster.timing.future, shards, reasons, before, newest, first,
    )  # fmt: skip
    good = int(first[-1])
    readings, phase = no_readings(good), np.zeros(good, np.int8)
    partition, offset, met = np.zeros(good, np.int32), np.zeros(good, np.int64), np.zeros(good, np.int64)
    _deal(
        c.asset, c.at, c.phase, c.present, *c.values, c.estimated, c.partition, c.offset, before, reasons, roster.hashes, shards,
        first.copy(), readings, phase, partition, offset, met,
    )  # fmt: skip
    parts = []
    for index, (low, high) in enumerate(zip(first[:-1].tolist(), first[1:].tolist(), strict=True)):
        mine = slice(low, high)
        parts.append(
            Part(
                index, shards, roster.edition, now, partitions, newest, clocks, silences,
                readings[mine], phase[mine], partition[mine], offset[mine], met[mine],
            )
        )  # fmt: skip
    return Sorted(reasons, parts)


def rejected(reasons: NDArray[np.int8]) -> Ints:
    """The readings that become dead letters: all that do not count but those of BAD quality."""
    return np.flatnonzero((reasons != GOOD) & (reasons != BAD))


@njit(cache=True, nogil=True)
def _judge(
    asset: NDArray[np.int32], at: Ints, present: NDArray[np.uint8], power: Floats, imported: Floats, exported: Floats, stored: Floats,
    bad: Flags, partition: NDArray[np.int32], hashes: Ints, limits: Floats,
    begin: Ints, until: Ints, shards: int, reasons: NDArray[np.int8], before: Ints, newest: Ints, first: Ints,
) -> None:  # fmt: skip
    """For each reading its reason (`quarter_rejects.REASONS`) and the newest instant that counts before it in its partition;
    the newest instant of each partition; and where each shard's readings will begin (`first`, one longer than the shards).

    `limits` is each asset's `max_w`, NaN where it has none. `until` is the clock from the reading `begin` on (as of `Stamps`), and
    what instants may be ahead of it.
    """
    stamp, after, latest = -1, 0, 0
    for i in range(len(at)):
        while i >= after:
            stamp += 1
            latest = until[stamp]
            after = begin[stamp + 1] if stamp + 1 < len(begin) else len(at)
        known = asset[i] < len(limits)
        has = present[i]
        finite = (
            (not has & POWER or abs(power[i]) <= ABSURD) and (not has & IMPORT or abs(imported[i]) <= ABSURD)
            and (not has & EXPORT or abs(exported[i]) <= ABSURD) and (not has & STORED or abs(stored[i]) <= ABSURD)
        )  # fmt: skip
        timely = 0 <= at[i] <= latest
        if bad[i]:
            reason = BAD
        elif not known:
            reason = UNKNOWN
        elif not finite:
            reason = NON_FINITE
        elif has & POWER and abs(power[i]) > limits[asset[i]]:
            reason = ABOVE
        elif not timely:
            reason = FUTURE if at[i] > latest else ANCIENT
        else:
            reason = EMPTY if has == 0 else GOOD
        reasons[i] = reason
        p = partition[i]
        before[i] = newest[p]
        # A bad reading never moves a watermark (1.8). One that its own meter calls BAD does: it says that time has passed.
        if reason == GOOD or (reason == BAD and known and timely):
            newest[p] = max(newest[p], at[i])
        if reason == GOOD:
            first[hashes[asset[i]] % shards + 1] += 1
    for shard in range(shards):
        first[shard + 1] += first[shard]


@njit(cache=True, nogil=True)
def _deal(
    asset: NDArray[np.int32], at: Ints, phase: NDArray[np.int8], present: NDArray[np.uint8], power: Floats, imported: Floats,
    exported: Floats, stored: Floats, estimated: Flags, partition: NDArray[np.int32], offset: Ints, before: Ints,
    reasons: NDArray[np.int8], hashes: Ints, shards: int, filled: Ints,
    readings: Records, out_phase: NDArray[np.int8], out_partition: NDArray[np.int32], out_offset: Ints, out_before: Ints,
) -> None:  # fmt: skip
    """Write the good readings shard by shard, in order; `filled` is where each shard's begin."""
    for i in range(len(at)):
        if reasons[i] != GOOD:
            continue
        shard = hashes[asset[i]] % shards
        j = filled[shard]
        filled[shard] += 1
        row, has = readings[j], present[i]
        row.key = asset[i]
        row.flags = has | (ESTIMATED if estimated[i] else 0)
        row.at = at[i]
        row.power_w = power[i] if has & POWER else 0.0
        row.import_wh = imported[i] if has & IMPORT else 0.0
        row.export_wh = exported[i] if has & EXPORT else 0.0
        row.stored_wh = stored[i] if has & STORED else 0.0
        out_phase[j], out_partition[j], out_offset[j], out_before[j] = phase[i], partition[i], offset[i], before[i]
