"""What was written of each quarter, so that a row is written again only when its content changed (semantics 1.9, 1.10)."""

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_hours import CONTENT

Digests = NDArray[np.uint64]
Revisions = NDArray[np.int32]

_PRIME, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


def digests(rows: NDArray[np.void]) -> Digests:
    """64 bits of each row's content."""
    mixed = np.zeros(len(rows), np.uint64)
    marks = rows["samples"].astype(np.uint64) * 8 + rows["method"].astype(np.uint64) * 4 + rows["estimated"] * np.uint64(2) + rows["reset"]
    with np.errstate(over="ignore"):
        for column in (*((rows[name] + 0.0).view(np.uint64) for name in CONTENT), marks):  # + 0.0: there is one zero
            mixed = (mixed ^ column) * _PRIME
            mixed ^= mixed >> _SHIFT
    return mixed


class Written:
    """Revision and digest of the last row of each key, by quarter. Revision 0: none was written."""

    def __init__(self) -> None:
        self.quarters: dict[int, tuple[Revisions, Digests]] = {}

    def revise(self, rows: NDArray[np.void], keys: int) -> tuple[NDArray[np.void], Revisions]:
        """Of these rows the changed ones, with their new revisions. `keys` is the number of keys there are."""
        fresh, revisions = digests(rows), np.zeros(len(rows), np.int32)
        for start in np.unique(rows["start"]).tolist():
            of_quarter = np.flatnonzero(rows["start"] == start)
            key = rows["key"][of_quarter]
            last, known = self._of(start, keys)
            changed = (last[key] == 0) | (known[key] != fresh[of_quarter])
            key, of_quarter = key[changed], of_quarter[changed]
            last[key] += 1
            known[key] = fresh[of_quarter]
            revisions[of_quarter] = last[key]
        return rows[revisions > 0], revisions[revisions > 0]

    def forget(self, before: int) -> None:
        """Quarters that start before it are never written again."""
        self.quarters = {start: kept for start, kept in self.quarters.items() if start >= before}

    def _of(self, start: int, keys: int) -> tuple[Revisions, Digests]:
        revisions, known = self.quarters.get(start, (np.zeros(0, np.int32), np.zeros(0, np.uint64)))
        if len(revisions) < keys:
            more = keys - len(revisions)
            revisions = np.concatenate((revisions, np.zeros(more, np.int32)))
            known = np.concatenate((known, np.zeros(more, np.uint64)))
            self.quarters[start] = (revisions, known)
        return revisions, known
