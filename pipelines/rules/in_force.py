"""What limits at t: the courses of all who speak about a scope, and what they come to together (semantics 3.3).

A course is a list of segments from 1970 to `FOREVER_MS` without gap or overlap. It is a pure function of what is
known, so that everything time alone will bring (block ends, the end of a hold) stands in it beforehand.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from pipelines.rules.ladder import Course, Segment, known, merged
from pipelines.rules.limits import FOREVER_MS, Limit, Stretch
from pipelines.rules.schedules import Schedule
from schemas.capacity import PieceKind


def of_operator(schedule: Schedule) -> Course:
    """The course of an operator's own limit: it holds where it speaks, and nothing is held after it."""
    course, at = [], 0
    for start, end, limit_w, origin in schedule:
        if start > at:
            course.append(Segment(at, start, None))
        course.append(Segment(start, end, Limit(limit_w, PieceKind.OPERATOR, origin.cause)))
        at = end
    if at < FOREVER_MS:
        course.append(Segment(at, FOREVER_MS, None))
    return merged(course)


def silent_when_unknown(course: Course) -> Course:
    """The course of a group that says `when_unknown: rating`: where it knows nothing it restrains nobody."""
    return merged([Segment(start, end, limit if known(limit) else None) for start, end, limit in course])


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
        said = [limit for reader in readers if (limit := reader.at(start)) is not None]
        found.append(Segment(start, end, min(said, key=lambda limit: (limit.watts, not known(limit))) if said else None))
    return merged(found)


def first_change(before: Course, after: Course, from_ms: int) -> int | None:
    """The earliest instant at or after `from_ms` at which the two know something else; None if they agree."""
    return next((start for start, _, one, other in _side_by_side(before, after, from_ms) if one != other), None)


def stretches(imports: Course, exports: Course, from_ms: int) -> list[Stretch]:
    """Both directions together from `from_ms` to the end of what is known; gaps between are there with None."""
    found: list[Stretch] = []
    last = None
    for start, end, one, other in _side_by_side(imports, exports, from_ms):
        if last is not None and last.imports == one and last.exports == other:
            last = found[-1] = Stretch(last.start_ms, end, one, other)
        else:
            last = Stretch(start, end, one, other)
            found.append(last)
    if last is not None and last.imports is None and last.exports is None:
        found.pop()
    return found


def _side_by_side(one: Course, other: Course, at: int) -> Iterator[tuple[int, int, Limit | None, Limit | None]]:
    """From an instant to `FOREVER_MS`: the times in which neither course changes, and what each knows then."""
    index, place = 0, 0
    while at < FOREVER_MS:
        while one[index].end_ms <= at:
            index += 1
        while other[place].end_ms <= at:
            place += 1
        _, until, limit = one[index]
        _, end, second = other[place]
        if until < end:
            end = until
        if limit is not None and limit.kind is PieceKind.UNKNOWN:
            limit = None
        if second is not None and second.kind is PieceKind.UNKNOWN:
            second = None
        yield at, end, limit, second
        at = end


class _Reader:
    """Reads a course at rising instants."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._index = 0

    def at(self, instant_ms: int) -> Limit | None:
        """What stands there, a reminder of what was known before included."""
        while self._course[self._index].end_ms <= instant_ms:
            self._index += 1
        return self._course[self._index].limit
