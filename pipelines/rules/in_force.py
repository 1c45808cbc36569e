"""What limits at t: the courses of all who speak about a scope, and what they come to together (semantics 3.3).

A course is a list of segments from 1970 to `FOREVER_MS` without gap or overlap. It is a pure function of what is
known, so that everything time alone will bring (block ends, the end of a hold) stands in it beforehand.
"""

from collections.abc import Sequence
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
    old, new = _Reader(before), _Reader(after)
    at = from_ms
    while at < FOREVER_MS:
        if old.known_at(at) != new.known_at(at):
            return at
        at = min(old.until, new.until)
    return None


def stretches(imports: Course, exports: Course, from_ms: int) -> list[Stretch]:
    """Both directions together from `from_ms` to the end of what is known; gaps between are there with None."""
    readers = _Reader(imports), _Reader(exports)
    found: list[Stretch] = []
    at, start = from_ms, from_ms
    said: tuple[Limit | None, Limit | None] = (readers[0].known_at(at), readers[1].known_at(at))
    while at < FOREVER_MS:
        end = min(readers[0].until, readers[1].until)
        following = (readers[0].known_at(end), readers[1].known_at(end)) if end < FOREVER_MS else None
        if following != said:
            found.append(Stretch(start, end, *said))
            start = end
        at, said = end, following or said
    if found and found[-1].imports is None and found[-1].exports is None:
        found.pop()
    return found


class _Reader:
    """Reads a course at rising instants; `until` is the end of the segment that was read last."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._index = 0
        self.until = 0

    def at(self, instant_ms: int) -> Limit | None:
        """What stands there, a reminder of what was known before included."""
        while self._course[self._index].end_ms <= instant_ms:
            self._index += 1
        _, self.until, limit = self._course[self._index]
        return limit

    def known_at(self, instant_ms: int) -> Limit | None:
        """The limit there; None where it is not known."""
        limit = self.at(instant_ms)
        return None if limit is None or limit.kind is PieceKind.UNKNOWN else limit
