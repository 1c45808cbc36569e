"""What passed between us and each partner, in bounded memory: exchanges of both ways, transitions, and the last bodies.

Folding is cheap and does not depend on the order in which topics are read: each partner has shelves of their own for each
kind of line, sorted by time; joining a line with its body happens when somebody looks. Nothing here is changed in place,
so that a copy of the dictionaries stands still. Secrets are taken out when somebody looks (`gateway.redaction`).
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self, TypeVar

from gateway.timeline_lines import Kept, Line, Way, delivery_line, event_line, exchange_line, owed, received
from schemas.connection import EXCHANGE, Event, InboundMessage, SubjectKind
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage

WHOLE_LINES = 100_000
"""So many lines of all partners together: where there are many partners, each has fewer, but never less than `LEAST`."""
WHOLE_BODIES = 64 * 1024 * 1024
MOST_BODIES, LEAST_BODIES = 256 * 1024, 16 * 1024
"""Characters of bodies kept of each partner for each way, and where there are thousands of partners."""
LONGEST_BEAT = 4096


class Shelf(StrEnum):
    """Where lines are kept apart, so that many of one kind push out none of another."""

    IN = "in"
    OUT = "out"
    BEATS_IN = "beats in"
    BEATS_OUT = "beats out"
    SAID = "said"


KEEP = {Shelf.IN: 120, Shelf.OUT: 120, Shelf.SAID: 120, Shelf.BEATS_IN: 20, Shelf.BEATS_OUT: 20}
LEAST = {Shelf.IN: 20, Shelf.OUT: 20, Shelf.SAID: 20, Shelf.BEATS_IN: 5, Shelf.BEATS_OUT: 5}
EACH_LINES = sum(KEEP.values())
BEATS = frozenset({Shelf.BEATS_IN, Shelf.BEATS_OUT})


T = TypeVar("T", bound=Line | Kept)


@dataclass(slots=True)
class Timelines:
    """All partners' timelines. `sizes` are the characters of bodies on each shelf of messages, `partners` who is known here."""

    lines: dict[tuple[str, Shelf], tuple[Line, ...]] = field(default_factory=dict)
    messages: dict[tuple[str, Shelf], tuple[Kept, ...]] = field(default_factory=dict)
    sizes: dict[tuple[str, Shelf], int] = field(default_factory=dict)
    partners: dict[str, None] = field(default_factory=dict)

    def copy(self) -> Self:
        """Timelines that later records do not change."""
        return type(self)(dict(self.lines), dict(self.messages), dict(self.sizes), dict(self.partners))

    def take(self, value: Event | Delivery | InboundMessage | OutboundMessage) -> None:
        """Put one record's value on its shelf; nothing changes if it is there already, or older than all that is kept."""
        match value:
            case Event(subject_kind=SubjectKind.PARTNER):
                line = exchange_line(value) if value.kind == EXCHANGE else event_line(value)
                self._line(value.subject_id, _shelf(Way.IN, line.action) if line.is_exchange else Shelf.SAID, line)
            case Delivery():
                self._line(value.partner_id, _shelf(Way.OUT, value.action), delivery_line(value))
            case InboundMessage():
                self._message(value.partner_id, received(value))
            case OutboundMessage():
                self._message(value.partner_id, owed(value))
            case _:
                return

    def newest(self, partner_id: str, shelves: Iterable[Shelf]) -> list[Line]:
        """The lines of these shelves, newest first."""
        found = [line for shelf in shelves for line in self.lines.get((partner_id, shelf), ())]
        return sorted(found, key=_place, reverse=True)

    def whole_since(self, partner_id: str, shelves: Iterable[Shelf]) -> int | None:
        """The instant (ms) from which on these shelves lack nothing that was read; None where nothing has been dropped yet."""
        full = [lines for shelf in shelves if len(lines := self.lines.get((partner_id, shelf), ())) >= self._keep(shelf)]
        return max((lines[0].at_ms for lines in full), default=None)

    def bodies(self, partner_id: str) -> dict[tuple[Way, str], list[Kept]]:
        """The partner's messages by who sent them and X-Request-ID, oldest first: a peer may use an id again."""
        found: dict[tuple[Way, str], list[Kept]] = {}
        for shelf in Shelf:
            for kept in self.messages.get((partner_id, shelf), ()):
                found.setdefault((kept.direction, kept.request_id), []).append(kept)
        return found

    def _line(self, partner_id: str, shelf: Shelf, line: Line) -> None:
        self._meet(partner_id)
        known = self.lines.get((partner_id, shelf), ())
        self.lines[partner_id, shelf] = _inserted(known, line)[-self._keep(shelf) :]

    def _message(self, partner_id: str, kept: Kept) -> None:
        self._meet(partner_id)
        key = (partner_id, _shelf(kept.direction, kept.action))
        longest = LONGEST_BEAT if key[1] in BEATS else self._most_bodies
        if kept.length > longest:
            kept = kept._replace(body=None)
        known = self.messages.get(key, ())
        found = _inserted(known, kept)
        if found is not known:
            self.sizes[key] = self.sizes.get(key, 0) + _weight(kept)
            self._cut(key, found)

    def _cut(self, key: tuple[str, Shelf], kept: tuple[Kept, ...]) -> None:
        """Let the oldest messages go until the rest is within its bounds; the newest stays."""
        size, gone, most = self.sizes.get(key, 0), 0, self._most_bodies
        too_many = len(kept) - self._keep(key[1])
        while gone < len(kept) - 1 and (gone < too_many or size > most):
            size -= _weight(kept[gone])
            gone += 1
        self.messages[key], self.sizes[key] = kept[gone:], size

    def _meet(self, partner_id: str) -> None:
        """A partner comes to be known. Each time their number has doubled, all shares are cut anew: it costs little on the whole."""
        if partner_id in self.partners:
            return
        self.partners[partner_id] = None
        if not len(self.partners) & (len(self.partners) - 1):
            for key, lines in self.lines.items():
                self.lines[key] = lines[-self._keep(key[1]) :]
            for kept_key, kept in self.messages.items():
                self._cut(kept_key, kept)

    def _keep(self, shelf: Shelf) -> int:
        share = WHOLE_LINES // max(len(self.partners), 1)
        return KEEP[shelf] if share >= EACH_LINES else max(LEAST[shelf], KEEP[shelf] * share // EACH_LINES)

    @property
    def _most_bodies(self) -> int:
        return max(LEAST_BODIES, min(MOST_BODIES, WHOLE_BODIES // max(len(self.partners), 1)))


def _inserted(known: tuple[T, ...], one: T) -> tuple[T, ...]:
    """`known` with `one` at its place in time; `known` itself if it is there already."""
    if not known or (one.at_ms, one.id) > (known[-1].at_ms, known[-1].id):  # as nearly always
        return (*known, one)
    place = bisect_left(known, (one.at_ms, one.id), key=_place)
    if _place(known[place]) == (one.at_ms, one.id):
        return known
    return (*known[:place], one, *known[place:])


def _place(one: Line | Kept) -> tuple[int, str]:
    return one.at_ms, one.id


def _weight(kept: Kept) -> int:
    return 0 if kept.body is None else kept.length


def _shelf(way: Way, action: str) -> Shelf:
    """Heartbeats are kept apart, so that they do not push out what people look for."""
    if action == Action.HEARTBEAT:
        return Shelf.BEATS_IN if way is Way.IN else Shelf.BEATS_OUT
    return Shelf.IN if way is Way.IN else Shelf.OUT
