"""How schedules and what is to come are kept in state: as rows of bytes. As lists of small objects they would weigh ten times
as much, and each snapshot would take ten times as long. This is the one place that knows the form.

A row says what holds from an instant (ms since 1970 UTC) until the next row's: the values in W, and where each comes from, as
a number into a short list. Number 0 is nothing. It is bytes of this machine's order: a recovery store stays where it is.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

from pipelines.rules.limits import Limit, Stretch
from pipelines.rules.schedules import Origin, Schedule, Span
from schemas.capacity import PieceKind

_SAID = Struct("=qdI")
_COMING = Struct("=qddII")
_AT = Struct("=q")

Reason = tuple[PieceKind, str | None]


class Kept(NamedTuple):
    """A schedule as it is kept: rows of (instant, limit, number of the origin)."""

    rows: bytes
    origins: tuple[Origin, ...]


def kept(schedule: Schedule) -> Kept:
    """A schedule as it is kept."""
    numbers: dict[Origin, int] = {}
    rows, end = [], None
    for start_ms, end_ms, limit_w, origin in schedule:
        if end is not None and end != start_ms:
            rows.append(_SAID.pack(end, 0.0, 0))
        rows.append(_SAID.pack(start_ms, limit_w, numbers.setdefault(origin, len(numbers) + 1)))
        end = end_ms
    if end is not None:
        rows.append(_SAID.pack(end, 0.0, 0))
    return Kept(b"".join(rows), tuple(numbers))


def schedule_of(one: Kept) -> Schedule:
    """The schedule that was kept."""
    rows, origins = list(_SAID.iter_unpack(one.rows)), (None, *one.origins)
    return [
        Span(at, following[0], limit_w, origin)
        for (at, limit_w, number), following in pairwise(rows)
        if (origin := origins[number]) is not None
    ]


class Coming(NamedTuple):
    """What limits a circuit from some instants on: rows of (instant, import limit, export limit, numbers of their reasons)."""

    rows: bytes = b""
    reasons: tuple[Reason, ...] = ()

    def at_ms(self, index: int) -> int | None:
        """From when on a row holds; None behind the last."""
        place = index * _COMING.size
        return int(_AT.unpack_from(self.rows, place)[0]) if place < len(self.rows) else None

    def limits(self, index: int) -> tuple[Limit | None, Limit | None]:
        """What limits import and export from then on."""
        _, import_w, export_w, *numbers = _COMING.unpack_from(self.rows, index * _COMING.size)
        imports, exports = (
            Limit(watts, *self.reasons[number - 1]) if number else None for watts, number in zip((import_w, export_w), numbers, strict=True)
        )
        return imports, exports


def coming(stretches: Sequence[Stretch]) -> Coming:
    """The stretches as rows; where one is followed by nothing, nothing is known from its end on."""
    numbers: dict[Reason, int] = {}

    def one(limit: Limit | None) -> tuple[float, int]:
        return (0.0, 0) if limit is None else (limit[0], numbers.setdefault(limit[1:], len(numbers) + 1))

    def rows() -> Iterator[bytes]:
        end = None
        for start_ms, end_ms, imports, exports in stretches:
            if end is not None and end != start_ms:
                yield _COMING.pack(end, 0.0, 0.0, 0, 0)
            (import_w, import_why), (export_w, export_why) = one(imports), one(exports)
            yield _COMING.pack(start_ms, import_w, export_w, import_why, export_why)
            end = end_ms
        if end is not None:
            yield _COMING.pack(end, 0.0, 0.0, 0, 0)

    packed = b"".join(rows())
    return Coming(packed, tuple(numbers))
