"""A poll's readings judged and dealt to the shards (semantics 1.8, 1.9). Pure: columns in, parts and rejects out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import BITS, ESTIMATED, VALUES, Flags, Floats, Ints, Table, no_readings
from pipelines.rules.quarter_rejects import BAD, GOOD, verdicts
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.quarter_state import Part, Silence


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
    values: tuple[Floats, ...]
    bad: Flags
    estimated: Flags
    partition: NDArray[np.int32]
    offset: Ints


@dataclass(frozen=True, slots=True)
class Sorted:
    """What became of a poll's readings: for each an index into `quarter_rejects.REASONS`, and the good ones by shard."""

    reasons: NDArray[np.int8]
    parts: list[Part]


def sort(columns: Columns, roster: Roster, now: int, partitions: tuple[int, ...], silences: tuple[Silence, ...], shards: int) -> Sorted:
    """Judge a poll's readings at the clock's `now` (ms) and deal the good ones out.

    Every shard gets a part of every poll, empty or not, for it brings the time along.
    """
    known = columns.asset < len(roster.ids)
    max_w = np.full(len(columns.asset), np.nan)
    max_w[known] = roster.limits[columns.asset[known]]
    latest = now + roster.timing.future
    reasons = verdicts(
        columns.at, columns.present, dict(zip(BITS, columns.values, strict=True)),
        known, max_w, columns.bad, latest,
    )  # fmt: skip
    # A bad reading never moves a watermark (1.8). One that its own meter calls BAD does: it says that time has passed.
    honest = (reasons == BAD) & known & (columns.at >= 0) & (columns.at <= latest)
    before, newest = _progress(columns, (reasons == GOOD) | honest)
    good = np.flatnonzero(reasons == GOOD)
    readings = _table(columns, good)
    of_shard = roster.hashes[columns.asset[good]] % shards
    parts = []
    for index in range(shards):
        mine = np.flatnonzero(of_shard == index)
        rows = good[mine]
        parts.append(
            Part(
                index, shards, roster, now, partitions, newest, silences,
                asset=columns.asset[rows],
                phase=columns.phase[rows],
                readings=readings[mine],
                partition=columns.partition[rows],
                offset=columns.offset[rows],
                before=before[rows],
            )
        )  # fmt: skip
    return Sorted(reasons, parts)


def rejected(reasons: NDArray[np.int8]) -> Ints:
    """The readings that become dead letters: all that do not count but those of BAD quality."""
    return np.flatnonzero((reasons != GOOD) & (reasons != BAD))


def _progress(columns: Columns, counts: Flags) -> tuple[Ints, dict[int, int]]:
    """For each reading the newest instant that counts before it in its partition, and each partition's newest."""
    before, newest = np.zeros(len(columns.at), np.int64), dict[int, int]()
    at = np.where(counts, columns.at, 0)
    for partition, rows in _by_partition(columns.partition):
        running = np.maximum.accumulate(at[rows])
        before[rows[1:]] = running[:-1]
        if running[-1]:
            newest[partition] = int(running[-1])
    return before, newest


def _by_partition(partition: NDArray[np.int32]) -> Iterator[tuple[int, Ints]]:
    for one in np.unique(partition).tolist():
        yield one, np.flatnonzero(partition == one)


def _table(columns: Columns, rows: Ints) -> Table:
    table = no_readings(len(rows))
    present = columns.present[rows]
    table["flags"] = present | columns.estimated[rows] * np.uint8(ESTIMATED)
    table["at"] = columns.at[rows]
    for name, bit, column in zip(VALUES, BITS, columns.values, strict=True):
        table[name] = np.where(present & bit, column[rows], 0.0)
    return table
