"""The operating envelope of a scope: what its groups' and its operator's limits come to over time (semantics 3).

Knows no protocol: forecasts arrive as `CapacityForecast`, connections as present or away. The envelope is a pure
function of what is known, so news makes a revision, from the first instant it changes anything, and time alone none;
except that what is known so far ahead that one message does not hold it is said in parts (see `envelope_parts`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipelines.records import Out, Tick
from pipelines.rules import in_force
from pipelines.rules.circuits import Plan
from pipelines.rules.envelope_facts import envelope, oddities
from pipelines.rules.envelope_parts import ALL_SAID, MOST_BYTES, Found, Said, first_part
from pipelines.rules.kept import Book, Kept, ScheduleKey, begins_before
from pipelines.rules.ladder import Course, Ladder, Link, of_group
from pipelines.rules.limits import Stretch
from pipelines.rules.repeats import Heard
from pipelines.rules.schedules import Origin, from_receipt, lowest, pruned, splice
from pipelines.rules.scope_items import OPERATOR, Item, Linked, ScopeTerms, Spoken
from schemas.capacity import CapacityForecast, LimitType
from schemas.units import Direction, Phase, from_ms, to_ms

REPEATS_KNOWN_MS = timedelta(days=7) // timedelta(milliseconds=1)
"""How long a forecast is recognised when it comes again (semantics 6.6)."""

PAST_KEPT_MS = timedelta(hours=6) // timedelta(milliseconds=1)
"""How much of what a source said about the past stays in state at least."""

MANY = 8
"""So many rows of a schedule may be past remembering before it is written without them."""

LINKS_KEPT_MS = timedelta(days=7) // timedelta(milliseconds=1)
"""How long it is remembered when a partner was away."""


Way = tuple[Direction, Phase]

_TYPES = {
    Direction.IMPORT: (LimitType.IMPORT, LimitType.FALLBACK_IMPORT),
    Direction.EXPORT: (LimitType.EXPORT, LimitType.FALLBACK_EXPORT),
}
"""What limits a direction while the partner is there, and while it is away."""


@dataclass
class EnvelopeState:
    """What is known about one scope. `links` are by partner, `heard` (see `repeats`) by source; `said` is how far ahead it
    has been told."""

    scope_id: str
    revision: int = 0
    newest_ms: int = 0
    said: Said = ALL_SAID
    terms: ScopeTerms | None = None
    schedules: dict[ScheduleKey, Kept] = field(default_factory=dict)
    links: dict[str, list[Link]] = field(default_factory=dict)
    heard: dict[str, bytes] = field(default_factory=dict)


class EnvelopeRule:
    """Turns `Item`s into `OperatingEnvelope` revisions, `Event`s for oddities and `Plan`s for the scope's circuit.

    A revision is at most about `most_bytes` large; what does not fit is said later, when time comes (`Said.due_ms`).
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes

    def start(self, key: str) -> EnvelopeState:
        """A scope nobody has spoken about."""
        return EnvelopeState(key)

    def step(self, state: EnvelopeState, item: Item | Tick, now: datetime) -> Iterator[Out | Plan]:
        """Take in one item, saying nothing if it changes nothing; or (a tick) say what is to be said by now."""
        if isinstance(item, Tick):
            yield from self._until(state, to_ms(now), now)
            return
        if not _is_news(state, item):
            return
        terms = state.terms
        # What is older than is remembered stays as it was, also when a voice is heard that far behind the others.
        instant_ms = max(item.instant_ms, state.newest_ms - PAST_KEPT_MS)
        # A replay says the parts where they were said at first, and the item may change what they are.
        yield from self._until(state, instant_ms, now)
        state.newest_ms = max(state.newest_ms, instant_ms)
        book = Book(state.schedules)
        concerned = _concerned(state, item)
        before = {way: _course(state, book, *way) for way in concerned}
        yield from oddities(state.scope_id, item.event_id, _learn(state, book, item), now)
        after = {way: _course(state, book, *way) for way in concerned}
        changes = (in_force.first_change(before[way], after[way], instant_ms) for way in concerned)
        effective_ms = min((change for change in changes if change is not None), default=None)
        if effective_ms is not None or item.terms != terms:
            found = _stretches(state, book, after, instant_ms)
            if effective_ms is not None:
                state.said = state.said._replace(cause_id=item.event_id)
                if effective_ms < state.said.until_ms:  # else it is said when its turn comes
                    yield self._part(state, found, effective_ms, instant_ms, now)
            yield Plan(state.scope_id, item.terms.circuit, instant_ms, tuple(found[Phase.ALL]), item.event_id)
        _forget(state, book, item)

    def due(self, state: EnvelopeState) -> datetime | None:
        """When the next part is to be said; never where all was: what time will bring stands in the pieces."""
        due_ms = state.said.due_ms()
        return None if due_ms is None else from_ms(due_ms)

    def _until(self, state: EnvelopeState, instant_ms: int, now: datetime) -> Iterator[Out]:
        """The parts that are to be said by an instant."""
        found: Found | None = None
        while (due_ms := state.said.due_ms()) is not None and due_ms <= instant_ms:
            effective_ms = state.said.until_ms
            if found is None:
                found = _stretches(state, Book(state.schedules), {}, effective_ms)
            if not any(found.values()):
                state.said = ALL_SAID  # what was to be said has been taken back
                return
            yield self._part(state, found, effective_ms, due_ms, now)

    def _part(self, state: EnvelopeState, found: Found, effective_ms: int, stated_ms: int, now: datetime) -> Out:
        """Say what is known from an instant on, as far as one message holds it."""
        part, until_ms = first_part(found, effective_ms, self._most_bytes)
        state.said = state.said._replace(until_ms=until_ms, stated_ms=stated_ms)
        state.revision += 1
        return envelope(state.scope_id, state.revision, part, effective_ms, state.said.cause_id, now)


