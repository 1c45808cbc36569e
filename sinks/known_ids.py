"""Finds many strings at once in a fixed set of them: for each its place in the set, without a Python object for any."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray


class KnownIds:
    """A fixed set of distinct ids, in an order of their own. `find` costs about 0.1 us an id, also for 100,000 of them.

    An open-addressing table over polars' hashes; what it finds is compared with the id itself, so equal hashes of
    different ids cost time and never a mistake.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = list(ids)
        self._series = pl.Series("id", self.ids, dtype=pl.String)
        self._hashes = self._series.hash().to_numpy()
        self._mask = np.uint64((1 << max(4, (4 * len(self.ids)).bit_length())) - 1)
        self._table = np.full(int(self._mask) + 1, -1, np.int32)
        waiting, slot = np.arange(len(self.ids), dtype=np.int32), self._hashes & self._mask
        while len(waiting):
            free = self._table[slot] < 0
            self._table[slot[free]] = waiting[free]  # of several for one slot the last gets it
            left = self._table[slot] != waiting
            waiting, slot = waiting[left], (slot[left] + np.uint64(1)) & self._mask

    def find(self, ids: pl.Series) -> NDArray[np.int32]:
        """The place of each id in `ids` of this set; -1 for one that is not in it."""
        found = np.full(len(ids), -1, np.int32)
        if not self.ids:
            return found
        hashes = ids.hash().to_numpy()
        waiting, slot = np.arange(len(ids)), hashes & self._mask
        while len(waiting):
            place = self._table[slot]
            same = (place >= 0) & (self._hashes[place] == hashes[waiting])
            found[waiting[same]] = place[same]
            on = (place >= 0) & ~same
            waiting, slot = waiting[on], (slot[on] + np.uint64(1)) & self._mask
        hits = np.flatnonzero(found >= 0)
        wrong = hits[(self._series.gather(found[hits]) != ids.gather(hits)).to_numpy()]
        for index in wrong.tolist():  # another id of the same hash: as good as never
            found[index] = self.ids.index(ids[index]) if ids[index] in self.ids else -1
        return found
