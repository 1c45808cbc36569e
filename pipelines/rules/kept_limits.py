"""A scope's limits over time as long as they are kept, in columns: a week of quarter-hour blocks in some 20 KiB (semantics 3.4, 5)."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.rules.limits import FOREVER_MS, Limit, Stretch, within
from pipelines.rules.packed import Packed
from schemas.capacity import PieceKind

Reason = tuple[PieceKind, str | None]
"""Why a limit holds, and the opaque id of what it came from."""

_NOT_KNOWN: Reason = (PieceKind.UNKNOWN, None)


@dataclass
class KeptLimits(Packed):
    """Steps: from each of `starts` (ms since 1970 UTC) to the next these limits hold (W); nothing is known before the first.

    `reasons` are what the columns beside the powers point to; a limit whose reason is the first of them is not known.
    Two steps that follow each other differ, so what was said in however many parts is kept the same way.
    """

    starts: "array[int]" = field(default_factory=lambda: array("q"))
    imports: "array[float]" = field(default_factory=lambda: array("d"))
    exports: "array[float]" = field(default_factory=lambda: array("d"))
    import_reasons: "array[int]" = field(default_factory=lambda: array("I"))
    export_reasons: "array[int]" = field(default_factory=lambda: array("I"))
    reasons: list[Reason] = field(default_factory=lambda: [_NOT_KNOWN])

    def __bool__(self) -> bool:
        """Whether anything is said at all."""
        return len(self.reasons) > 1

    def replace(self, effective_ms: int, newer: Iterable[Stretch]) -> None:
        """Everything from `effective_ms` on is said anew; what was before stays as it was."""
        self._cut(bisect_left(self.starts, effective_ms), None)
        known = {reason: index for index, reason in enumerate(self.reasons)}
        at_ms = effective_ms
        for stretch in within(newer, effective_ms):
            if stretch.start_ms > at_ms:
                self._append(at_ms, None, None, known)
            self._append(stretch.start_ms, stretch.imports, stretch.exports, known)
            at_ms = stretch.end_ms
        if at_ms < FOREVER_MS:
            self._append(at_ms, None, None, known)
        self._tidy()

    def over(self, start_ms: int, end_ms: int) -> list[Stretch]:
        """What is known about [start_ms, end_ms), in order of time."""
        found = []
        for index in range(max(bisect_right(self.starts, start_ms) - 1, 0), bisect_left(self.starts, end_ms)):
            until_ms = self.starts[index + 1] if index + 1 < len(self.starts) else FOREVER_MS
            imports = self._limit(self.imports[index], self.import_reasons[index])
            exports = self._limit(self.exports[index], self.export_reasons[index])
            found.append(Stretch(max(self.starts[index], start_ms), min(until_ms, end_ms), imports, exports))
        return found

    def forget(self, before_ms: int) -> None:
        """What was in force before `before_ms` need not be kept; what was in force then is, from where it began."""
        gone = bisect_right(self.starts, before_ms) - 1
        if gone > 0:
            self._cut(0, gone)

    def _columns(self) -> "tuple[array[int] | array[float], ...]":
        return self.starts, self.imports, self.exports, self.import_reasons, self.export_reasons

    def _cut(self, first: int, end: int | None) -> None:
        for column in self._columns():
            del column[first:end]

    def _append(self, start_ms: int, imports: Limit | None, exports: Limit | None, known: dict[Reason, int]) -> None:
        values = (*self._noted(imports, known), *self._noted(exports, known))
        last = (self.imports[-1], self.import_reasons[-1], self.exports[-1], self.export_reasons[-1]) if self.starts else (0.0, 0, 0.0, 0)
        if values == last:
            return
        self.starts.append(start_ms)
        self.imports.append(values[0])
        self.import_reasons.append(values[1])
        self.exports.append(values[2])
        self.export_reasons.append(values[3])

    def _noted(self, limit: Limit | None, known: dict[Reason, int]) -> tuple[float, int]:
        if limit is None:
            return 0.0, 0
        index = known.setdefault(limit[1:], len(known))
        if index == len(self.reasons):
            self.reasons.append(limit[1:])
        return limit.watts, index

    def _limit(self, watts: float, reason: int) -> Limit | None:
        return Limit(watts, *self.reasons[reason]) if reason else None

    def _tidy(self) -> None:
        """Leave out the reasons nothing points to any more."""
        used = sorted({0, *self.import_reasons, *self.export_reasons})
        if len(used) == len(self.reasons):
            return
        places = {old: new for new, old in enumerate(used)}
        self.reasons = [self.reasons[old] for old in used]
        self.import_reasons = array("I", [places[old] for old in self.import_reasons])
        self.export_reasons = array("I", [places[old] for old in self.export_reasons])
