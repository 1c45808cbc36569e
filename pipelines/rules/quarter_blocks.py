"""The readings of one quarter while they may still matter: a table that grows at its end."""

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import Flags, Ordered, Table, in_order, joined, no_readings

_LOOSE = 2048
"""So many rows may lie unordered at the end of a block, or a quarter of it, before it is put in order to be read."""


class Block:
    """Rows in order of arrival, of which the first `ordered` are distinct and by key and instant."""

    __slots__ = ("_keys", "_rows", "ordered", "size")

    def __init__(self, rows: Table | None = None, ordered: int = 0) -> None:
        self._rows = no_readings() if rows is None else rows
        self.size, self.ordered = len(self._rows), ordered
        self._keys: NDArray[np.int32] | None = None

    def rows(self) -> Table:
        """All rows (a view)."""
        return self._rows[: self.size]

    def add(self, rows: Table) -> None:
        """Append rows as they came."""
        needed = self.size + len(rows)
        if needed > len(self._rows):
            grown = np.empty(max(needed, 2 * self.size, 64), self._rows.dtype)
            grown[: self.size] = self.rows()
            self._rows = grown
        self._rows[self.size : needed] = rows
        self.size = needed

    def untidy(self) -> bool:
        """Whether reading the block now would be dearer than putting it in order first."""
        return self.size - self.ordered > max(_LOOSE, self.ordered // 4)

    def tidy(self) -> Ordered:
        """Put all rows in order, drop repeated ones; returns what `in_order` does (conflicts are told once)."""
        rows = self.rows()
        done = in_order(rows)
        if done.readings is not rows:
            self._rows = done.readings
        self.size = self.ordered = len(done.readings)
        self._keys = None
        return done

    def of(self, wanted: Flags, few: NDArray[np.int32]) -> Table:
        """The rows of the keys for which `wanted` is true, in order of arrival; `few` are those keys, ascending."""
        ordered, loose = self._rows[: self.ordered], self._rows[self.ordered : self.size]
        if self._keys is None:
            self._keys = ordered["key"].copy()
        if len(few) * 16 < len(wanted):
            first, last = np.searchsorted(self._keys, few), np.searchsorted(self._keys, few, side="right")
            lengths = last - first
            chosen = ordered[np.arange(lengths.sum()) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)]
        else:
            chosen = ordered[wanted[self._keys]]
        return joined([chosen, loose[wanted[loose["key"]]]]) if len(loose) else chosen
