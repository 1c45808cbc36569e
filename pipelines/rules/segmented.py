"""Messages that come in segments become whole (semantics 6.8).

Key: partner. A step takes in a segment, a joined message read back, or the news that time has come. It says the whole
message on `derms.inbound`, once all its segments are there, and events for people. What is said follows from the
segments alone, so a replay says the same message under the same ids, which changes nothing behind it (semantics 3.1).

A replay without state would say old messages again behind newer ones. So what was complete long ago is said only
after a rest, and not at all if it is read back in the meantime: it stands behind its segments in the same partition.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipelines.records import Out, Tick
from pipelines.rules.segment_sets import OpenSet, Part, joined, listed, part_of, place
from schemas.connection import Event, InboundMessage, Severity, SubjectKind
from schemas.facts import derived_id, digest
from schemas.oscp.v20 import MOST_ENTRIES
from schemas.topics import EVENTS, INBOUND

PATIENCE = timedelta(minutes=10)
"""Segments that came so long after the first of their message come too late: it is dropped."""
SETTLE = timedelta(seconds=10)
"""After a start, or while old segments are still coming in, nothing is dropped by the clock and nothing old said, for so long."""
MOST_SETS = 32
MOST_HELD = 8 * 1024 * 1024
"""Of one partner so many unfinished messages, and characters of them, are held; then the oldest are dropped."""
MOST_SEEN = 1024
REMEMBERED = timedelta(days=7)
"""A segment that comes again is known for so long (semantics 6.6), but never more of them than the number before."""
ROOM = 4096
"""What a message takes on the topic beside its body, at most."""


@dataclass
class Segments:
    """What is known of one partner. `seen` are the segments of joined and of open messages, by digest of X-Request-ID.

    `closed` are the sets that were joined last, without bodies: a segment may be sent again under another id.
    `owed` are joined messages, as JSON text by their event id, that are said when `rest_until` has passed.
    """

    partner_id: str
    open: list[OpenSet] = field(default_factory=list)
    closed: list[OpenSet] = field(default_factory=list)
    seen: dict[str, tuple[tuple[str, ...], datetime]] = field(default_factory=dict)
    owed: dict[str, str] = field(default_factory=dict)
    rest_until: datetime | None = None


class SegmentRule:
    """The rule of the lifecycle's step `segments`; see the module. `patience` and `settle` are clock time, as allowed
    for slow machinery; `started_at` is when this process began."""

    def __init__(self, started_at: datetime, patience: timedelta = PATIENCE, settle: timedelta = SETTLE) -> None:
        self._rested_at, self._patience, self._settle = started_at + settle, patience, settle

    def start(self, key: str) -> Segments:
        """A partner that never sent a segment."""
        return Segments(key)

    def due(self, state: Segments) -> datetime | None:
        """When the first open set is given up, or what is owed may be said."""
        instants = [self._given_up_at(each) for each in state.open]
        earliest = min(instants, default=None) if not state.owed else self._rest(state)
        return None if earliest is None else max(earliest, self._rest(state))

    def step(self, state: Segments, item: InboundMessage | Tick, now: datetime) -> Iterable[Out]:
        """One step; see the module. `item` is a segment, or a message that was joined from segments."""
        match item:
            case Tick():
                return list(self._time_came(state, now))
            case InboundMessage(is_segment=False):
                state.owed.pop(item.event_id, None)
                return []
            case InboundMessage():
                return list(self._segment(state, item, now))

    def _rest(self, state: Segments) -> datetime:
        return max(state.rest_until or self._rested_at, self._rested_at)

    def _given_up_at(self, found: OpenSet) -> datetime:
        """A little after the last segment that counts could come, so that it has been read by then."""
        return found.taken_at + self._patience + self._settle

    def _time_came(self, state: Segments, now: datetime) -> Iterator[Out]:
        if now < self._rest(state):
            return
        for text in state.owed.values():
            yield Out(INBOUND, state.partner_id, InboundMessage.model_validate_json(text))
        state.owed.clear()
        yield from self._drop_incomplete(state, [each for each in state.open if self._given_up_at(each) <= now], now)

    def _drop_incomplete(self, state: Segments, sets: Iterable[OpenSet], now: datetime) -> Iterator[Out]:
        for each in sets:
            minutes = f"{self._patience.total_seconds() / 60:g}"
            yield _dropped(state, each, f"{_missing(each)} did not come within {minutes} minutes of the first", now)

    def _segment(self, state: Segments, message: InboundMessage, now: datetime) -> Iterator[Out]:
        if late := now - message.received_at > self._settle:
            state.rest_until = now + self._settle
        yield from self._drop_incomplete(state, [each for each in state.open if message.received_at > each.since + self._patience], now)
        try:
            key, part = part_of(message)
        except ValueError:
            yield _event(
                state, "message.unreadable", f"a segment of a {message.action} was let in but cannot be read", now, message.event_id,
                severity=Severity.ALARM,
            )  # fmt: skip
            return
        state.closed = [each for each in state.closed if each.since >= part.received_at - self._patience]
        known = _known(state, part)
        if part.contents in known or any(each.has(key, part) for each in state.closed):
            return
        if known:
            words = f"{state.partner_id} used the X-Request-ID {part.request_id} for two different messages; both are taken"
            yield _event(state, "request-id.reused", words, now, part.event_id, request_id=part.request_id)
        _remember(state, part, known)
        found = place(state.open, key, part, now)
        if (replaced := found.take(part)) is not None:
            words = f"segment {part.index} of {_name(found)} came twice with different contents; the later counts"
            yield _event(state, "segments.replaced", words, now, part.event_id, replaced=replaced.event_id)
        if found.complete:
            state.open.remove(found)
            yield from self._joined(state, found, now, at_once=not late and not state.owed)
        yield from _bounded(state, now)

    def _joined(self, state: Segments, found: OpenSet, now: datetime, *, at_once: bool) -> Iterator[Out]:
        message, entries = joined(state.partner_id, found)
        if entries > MOST_ENTRIES or len(message.body.encode()) + ROOM > INBOUND.max_bytes:
            words = f"joined it has {entries} blocks and {len(message.body)} characters; at most {MOST_ENTRIES} blocks can be taken"
            yield _dropped(state, found, words, now, kind="segments.too-large")
            return
        state.closed = [*state.closed, found.emptied()][-MOST_SETS:]
        if at_once:
            yield Out(INBOUND, state.partner_id, message)
        else:
            state.owed[message.event_id] = message.model_dump_json()
        segments = [found.parts[index].event_id for index in sorted(found.parts)]
        words = f"{_name(found)} came in {len(segments)} segments and was joined"
        told = {"message": message.event_id, "request_id": message.request_id, "segments": segments}
        yield _event(state, "segments.joined", words, now, message.event_id, severity=Severity.INFO, **told)


def _known(state: Segments, part: Part) -> tuple[str, ...]:
    """The segments that came under this X-Request-ID."""
    prints, at = state.seen.get(_key(part.request_id), ((), part.received_at))
    return prints if part.received_at - at <= REMEMBERED else ()


def _remember(state: Segments, part: Part, known: tuple[str, ...]) -> None:
    state.seen.pop(_key(part.request_id), None)
    state.seen[_key(part.request_id)] = (*known, part.contents), part.received_at
    while len(state.seen) > MOST_SEEN:
        del state.seen[next(iter(state.seen))]


def _key(request_id: str) -> str:
    return digest(request_id)[:24]


def _bounded(state: Segments, now: datetime) -> Iterator[Out]:
    while len(state.open) > MOST_SETS or sum(each.size for each in state.open) > MOST_HELD:
        oldest = min(state.open, key=lambda each: each.since)
        words = f"{_missing(oldest)} had not come, and no more unfinished messages of one partner are held"
        yield _dropped(state, oldest, words, now)


def _dropped(state: Segments, found: OpenSet, why: str, now: datetime, kind: str = "segments.dropped") -> Out:
    """Give a set up. Its segments are forgotten: sent again, they count."""
    if found in state.open:
        state.open.remove(found)
    for request_id in found.ids:
        state.seen.pop(_key(request_id), None)
    ids = sorted(part.event_id for part in found.parts.values())
    words = f"{_name(found)}, sent in {found.key.count} segments, was dropped and changes nothing: {why}"
    return _event(state, kind, words, now, derived_id(*ids), segments=ids, missing=found.missing)


def _missing(found: OpenSet) -> str:
    return f"segment{'s' if len(found.missing) > 1 else ''} {listed(found.missing)}"


def _name(found: OpenSet) -> str:
    first = found.parts[min(found.parts)]
    return f"{found.key.action} {first.request_id} for group {found.key.group_id} ({found.key.type})"


def _event(state: Segments, kind: str, words: str, now: datetime, about: str, severity: Severity = Severity.WARNING, **data: object) -> Out:
    event = Event(
        event_id=derived_id("event", state.partner_id, kind, about),
        at=now,
        cause_id=about,
        subject_kind=SubjectKind.PARTNER,
        subject_id=state.partner_id,
        kind=kind,
        severity=severity,
        words=words,
        data=json.dumps(data),
    )
    return Out(EVENTS, state.partner_id, event)
