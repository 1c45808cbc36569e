"""A group's quarter hours as long as they can be judged again, in columns: a week of them in some 30 KiB (semantics 5)."""

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

from pipelines.rules.packed import Packed
from schemas.compliance import VerdictKind
from schemas.units import Direction

KINDS = tuple(VerdictKind)
"""What the codes of a column of verdicts mean, from 1 on; 0 is not judged."""


class Used(NamedTuple):
    """What a final row says: energies in Wh, coverage from 0 to 1, its revision."""

    import_wh: float
    export_wh: float
    coverage: float
    revision: int

    def of(self, direction: Direction) -> float:
        """The energy of one direction in Wh."""
        return self.import_wh if direction is Direction.IMPORT else self.export_wh


@dataclass
class Verdicts:
    """How quarters stand in one direction: a code of `KINDS`, and the revision of what was told last."""

    codes: "array[int]" = field(default_factory=lambda: array("B"))
    revisions: "array[int]" = field(default_factory=lambda: array("I"))


@dataclass
class KeptQuarters(Packed):
    """Rows in order of `starts` (ms since 1970 UTC), and how each was judged. Quarters are spoken of by their place."""

    starts: "array[int]" = field(default_factory=lambda: array("q"))
    imports: "array[float]" = field(default_factory=lambda: array("d"))
    exports: "array[float]" = field(default_factory=lambda: array("d"))
    coverages: "array[float]" = field(default_factory=lambda: array("d"))
    revisions: "array[int]" = field(default_factory=lambda: array("I"))
    verdicts: dict[Direction, Verdicts] = field(default_factory=lambda: {direction: Verdicts() for direction in Direction})

    def __len__(self) -> int:
        return len(self.starts)

    def find(self, quarter_ms: int) -> int | None:
        """The place of a quarter, if it is kept."""
        at = bisect_left(self.starts, quarter_ms)
        return at if at < len(self.starts) and self.starts[at] == quarter_ms else None

    def put(self, quarter_ms: int, used: Used) -> int:
        """Keep a row, in place of an earlier one of its quarter; its place."""
        at = self.find(quarter_ms)
        if at is None:
            at = bisect_left(self.starts, quarter_ms)
            self.starts.insert(at, quarter_ms)
            for column, value in zip(self._measured(), used[:3], strict=True):
                column.insert(at, value)
            self.revisions.insert(at, used.revision)
            for told in self.verdicts.values():
                told.codes.insert(at, 0)
                told.revisions.insert(at, 0)
        else:
            for column, value in zip(self._measured(), used[:3], strict=True):
                column[at] = value
            self.revisions[at] = used.revision
        return at

    def used(self, at: int) -> Used:
        """What the row at a place says."""
        return Used(self.imports[at], self.exports[at], self.coverages[at], self.revisions[at])

    def verdict(self, at: int, direction: Direction) -> VerdictKind | None:
        """How the quarter stands; None where it was not judged."""
        code = self.verdicts[direction].codes[at]
        return KINDS[code - 1] if code else None

    def told(self, at: int, direction: Direction, verdict: VerdictKind, revision: int) -> None:
        """Note what was told of the quarter."""
        self.verdicts[direction].codes[at] = KINDS.index(verdict) + 1
        self.verdicts[direction].revisions[at] = revision

    def weight(self, direction: Direction, quarter_ms: int) -> int:
        """The sum of the revisions of the verdicts from a quarter on: it grows with everything that is told of them."""
        return sum(self.verdicts[direction].revisions[bisect_left(self.starts, quarter_ms) :])

    def forget_first(self, count: int) -> None:
        """The first `count` quarters are kept no longer."""
        del self.starts[:count]
        for column in self._measured():
            del column[:count]
        for whole in (self.revisions, *(each for told in self.verdicts.values() for each in (told.codes, told.revisions))):
            del whole[:count]

    def _measured(self) -> "tuple[array[float], ...]":
        return self.imports, self.exports, self.coverages
