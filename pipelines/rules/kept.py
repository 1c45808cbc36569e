"""How schedules and what is to come are kept in state: as rows of bytes. As lists of small objects they would weigh ten times
as much, and each snapshot would take ten times as long. This is the one place that knows the form.

A row says what holds from an instant (ms since 1970 UTC) until the next row's: the values in W, and where each comes from, as
a number into a short list. Number 0 is nothing. It is bytes of this machine's order: a recovery store stays where it is.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, starmap
from struct import Struct
from typing import NamedTuple

from pipelines.rules.limits import Limit, Stretch
from pipelines.rules.schedules import Origin, Schedule, Span
from schemas.capacity import LimitType, PieceKind
from schemas.units import Phase

_SAID = Struct("=qdB"), Struct("=qdI")
_COMING = Struct("=qddBB"), Struct("=qddII")
_AT = Struct("=q")
_FEW = 255


def _form(forms: tuple[Struct, Struct], numbers: int) -> Struct:
    """A row's form: numbers have one byte where there are few, as is usual."""
    return forms[numbers > _FEW]


Reason = tuple[PieceKind, str | None]


class Kept(NamedTuple):
    """A schedule as it is kept: rows of (instant, limit, number of the origin)."""

    rows: bytes
    origins: tuple[Origin, ...]


def kept(schedule: Schedule) -> Kept:
    """A schedule as it is kept."""
    numbers: dict[Origin, int] = {}
    rows: list[tuple[int, float, int]] = []
    end, last, number = None, None, 0
    for start_ms, end_ms, limit_w, origin in schedule:
        if end != start_ms and end is not None:
            rows.append((end, 0.0, 0))
        if origin is not last:
            last, number = origin, numbers.setdefault(origin, len(numbers) + 1)
        rows.append((start_ms, limit_w, number))
        end = end_ms
    if end is not None:
        rows.append((end, 0.0, 0))
    return Kept(b"".join(starmap(_form(_SAID, len(numbers)).pack, rows)), tuple(numbers))


def begins_before(one: Kept, row: int, instant_ms: int) -> bool:
    """Whether a schedule that is kept has so many rows that begin before an instant."""
    place = row * _form(_SAID, len(one.origins)).size
    return place < len(one.rows) and bool(_AT.unpack_from(one.rows, place)[0] < instant_ms)


def schedule_of(one: Kept) -> Schedule:
    """The schedule that was kept."""
    rows, origins = list(_form(_SAID, len(one.origins)).iter_unpack(one.rows)), (None, *one.origins)
    return [
        Span(at, following[0], limit_w, origin)
        for (at, limit_w, number), following in pairwise(rows)
        if (origin := origins[number]) is not None
    ]


class ScheduleKey(NamedTuple):
    """Who says what about which conductor."""

    source_id: str
    type: LimitType
    phase: Phase


class Book:
    """Schedules as they are kept, read at most once and written whole: for one step of a rule."""

    def __init__(self, schedules: dict[ScheduleKey, Kept]) -> None:
        self._schedules = schedules
        self._read: dict[ScheduleKey, Schedule] = {}

    def read(self, key: ScheduleKey) -> Schedule:
        """What was said; nothing where nobody has spoken."""
        if key not in self._read:
            one = self._schedules.get(key)
            self._read[key] = [] if one is None else schedule_of(one)
        return self._read[key]

    def write(self, key: ScheduleKey, schedule: Schedule) -> None:
        """From now on this is what was said."""
        self._read[key], self._schedules[key] = schedule, kept(schedule)


class Coming(NamedTuple):
    """What limits a circuit from some instants on: rows of (instant, import limit, export limit, numbers of their reasons)."""

    rows: bytes = b""
    reasons: tuple[Reason, ...] = ()

    def at_ms(self, index: int) -> int | None:
        """From when on a row holds; None behind the last."""
        place = index * _form(_COMING, len(self.reasons)).size
        return int(_AT.unpack_from(self.rows, place)[0]) if place < len(self.rows) else None

    def limits(self, index: int) -> tuple[Limit | None, Limit | None]:
        """What limits import and export from then on."""
        form = _form(_COMING, len(self.reasons))
        _, import_w, export_w, *numbers = form.unpack_from(self.rows, index * form.size)
        imports, exports = (
            Limit(watts, *self.reasons[number - 1]) if number else None for watts, number in zip((import_w, export_w), numbers, strict=True)
        )
        return imports, exports


def coming(stretches: Sequence[Stretch]) -> Coming:
    """The stretches as rows; where one is followed by nothing, nothing is known from its end on."""
    numbers: dict[Reason, int] = {}

    def one(limit: Limit | None) -> tuple[float, int]:
        return (0.0, 0) if limit is None else (limit[0], numbers.setdefault(limit[1:], len(numbers) + 1))

    def rows() -> Iterator[tuple[int, float, float, int, int]]:
        end = None
        for start_ms, end_ms, imports, exports in stretches:
            if end is not None and end != start_ms:
                yield end, 0.0, 0.0, 0, 0
            (import_w, import_why), (export_w, export_why) = one(imports), one(exports)
            yield start_ms, import_w, export_w, import_why, export_why
            end = end_ms
        if end is not None:
            yield end, 0.0, 0.0, 0, 0

    found = list(rows())
    return Coming(b"".join(starmap(_form(_COMING, len(numbers)).pack, found)), tuple(numbers))