def _is_news(state: EnvelopeState, item: Item) -> bool:
    """Whether the item can change anything: much is told again, of thousands of scopes at once."""
    if item.terms != state.terms:
        return True
    if isinstance(item, Spoken):
        return not Heard(state.heard.get(item.forecast.source_id, b"")).knows(item.forecast.cause, item.forecast.body_digest)
    if isinstance(item, Linked):
        links = list(state.links.get(item.partner_id, ()))
        _linked(links, Link(item.instant_ms, item.away))
        return links != state.links.get(item.partner_id, [])
    return False


def _phases(state: EnvelopeState) -> dict[Phase, None]:
    """Those that somebody has spoken about, in that order; ALL always is the first."""
    return {Phase.ALL: None, **dict.fromkeys(key.phase for key in state.schedules)}


def _concerned(state: EnvelopeState, item: Item) -> list[Way]:
    """About what the item may say something new: what it is silent about is not worked out twice."""
    if not isinstance(item, Spoken) or item.terms != state.terms:
        phases: Iterable[Phase] = _phases(state)
        directions: Iterable[Direction] = Direction
        if isinstance(item, Spoken):
            phases = {**_phases(state), **dict.fromkeys(block.phase for block in item.forecast.blocks)}
    else:
        phases = dict.fromkeys(block.phase for block in item.forecast.blocks)
        directions = [direction for direction in Direction if item.forecast.type in _TYPES[direction]]
    return [(direction, phase) for phase in phases for direction in directions]


def _stretches(state: EnvelopeState, book: Book, courses: Mapping[Way, Course], from_ms: int) -> dict[Phase, list[Stretch]]:
    """What limits the scope from `from_ms` to the end of what is known, by phase; `courses` are those already worked out."""
    found = {}
    for phase in _phases(state):
        ways = (Direction.IMPORT, phase), (Direction.EXPORT, phase)
        imports, exports = (courses[way] if way in courses else _course(state, book, *way) for way in ways)
        found[phase] = in_force.stretches(imports, exports, from_ms)
    return found


