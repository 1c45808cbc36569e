"""The ladder of one group's limits: what it forecast, its fallback, what is held, the safe floor, nothing (semantics 3.3)."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.rules.limits import FOREVER_MS, Limit
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


def known(limit: Limit | None) -> bool:
    """Whether a limit is one: with kind UNKNOWN it only reminds of the last."""
    return limit is not None and limit.kind is not PieceKind.UNKNOWN


def of_group(normal: Schedule, fallback: Schedule, links: Sequence[Link], ladder: Ladder) -> Course:
    """The course of one group, direction and phase. Both schedules begin at receipt (`schedules.from_receipt`)."""
    walk, at, away_since = _Walk(normal, fallback, ladder), 0, None
    for since_ms, away in links:
        if away != (away_since is not None):
            walk.go(at, since_ms, away_since)
            at, away_since = since_ms, since_ms if away else None
    walk.go(at, FOREVER_MS, away_since)
    return merged(walk.course)


def merged(course: Course) -> Course:
    """Adjacent segments of the same limit as one."""
    found: Course = []
    last = None
    for segment in course:
        if last is not None and last.limit == segment.limit:
            last = found[-1] = Segment(last.start_ms, segment.end_ms, last.limit)
        else:
            found.append(segment)
            last = segment
    return found


class _Voice:
    """A schedule that is asked about instants."""

    def __init__(self, schedule: Schedule) -> None:
        self.spans = schedule
        self._ends = [span.end_ms for span in schedule]

    def after(self, at_ms: int) -> int:
        """The index of the first span that ends after an instant."""
        return bisect_right(self._ends, at_ms)

    def at(self, at_ms: int) -> tuple[Span | None, int]:
        """The span that covers an instant, if one does, and until when that is so."""
        index = self.after(at_ms)
        if index == len(self.spans):
            return None, FOREVER_MS
        span = self.spans[index]
        return (span, span.end_ms) if span.start_ms <= at_ms else (None, span.start_ms)


class _Walk:
    """One walk along a course, from its beginning; `go` is asked for one stretch after the other."""

    def __init__(self, normal: Schedule, fallback: Schedule, ladder: Ladder) -> None:
        self._normal, self._fallback, self._ladder = _Voice(normal), _Voice(fallback), ladder
        self.course: Course = []

    def go(self, at_ms: int, until_ms: int, away_since: int | None) -> None:
        """On to `until_ms`, the partner being away since then or (None) not."""
        if away_since is None:
            self._present(at_ms, until_ms)
        else:
            self._away(at_ms, until_ms, away_since)

    def _present(self, at: int, until: int) -> None:
        spans, index = self._normal.spans, self._normal.after(at)
        while at < until:
            start, end, limit_w, origin = spans[index] if index < len(spans) else (until, until, 0.0, None)
            if start > at:
                at = min(start, until)
                self._gap(self.course[-1].end_ms if self.course else 0, at, spans[index - 1] if index else None)
            if at < until and origin is not None:
                end = min(end, until)
                self.course.append(Segment(at, end, Limit(limit_w, PieceKind.FORECAST, origin.cause)))
                at = end
            index += 1

    def _gap(self, at: int, until: int, last: Span | None) -> None:
        """The last limit is held for a while; then comes the floor."""
        if last is not None and at < (held_until := last.end_ms + self._ladder.hold_ms):
            end = min(held_until, until)
            self.course.append(Segment(at, end, _said(last, PieceKind.HELD)))
            at = end
        if at < until:
            self.course.append(Segment(at, until, self._floor()))

    def _away(self, at: int, until: int, since: int) -> None:
        bare_since, held = None, None  # since when no fallback covers, and what was in force when that began
        while at < until:
            spoken, spoken_until = self._normal.at(at)
            fallen, fallen_until = self._fallback.at(at)
            end = min(spoken_until, fallen_until, until)
            said = _said(spoken, PieceKind.FORECAST) if spoken else None
            if fallen is not None:
                bare_since = None
                limit: Limit | None = _said(fallen, PieceKind.FALLBACK)
            else:
                if bare_since is None:
                    bare_since, held = at, self._last()
                if at < (held_until := bare_since + self._ladder.hold_ms):
                    end = min(end, held_until)
                    limit = _lower(_kept(held), said) or self._floor()
                else:
                    limit = self._floor() if self._ladder.safe_w is not None else said or self._floor()
            if spoken is not None and spoken.origin.received_ms >= since:  # received while away: it limits at once
                limit = _lower(limit if known(limit) else None, said)
            self.course.append(Segment(at, end, limit))
            at = end

    def _last(self) -> Limit | None:
        return self.course[-1].limit if self.course else None

    def _floor(self) -> Limit | None:
        if self._ladder.safe_w is not None:
            return Limit(self._ladder.safe_w, PieceKind.SAFE)
        last = self._last()
        return Limit(last.watts, PieceKind.UNKNOWN) if last else None


def _said(span: Span, kind: PieceKind) -> Limit:
    return Limit(span.limit_w, kind, span.origin.cause)


def _kept(limit: Limit | None) -> Limit | None:
    """The last limit, held; a safe one stays what it is, and none of the partner's business."""
    if limit is None or not known(limit):
        return None
    return limit if limit.kind is PieceKind.SAFE else limit._replace(kind=PieceKind.HELD)


def _lower(one: Limit | None, other: Limit | None) -> Limit | None:
    if one is None or other is None:
        return one or other
    return one if one.watts <= other.watts else other
