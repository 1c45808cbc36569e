"""Keeps the live picture: follows the topics and folds each record into it."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from gateway import picture as p
from gateway.circuit_writes import take_circuit_write
from gateway.picture import Picture, Reported, RowKey, Timeline
from gateway.projection_messages import fold_adjustment, fold_delivery, fold_inbound, fold_outbound
from gateway.provisional import KEEP_PROVISIONAL, forget_provisional, keep_provisional, take_provisional
from gateway.redaction import clean
from pipelines.records import Record
from schemas.adjustment import Adjustment
from schemas.capacity import CircuitCapacity, OperatingEnvelope
from schemas.clock import Clock
from schemas.compliance import Breach, Verdict
from schemas.connection import CIRCUIT_WRITTEN, EXCHANGE, Command, Connection, Event, InboundMessage, Severity
from schemas.facts import Fact
from schemas.flows import FlowReport
from schemas.intervals import QUARTER
from schemas.outbound import DeadLetter, Delivery, OutboundMessage
from schemas.telemetry import QuarterHour
from schemas.topics import OUTBOUND
from schemas.units import Phase

log = logging.getLogger(__name__)

KEEP = timedelta(hours=48)
"""How far back rows, verdicts and envelope pieces are kept, in clock time."""
MAX_ROWS = 200_000
"""Never more rows than this in memory: where there are more, the oldest quarters go first."""
OTHER_REASONS = "other reasons"
DISPATCH = "dispatch"
"""The flow whose reports say how the partners' queues stand."""

F = TypeVar("F", bound=Fact)


def fold(picture: Picture, record: Record) -> None:
    """Take one record into `picture`, which is changed in place. No I/O, asks no clock; a record seen twice changes nothing
    but counters. Bytes nobody can read are counted as dead letters of their topic, since their flow makes the letter."""
    picture.records[record.topic] = picture.records.get(record.topic, 0) + 1
    match record.value:
        case Connection() as value:
            picture.connections[value.partner_id] = value
        case OperatingEnvelope() as value:
            _envelope(picture, value)
        case QuarterHour() as value:
            _quarter(picture, value)
        case Verdict() as value:
            _verdict(picture, value)
        case CircuitCapacity() as value:
            _circuit(picture, value)
        case Breach() as value:
            _breach(picture, value)
        case OutboundMessage() as value:
            fold_outbound(picture, value)
        case Delivery() as value:
            fold_delivery(picture, value)
        case InboundMessage() as value:
            fold_inbound(picture, value)
        case Event() as value:
            picture.timelines.take(value)
            picture.asked.told(value)
            take_circuit_write(picture, value)
            if value.severity is Severity.ALARM:
                _latest(picture.alarm_at, value.kind, value.at)
            if value.kind not in (EXCHANGE, CIRCUIT_WRITTEN):
                picture.events = _newest(value, picture.events, p.KEEP_EVENTS)
        case Command() as value:
            picture.asked.asked(value)
            picture.commands = _newest(value, picture.commands, p.KEEP_COMMANDS)
        case Adjustment() as value:
            fold_adjustment(picture, value)
        case DeadLetter() as value:
            _dead_letter(picture, value)
        case FlowReport() as value:
            _flow(picture, value, record.appended_at)
        case _:
            return


def forget(picture: Picture, before: datetime) -> None:
    """Drop the rows, verdicts and envelope pieces that lie wholly before `before`."""
    picture.row_count = 0
    for key, rows in list(picture.rows.items()):
        kept = {start: row for start, row in rows.items() if start >= before}
        picture.rows[key] = kept
        picture.row_count += len(kept)
        if not kept:
            del picture.rows[key]
    forget_provisional(picture, before)
    for group_id, verdicts in list(picture.verdicts.items()):
        picture.verdicts[group_id] = {about: verdict for about, verdict in verdicts.items() if about[0] >= before}
    for group_id, phased in list(picture.phase_verdicts.items()):
        picture.phase_verdicts[group_id] = {part: verdict for part, verdict in phased.items() if part[0] >= before}
    for scope_id, line in list(picture.envelopes.items()):
        picture.envelopes[scope_id] = replace(line, pieces=tuple(piece for piece in line.pieces if piece.end > before))


def _envelope(picture: Picture, value: OperatingEnvelope) -> None:
    """Semantics 3.4: what was in force before `effective_at` stays as it was."""
    known = picture.envelopes.get(value.scope_id)
    if known is not None and value.revision <= known.revision:
        return
    since = value.effective_at
    before = () if known is None else known.pieces
    past = [piece.model_copy(update={"end": min(piece.end, since)}) for piece in before if piece.start < since]
    ahead = [piece.model_copy(update={"start": max(piece.start, since)}) for piece in value.pieces if piece.end > since]
    picture.envelopes[value.scope_id] = Timeline(value.revision, since, tuple(past + ahead))