def _course(state: EnvelopeState, book: Book, direction: Direction, phase: Phase) -> Course:
    """What limits one direction and phase, whoever says so."""
    normal, fallback = _TYPES[direction]
    said = []
    for group in state.terms.groups if state.terms else ():
        safe_w = group.safe_import_w if direction is Direction.IMPORT else group.safe_export_w
        course = of_group(
            book.read(ScheduleKey(group.group_id, normal, phase)),
            book.read(ScheduleKey(group.group_id, fallback, phase)),
            state.links.get(group.partner_id, []),
            Ladder(group.hold_ms, safe_w if phase is Phase.ALL else None),
        )
        said.append(course if group.keep else in_force.silent_when_unknown(course))
    # Last: where both are equal the forecast holds, whose breach the partner is told (semantics 7.3).
    if own := book.read(ScheduleKey(OPERATOR, normal, phase)):
        said.append(in_force.of_operator(own))
    return in_force.lowest_of(said)


def _learn(state: EnvelopeState, book: Book, item: Item) -> tuple[str, ...]:
    """Take the item into the state; what was odd about it."""
    state.terms = item.terms
    if isinstance(item, Spoken):
        return _spoken(state, book, item.forecast)
    if isinstance(item, Linked):
        _linked(state.links.setdefault(item.partner_id, []), Link(item.instant_ms, item.away))
    return ()


def _linked(links: list[Link], link: Link) -> None:
    if links and link.since_ms < links[-1].since_ms:
        return  # told before, and told again after a restart
    while links and links[-1].since_ms == link.since_ms:
        links.pop()
    if link.away != (links[-1].away if links else False):
        links.append(link)


def _spoken(state: EnvelopeState, book: Book, forecast: CapacityForecast) -> tuple[str, ...]:
    heard = Heard(state.heard.get(forecast.source_id, b""))
    if heard.knows(forecast.cause, forecast.body_digest):
        return ()
    odd = []
    if heard.contents_of(forecast.cause):
        odd.append(f"forecast {forecast.cause} of {forecast.source_id} came again with other contents; it was applied as new")
    origin = Origin(forecast.cause, forecast.body_digest, to_ms(forecast.received_at))
    heard.hear(forecast.cause, forecast.body_digest, origin.received_ms)
    state.heard[forecast.source_id] = heard.rows
    for phase in sorted({block.phase for block in forecast.blocks}):
        newer, overlapping = lowest((block for block in forecast.blocks if block.phase is phase), origin)
        if overlapping:
            odd.append(f"blocks of forecast {forecast.cause} of {forecast.source_id} overlap; where they do, the lower limit counts")
        key = ScheduleKey(forecast.source_id, forecast.type, phase)
        book.write(key, splice(book.read(key), from_receipt(newer)))
    return tuple(odd)


def _forget(state: EnvelopeState, book: Book, item: Item) -> None:
    """Each voice's past is forgotten by its own time: in a replay one may be far ahead of another."""
    if isinstance(item, Spoken):
        source_id = item.forecast.source_id
        hold_ms = max((group.hold_ms for group in item.terms.groups), default=0)
        before_ms = item.instant_ms - max(PAST_KEPT_MS, hold_ms)
        for key in [key for key, one in state.schedules.items() if key.source_id == source_id and begins_before(one, MANY, before_ms)]:
            book.write(key, pruned(book.read(key), before_ms))
        heard = Heard(state.heard.get(source_id, b""))
        heard.forget(item.instant_ms - REPEATS_KNOWN_MS)
        state.heard[source_id] = heard.rows
    elif isinstance(item, Linked):
        links = state.links[item.partner_id]
        past = [link for link in links if link.since_ms <= item.instant_ms - LINKS_KEPT_MS]
        state.links[item.partner_id] = links[max(len(past) - 1, 0) :]
