"""Readings as they arrive in a shard: which are too late, which come behind what is already in order, which are on time.

A reading is on time while its partition's watermark has not come to the step (`STEP_MS`) it lies in: until then it waits
in a buffer, so that disorder within the lateness does not show anywhere. Each is judged by the watermark it met, not by
where its poll was cut: so runs differ in nothing.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import EXPORT, IMPORT, Flags, Ints, Records, Table, no_readings
from schemas.intervals import QUARTER_MS

STEP_MS = 10_000
ON_TIME, BEHIND, LATE = 0, 1, 2
_FAR = 1000


@njit(cache=True, nogil=True)
def met(
    key: NDArray[np.int32], home: NDArray[np.int32], partition: NDArray[np.int32], offset: Ints, before: Ints,
    newest: Ints, clock: Ints, watermark: Ints, bound: Ints, since: Ints, appended: Ints,
    lateness: int, horizon: int, met_at: Ints, cuts: Ints,
) -> None:  # fmt: skip
    """The watermark each reading met, and the start of the first quarter that could still be revised then (1.10).

    `newest`, `clock` and `watermark` are by partition, from before the poll; `before` is the newest instant of the poll's earlier
    readings of its partition. `bound`, `since` and `appended` are the poll's `Clocks`: offsets rise within each partition.
    """
    here = bound[:-1].copy()  # by partition: the clock of the reading looked at last
    for i in range(len(key)):
        p = home[key[i]]
        mark = watermark[p]
        if partition[i] == p:
            c = here[p]
            while c + 1 < bound[p + 1] and since[c + 1] <= offset[i]:
                c += 1
            here[p] = c
            mark = max(mark, min(max(before[i], newest[p]), max(clock[p], appended[c])) - lateness)
        met_at[i] = mark
        cuts[i] = max(0, -(-(mark - horizon - QUARTER_MS) // QUARTER_MS) * QUARTER_MS)


@njit(cache=True, nogil=True)
def arrive(
    readings: Records, key: NDArray[np.int32], met_at: Ints, cuts: Ints, closed: Ints, heard: Ints, last_register: Ints,
    reached_until: Ints, dirty: Flags, touched: Flags, waits: Flags, home: NDArray[np.int32], poked: Flags, kinds: NDArray[np.int8],
    buffer: Records, size: int,
) -> int:  # fmt: skip
    """Note the readings of these keys, and say of each in `kinds` whether it is ON_TIME, BEHIND or LATE.

    Those on time are put into the buffer behind its first `size` rows; returns how many it has then. `poked` is set, by
    partition, where a register value came that a quarter waits for.
    """
    for i in range(len(readings)):
        row, k = readings[i], key[i]
        at = row.at
        start = at - at % QUARTER_MS
        if closed[k] < 0:
            closed[k] = max(min(start, met_at[i] // QUARTER_MS * QUARTER_MS), cuts[i])
        heard[k] = max(heard[k], at)
        if start < cuts[i]:
            kinds[i] = LATE
            continue
        touched[k] = True
        register = (row.flags & (IMPORT | EXPORT)) != 0
        if at < closed[k] or (register and at < reached_until[k]):
            dirty[k] = True
        if register:
            last_register[k] = max(last_register[k], at)
            if waits[k] and at >= closed[k] + QUARTER_MS:
                poked[home[k]] = True
        if at < met_at[i] // STEP_MS * STEP_MS:
            kinds[i] = BEHIND
            continue
        kinds[i] = ON_TIME
        buffer[size] = row
        buffer[size].key = k
        size += 1
    return size


@njit(cache=True, nogil=True)
def _part(rows: Records, size: int, home: NDArray[np.int32], until: Ints, taken: Records) -> int:
    """Move the rows before their partition's `until` to `taken`, the others to the front; how many stay."""
    stay, gone = 0, 0
    for i in range(size):
        if rows[i].at < until[home[rows[i].key]]:
            taken[gone] = rows[i]
            gone += 1
        else:
            if stay < i:
                rows[stay] = rows[i]
            stay += 1
    return stay


class Buffer:
    """The readings that are on time, in order of arrival, until they are taken out in order of instants."""

    def __init__(self, rows: Table | None = None) -> None:
        self._rows = no_readings() if rows is None else rows
        self.size = len(self._rows)

    def rows(self) -> Table:
        """All of them (a view)."""
        return self._rows[: self.size]

    def room(self, more: int) -> Table:
        """The whole array, with place for so many more behind the first `size`."""
        needed = self.size + more
        if needed > len(self._rows):
            grown = np.empty(max(needed, self.size + self.size // 2, 1024), self._rows.dtype)
            grown[: self.size] = self.rows()
            self._rows = grown
        return self._rows

    def take(self, home: NDArray[np.int32], until: Ints) -> Table:
        """Take out the rows before the instant of their key's partition (`until` is by partition)."""
        taken = np.empty(self.size, self._rows.dtype)
        stay = _part(self._rows, self.size, home, until, taken)
        taken = taken[: self.size - stay]
        self.size = stay
        return taken

    def quarters(self) -> Ints:
        """The starts of quarters that may have rows here: all between the first and the last, if they are not far apart."""
        at = self.rows()["at"]
        first, last = (int(at.min()) // QUARTER_MS, int(at.max()) // QUARTER_MS) if self.size else (0, -1)
        return (np.arange(first, last + 1) if last - first < _FAR else np.unique(at // QUARTER_MS)) * QUARTER_MS

    def registers(self, some: Flags) -> Table:
        """The rows of some keys that have register values, as they came."""
        rows = self.rows()
        some_rows: Table = rows[((rows["flags"] & (IMPORT | EXPORT)) != 0) & some[rows["key"]]]
        return some_rows
