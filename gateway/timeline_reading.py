"""A partner's timeline as people ask for it: newest first, in parts, filtered; and one exchange with all its attempts. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.partner_timeline import Shelf, Timelines
from gateway.timeline_lines import Kept, Line, Way
from schemas.outbound import Outcome

REFUSED_CREDENTIALS = frozenset({401, 403})
_TELLING = frozenset({Outcome.DELIVERED.value, Outcome.REFUSED.value, Outcome.HELD.value})
"""What an attempt says about the partner's queue: the others leave it held, or not, as it was (semantics 8.3)."""


class Kind(StrEnum):
    """Which lines."""

    ALL = "all"
    EXCHANGES = "exchanges"
    TRANSITIONS = "transitions"


SHELVES = {
    Kind.ALL: (Shelf.IN, Shelf.OUT, Shelf.SAID),
    Kind.EXCHANGES: (Shelf.IN, Shelf.OUT),
    Kind.TRANSITIONS: (Shelf.SAID,),
}
BEATS = (Shelf.BEATS_IN, Shelf.BEATS_OUT)


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines, newest first. `next` is the cursor of what is older, None at the end; `whole_since_ms` the instant from which on
    lines of every kind asked for are all here, None where nothing has been forgotten."""

    lines: list[Line]
    next: str | None
    whole_since_ms: int | None


def cursor_of(line: Line) -> str:
    """Where a part that ends with `line` goes on."""
    return f"{line.at_ms}.{line.id}"


def place_of(cursor: str) -> tuple[int, str]:
    """The place of a cursor. Raises ValueError for what is none."""
    at_ms, dot, line_id = cursor.partition(".")
    if not dot or not (at_ms.isascii() and at_ms.isdigit()) or len(at_ms) > 16:
        raise ValueError("this is no cursor of a timeline: take `next` as it was answered")
    return int(at_ms), line_id


def part_of(
    timelines: Timelines, partner_id: str, *, limit: int, before: str | None = None, kind: Kind = Kind.ALL, heartbeats: bool = False
) -> Part:
    """The newest `limit` lines older than the cursor `before`. Raises ValueError for a cursor that is none."""
    shelves = SHELVES[kind] + (BEATS if heartbeats and kind is not Kind.TRANSITIONS else ())
    lines = timelines.newest(partner_id, shelves)
    if before is not None:
        place = place_of(before)
        lines = [line for line in lines if (line.at_ms, line.id) < place]
    shown = lines[:limit]
    return Part(shown, cursor_of(shown[-1]) if len(lines) > limit else None, timelines.whole_since(partner_id, shelves))


def attempts_of(timelines: Timelines, partner_id: str, request_id: str) -> list[Line]:
    """All exchanges under an X-Request-ID, oldest first."""
    lines = timelines.newest(partner_id, SHELVES[Kind.EXCHANGES] + BEATS)
    return [line for line in reversed(lines) if line.request_id == request_id]


def messages_of(timelines: Timelines, partner_id: str, request_id: str) -> list[Kept]:
    """The messages under an X-Request-ID, oldest first, those from the partner before ours."""
    bodies = timelines.bodies(partner_id)
    return [kept for way in Way for kept in bodies.get((way, request_id), [])]


def credentials_refused(timelines: Timelines, partner_id: str) -> Line | None:
    """Our newest exchange, if the partner answered it with 401 or 403: it does not know us any more, whatever we send."""
    answered = (line for line in timelines.newest(partner_id, (Shelf.OUT, Shelf.BEATS_OUT)) if line.status is not None)
    newest = next(answered, None)
    return newest if newest is not None and newest.status in REFUSED_CREDENTIALS else None


def held_back(timelines: Timelines, partner_id: str) -> Line | None:
    """The exchange since which what we owe is held back until a person or the partner mends what `words` say; heartbeats aside."""
    told = (line for line in timelines.newest(partner_id, (Shelf.OUT,)) if line.outcome in _TELLING)
    newest = next(told, None)
    return newest if newest is not None and newest.outcome == Outcome.HELD else None
