"""Limits over time in their compact form: what the rules of envelopes, circuits and compliance compute with (semantics 3.4).

Instants are milliseconds since 1970 UTC, powers W. A list of stretches is in order of time and without overlap;
where it says nothing, nothing is known.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from schemas.capacity import EnvelopePiece, PieceKind
from schemas.facts import made
from schemas.units import Direction, Phase, from_ms, to_ms

FOREVER_MS = to_ms(datetime(2200, 1, 1, tzinfo=UTC))
"""Where a limit that holds until further notice ends: late enough, and within what the history store can write."""


MOST_W = 1e12
"""More than any connection has: what is said above it means "no limit worth the name", and sums of it stay numbers."""


class Limit(NamedTuple):
    """A limit, why it holds, and the opaque id of what it came from.

    With kind UNKNOWN it is no limit but a reminder: the last one that was in force before nothing was known.
    """

    watts: float
    kind: PieceKind
    cause: str | None = None


class Stretch(NamedTuple):
    """What is known for [start_ms, end_ms); None is not known."""

    start_ms: int
    end_ms: int
    imports: Limit | None
    exports: Limit | None

    def limit(self, direction: Direction) -> Limit | None:
        """The limit of one direction."""
        return self.imports if direction is Direction.IMPORT else self.exports


def piece_of(stretch: Stretch, phase: Phase) -> EnvelopePiece:
    """The stretch as a piece of an `OperatingEnvelope`."""
    imports, exports = stretch.imports, stretch.exports
    first = imports or exports
    return made(
        EnvelopePiece,
        start=from_ms(stretch.start_ms),
        end=from_ms(stretch.end_ms),
        import_limit_w=imports.watts if imports else None,
        export_limit_w=exports.watts if exports else None,
        phase=phase,
        cause=first.cause if first else None,
        kind=first.kind if first else PieceKind.UNKNOWN,
        import_cause=imports.cause if imports else None,
        import_kind=imports.kind if imports else PieceKind.UNKNOWN,
        export_cause=exports.cause if exports else None,
        export_kind=exports.kind if exports else PieceKind.UNKNOWN,
    )


def stretch_of(piece: EnvelopePiece) -> Stretch:
    """A piece of an `OperatingEnvelope` as a stretch; its phase is left behind."""
    imports = None if piece.import_limit_w is None else Limit(piece.import_limit_w, piece.import_kind, piece.import_cause)
    exports = None if piece.export_limit_w is None else Limit(piece.export_limit_w, piece.export_kind, piece.export_cause)
    return Stretch(to_ms(piece.start), to_ms(piece.end), imports, exports)


def within(stretches: Iterable[Stretch], start_ms: int, end_ms: int = FOREVER_MS) -> list[Stretch]:
    """What the stretches say about [start_ms, end_ms)."""
    return [
        stretch
        if stretch.start_ms >= start_ms and stretch.end_ms <= end_ms
        else stretch._replace(start_ms=max(stretch.start_ms, start_ms), end_ms=min(stretch.end_ms, end_ms))
        for stretch in stretches
        if stretch.end_ms > start_ms and stretch.start_ms < end_ms
    ]


def replaced(timeline: Sequence[Stretch], effective_ms: int, newer: Iterable[Stretch]) -> list[Stretch]:
    """The timeline with everything from `effective_ms` on said anew; what was before stays as it was (semantics 3.4)."""
    return [*within(timeline, 0, effective_ms), *within(newer, effective_ms)]