def _quarter(picture: Picture, row: QuarterHour) -> None:
    key = RowKey(row.level, row.id, row.phase)
    rows = picture.rows.get(key, {})
    known = rows.get(row.start)
    if row.provisional:
        take_provisional(picture, key, row)
        return
    if known is None or row.revision >= known.revision:
        picture.rows[key] = {**rows, row.start: row}
        picture.row_count += known is None
    keep_provisional(picture, key, row.start + QUARTER)


def _verdict(picture: Picture, value: Verdict) -> None:
    """Single conductors stand apart: what is asked about a quarter and direction is the whole connection's."""
    if value.phase is not Phase.ALL:
        phased = picture.phase_verdicts.get(value.group_id, {})
        part = (value.quarter, value.direction, value.phase)
        if part not in phased or value.revision >= phased[part].revision:
            picture.phase_verdicts[value.group_id] = {**phased, part: value}
        return
    verdicts = picture.verdicts.get(value.group_id, {})
    about = (value.quarter, value.direction)
    known = verdicts.get(about)
    if known is None or value.revision >= known.revision:
        picture.verdicts[value.group_id] = {**verdicts, about: value}


def _circuit(picture: Picture, value: CircuitCapacity) -> None:
    picture.circuits[value.circuit_id] = _newest(value, picture.circuits.get(value.circuit_id, ()), p.KEEP_CHANGES)


def _breach(picture: Picture, value: Breach) -> None:
    known = picture.breaches.get(value.breach_id)
    if known is not None and value.revision < known.revision:
        return
    picture.breaches[value.breach_id] = value
    closed = [breach for breach in picture.breaches.values() if breach.state not in p.OPEN_STATES]
    if len(closed) > p.KEEP_CLOSED_BREACHES:
        del picture.breaches[min(closed, key=lambda breach: breach.last_quarter).breach_id]


def _dead_letter(picture: Picture, value: DeadLetter) -> None:
    counts, told = picture.dead_letter_counts, clean(value.reason)
    if value.topic == OUTBOUND.name:  # behind the colon the partner speaks, who may never say the same twice
        told = f"message {told.partition(': ')[0]}"
    reason = told if told in counts or len(counts) < p.KEEP_REASONS else OTHER_REASONS
    counts[reason] = counts.get(reason, 0) + value.count
    picture.dead_letters = _newest(value, picture.dead_letters, p.KEEP_DEAD_LETTERS)
    _latest(picture.dead_letter_at, value.topic, value.at)


def _latest(known: dict[str, datetime], key: str, at: datetime) -> None:
    if key in known or len(known) < p.KEEP_REASONS:
        known[key] = max(at, known.get(key, at))


def _flow(picture: Picture, value: FlowReport, at: datetime) -> None:
    """A worker that was started again counts from nothing: what it said before is no measure for it."""
    known = picture.flows.get(value.key, ())
    if any(each.report.event_id == value.event_id for each in known):
        return
    same = [each for each in known if each.report.started_at == value.started_at]
    picture.flows[value.key] = (Reported(value, at), *same)[: p.KEEP_REPORTS]
    if value.flow == DISPATCH and not value.ended:  # one that ends leaves what is owed as it is
        picture.queues, picture.queues_at = {each.partner_id: each for each in value.queues}, at


def _newest(value: F, known: tuple[F, ...], keep: int) -> tuple[F, ...]:
    """`value` before `known`, cut to `keep`; nothing changes if it is there already."""
    return known if any(other.event_id == value.event_id for other in known) else (value, *known)[:keep]


class Projection:
    """The picture, kept by one thread (a follower's) and read by many. Implements `View[Picture]`.

    Feed it with `take`; `current` gives a copy that stands still, the same one until something new has come.
    """

    def __init__(self, clock: Clock, *, keep: timedelta = KEEP, max_rows: int = MAX_ROWS) -> None:
        self._clock, self._keep, self._max_rows = clock, keep, max_rows
        self._lock = threading.Lock()
        self._picture = Picture()
        self._copy: Picture | None = None
        self._swept = clock.now()

    def take(self, records: Iterable[Record]) -> None:
        """Fold records in, and forget what has become too old. Blocks only for the lock."""
        oldest = self._clock.now() - self._keep
        with self._lock:
            for record in records:
                # A load of years of quarters passes by: nobody would see them.
                if not (isinstance(record.value, QuarterHour) and record.value.start < oldest):
                    fold(self._picture, record)
            self._sweep()
            self._copy = None

    def current(self) -> Picture:
        """A copy of the picture as it is now; the caller must not change it."""
        with self._lock:
            if self._copy is None:
                self._copy = self._picture.copy()
            return self._copy

    def _sweep(self) -> None:
        now = self._clock.now()
        if now - self._swept >= QUARTER:
            self._swept = now
            forget(self._picture, now - self._keep)
            forget_provisional(self._picture, now - KEEP_PROVISIONAL)
        while self._picture.row_count > self._max_rows:
            starts = sorted({start for rows in self._picture.rows.values() for start in rows})
            forget(self._picture, starts[len(starts) // 4] if len(starts) > 4 else starts[-1] + QUARTER)
