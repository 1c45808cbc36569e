"""What limits at t: the schedules, the connection's state and the fallback ladder together (semantics 3.3).

A course is a list of segments from 1970 to `FOREVER_MS` without gap or overlap. It is a pure function of what is
known, so that everything time alone will bring (block ends, the end of a hold) stands in it beforehand.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Generic, NamedTuple, Protocol, TypeVar

from pipelines.rules.limits import FOREVER_MS, Limit, Stretch
from pipelines.rules.schedules import Schedule, Span
from schemas.capacity import PieceKind


class Segment(NamedTuple):
    """A limit for [start_ms, end_ms); None where nobody has ever said anything."""

    start_ms: int
    end_ms: int
    limit: Limit | None


Course = list[Segment]


class Link(NamedTuple):
    """Since when a partner is, or is no longer, away (OFFLINE or DEREGISTERED)."""

    since_ms: int
    away: bool


class Ladder(NamedTuple):
    """How long a last limit is held, and the floor after that where one is set (W)."""

    hold_ms: int
    safe_w: float | None


def of_group(normal: Schedule, fallback: Schedule, links: Sequence[Link], ladder: Ladder) -> Course:
    """The course of one group, direction and phase. Both schedules begin at receipt (`schedules.from_receipt`)."""
    spans = (*normal, *fallback)
    marks = {0, FOREVER_MS, *(mark for span in spans for mark in span[:2]), *(link.since_ms for link in links)}
    walk = _Walk(ladder)
    course: Course = []
    ahead = (_Reader(normal), _Reader(fallback))
    turns = {link.since_ms: link.away for link in links}
    for start, end in pairwise(sorted(marks)):
        if start in turns:
            walk.turn(turns[start], start)
        spoken, fallen = (reader.at(start) for reader in ahead)
        at = start
        while at < end:
            limit, until = walk.step(at, spoken, fallen)
            course.append(Segment(at, min(until, end), limit))
            at = min(until, end)
    return _merged(course)


def of_operator(schedule: Schedule) -> Course:
    """The course of an operator's own limit: it holds where it speaks, and nothing is held after it."""
    marks = sorted({0, FOREVER_MS, *(mark for span in schedule for mark in span[:2])})
    reader = _Reader(schedule)
    course = []
    for start, end in pairwise(marks):
        span = reader.at(start)
        course.append(Segment(start, end, Limit(span.limit_w, PieceKind.OPERATOR, span.origin.cause) if span else None))
    return _merged(course)


def silent_when_unknown(course: Course) -> Course:
    """The course of a group that says `when_unknown: rating`: where it knows nothing it restrains nobody."""
    return _merged(segment._replace(limit=segment.limit if _known(segment.limit) else None) for segment in course)


def lowest_of(courses: Sequence[Course]) -> Course:
    """Several groups and operators on one scope: the lower limit wins, the earlier course where two are equal.

    A course that has fallen silent takes part with its last limit: if that is the lowest, nothing is known.
    So ignorance of one never lets another's higher limit through.
    """
    if len(courses) <= 1:
        return courses[0] if courses else [Segment(0, FOREVER_MS, None)]
    marks = sorted({0, FOREVER_MS, *(segment.start_ms for course in courses for segment in course)})
    readers = [_Reader(course) for course in courses]
    found = []
    for start, end in pairwise(marks):
        said = [segment.limit for reader in readers if (segment := reader.at(start)) is not None and segment.limit is not None]
        found.append(Segment(start, end, min(said, key=lambda limit: (limit.watts, not _known(limit))) if said else None))
    return _merged(found)


def stretches(imports: Course, exports: Course, from_ms: int) -> list[Stretch]:
    """Both directions together from `from_ms` to the end of what is known; gaps between are there with None."""
    marks = {from_ms, *(segment.start_ms for segment in (*imports, *exports) if segment.start_ms > from_ms), FOREVER_MS}
    readers = (_Reader(imports), _Reader(exports))
    found: list[Stretch] = []
    for start, end in pairwise(sorted(marks)):
        import_limit, export_limit = (_limit(reader.at(start)) for reader in readers)
        if found and found[-1][2:] == (import_limit, export_limit):
            found[-1] = found[-1]._replace(end_ms=end)
        else:
            found.append(Stretch(start, end, import_limit, export_limit))
    if found and found[-1].imports is None and found[-1].exports is None:
        found.pop()
    return found


class _Walk:
    """One walk along a course, from its beginning. `step` is asked for rising instants."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._away_since: int | None = None
        self._bare_since: int | None = None  # away, and since then no fallback covers
        self._held: Limit | None = None  # what was in force when that began
        self._last_spoken: Span | None = None
        self._current: Limit | None = None

    def turn(self, away: bool, at_ms: int) -> None:
        """The partner goes away or comes back."""
        if away != (self._away_since is not None):
            self._away_since = at_ms if away else None
            self._bare_since = None

    def step(self, at_ms: int, spoken: Span | None, fallen: Span | None) -> tuple[Limit | None, int]:
        """What limits from `at_ms` on, given the normal and the fallback span there, and until when at the latest."""
        if self._away_since is None:
            self._current, until = self._present(at_ms, spoken)
        else:
            self._current, until = self._away(at_ms, spoken, fallen, self._away_since)
        self._last_spoken = spoken or self._last_spoken
        return self._current, until

    def _present(self, at_ms: int, spoken: Span | None) -> tuple[Limit | None, int]:
        if spoken is not None:
            return _said(spoken, PieceKind.FORECAST), FOREVER_MS
        last = self._last_spoken
        if last is not None and at_ms < last.end_ms + self._ladder.hold_ms:
            return _said(last, PieceKind.HELD), last.end_ms + self._ladder.hold_ms
        return self._floor(), FOREVER_MS

    def _away(self, at_ms: int, spoken: Span | None, fallen: Span | None, since_ms: int) -> tuple[Limit | None, int]:
        until = FOREVER_MS
        said = _said(spoken, PieceKind.FORECAST) if spoken else None
        if fallen is not None:
            self._bare_since = None
            limit: Limit | None = _said(fallen, PieceKind.FALLBACK)
        else:
            if self._bare_since is None:
                self._bare_since, self._held = at_ms, self._current
            held_until = self._bare_since + self._ladder.hold_ms
            if at_ms < held_until:
                until = held_until
                held = Limit(self._held.watts, PieceKind.HELD, self._held.cause) if self._held and _known(self._held) else None
                limit = _lower(held, said) or self._floor()
            else:
                limit = self._floor() if self._ladder.safe_w is not None else said or self._floor()
        if spoken is not None and spoken.origin.received_ms >= since_ms:  # received while away: it limits at once
            limit = _lower(limit if _known(limit) else None, said)
        return limit, until

    def _floor(self) -> Limit | None:
        if self._ladder.safe_w is not None:
            return Limit(self._ladder.safe_w, PieceKind.SAFE)
        return Limit(self._current.watts, PieceKind.UNKNOWN) if self._current else None


class _Timed(Protocol):
    @property
    def start_ms(self) -> int: ...
    @property
    def end_ms(self) -> int: ...


T = TypeVar("T", bound=_Timed)


class _Reader(Generic[T]):
    """Reads a list that is in order of time, at rising instants."""

    def __init__(self, pieces: Sequence[T]) -> None:
        self._pieces = pieces
        self._next = 0

    def at(self, instant_ms: int) -> T | None:
        """The piece that covers the instant, if one does."""
        while self._next < len(self._pieces) and self._pieces[self._next].end_ms <= instant_ms:
            self._next += 1
        if self._next == len(self._pieces) or self._pieces[self._next].start_ms > instant_ms:
            return None
        return self._pieces[self._next]


def _said(span: Span, kind: PieceKind) -> Limit:
    return Limit(span.limit_w, kind, span.origin.cause)


def _limit(segment: Segment | None) -> Limit | None:
    return segment.limit if segment is not None and _known(segment.limit) else None


def _known(limit: Limit | None) -> bool:
    return limit is not None and limit.kind is not PieceKind.UNKNOWN


def _lower(one: Limit | None, other: Limit | None) -> Limit | None:
    if one is None or other is None:
        return one or other
    return one if one.watts <= other.watts else other


def _merged(course: Iterable[Segment]) -> Course:
    found: Course = []
    for segment in course:
        if found and found[-1].limit == segment.limit:
            found[-1] = found[-1]._replace(end_ms=segment.end_ms)
        else:
            found.append(segment)
    return found
