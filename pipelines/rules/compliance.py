"""Whether a scope's groups keep to its envelope: verdicts, breaches, and the warning before (semantics 5)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from pipelines.records import Out, Tick
from pipelines.rules import breaches, compliance_facts, judgement
from pipelines.rules.breaches import Book
from pipelines.rules.judgement import Judged
from pipelines.rules.limits import Stretch, replaced, stretch_of, within
from pipelines.rules.patience import AT_ONCE, Patience
from schemas.capacity import OperatingEnvelope
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.telemetry import QuarterHour
from schemas.units import Direction, Phase, from_ms, to_ms

KEPT_MS = timedelta(hours=26) // timedelta(milliseconds=1)
"""How far back a quarter can be judged again: a day, and the two hours a breach may stay open."""

ROWS_TAKE_MS = timedelta(minutes=10) // timedelta(milliseconds=1)
"""How long after its end a quarter's row may take to come: before that, its absence says nothing."""

ENVELOPES_KNOWN = 64


class GroupRow(NamedTuple):
    """A row of a group (level GROUP, phase ALL), with what the configuration says about the group."""

    row: QuarterHour
    partner_id: str
    tolerance: float


class Used(NamedTuple):
    """What is kept of a final row."""

    import_wh: float
    export_wh: float
    coverage: float
    revision: int

    def of(self, direction: Direction) -> float:
        """The energy of one direction in Wh."""
        return self.import_wh if direction is Direction.IMPORT else self.export_wh


class Standing(NamedTuple):
    """The last judgement of a quarter and direction, and its revision."""

    judged: Judged
    revision: int


@dataclass
class GroupState:
    """One group. Quarters are named by their start in ms since 1970 UTC."""

    group_id: str
    partner_id: str
    tolerance: float
    rows: dict[int, Used] = field(default_factory=dict)
    verdicts: dict[Direction, dict[int, Standing]] = field(default_factory=lambda: {direction: {} for direction in Direction})
    books: dict[Direction, Book] = field(default_factory=lambda: {direction: Book() for direction in Direction})
    at_risk: dict[Direction, int] = field(default_factory=dict)


@dataclass
class ComplianceState:
    """One scope: its envelope over time (phase ALL) and its groups. `seen` are the latest envelopes' ids."""

    scope_id: str
    timeline: list[Stretch] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    groups: dict[str, GroupState] = field(default_factory=dict)
    newest_ms: int = 0
    wait_until_ms: int = 0


class ComplianceRule:
    """Turns `GroupRow`s and `OperatingEnvelope`s of one scope into `Verdict`s, `Breach`es and `Event`s.

    A quarter is judged when its final row comes, and again whenever its row or its past envelope changes.
    """

    def __init__(self, patience: Patience = AT_ONCE) -> None:
        self._patience = patience

    def start(self, key: str) -> ComplianceState:
        """A scope of which nothing is known."""
        return ComplianceState(key)

    def step(self, state: ComplianceState, item: GroupRow | OperatingEnvelope | Tick, now: datetime) -> Iterator[Out]:
        """Take in one row or envelope, or close what has been open long enough (a tick)."""
        match item:
            case GroupRow(row=row) if row.provisional:
                yield from self._warned(state, item, now)
            case GroupRow():
                yield from self._measured(state, item, now)
            case OperatingEnvelope():
                yield from self._limited(state, item, now)
            case Tick() if self._waits(state) <= to_ms(now):
                for group in state.groups.values():
                    for direction, book in group.books.items():
                        book.as_of_ms = max(book.as_of_ms, to_ms(now) - ROWS_TAKE_MS)
                        yield from _breaches(state, group, direction, None, now)
            case _:
                return

    def due(self, state: ComplianceState) -> datetime | None:
        """When the first open breach closes for want of news."""
        closes = [close for group in state.groups.values() for book in group.books.values() if (close := breaches.next_close_ms(book))]
        return from_ms(max(min(closes) + ROWS_TAKE_MS, self._waits(state))) if closes else None

    def _waits(self, state: ComplianceState) -> int:
        return max(state.wait_until_ms, self._patience.at_first())

    def _measured(self, state: ComplianceState, item: GroupRow, now: datetime) -> Iterator[Out]:
        row, quarter_ms = item.row, to_ms(item.row.start)
        state.wait_until_ms = max(state.wait_until_ms, self._patience.after(quarter_ms + QUARTER_MS + ROWS_TAKE_MS, now))
        group = _group(state, item)
        known = group.rows.get(quarter_ms)
        if known is not None and row.revision <= known.revision:
            return
        if quarter_ms < state.newest_ms - KEPT_MS:
            yield compliance_facts.too_late(state.scope_id, row, now)
            return
        group.rows[quarter_ms] = Used(row.import_wh, row.export_wh, row.coverage, row.revision)
        for direction in Direction:
            yield from _judged(state, group, quarter_ms, direction, row.event_id, now)
            yield from _breaches(state, group, direction, row.event_id, now)
        _forget(state, quarter_ms)

    def _limited(self, state: ComplianceState, envelope: OperatingEnvelope, now: datetime) -> Iterator[Out]:
        if envelope.event_id in state.seen:
            return
        state.seen = [*state.seen, envelope.event_id][-ENVELOPES_KNOWN:]
        effective_ms = to_ms(envelope.effective_at)
        newer = (stretch_of(piece) for piece in envelope.pieces if piece.phase is Phase.ALL)
        state.timeline = replaced(state.timeline, effective_ms, newer)
        for group in state.groups.values():
            again = [quarter_ms for quarter_ms in sorted(group.rows) if quarter_ms + QUARTER_MS > effective_ms]
            for direction in Direction if again else ():
                for quarter_ms in again:
                    yield from _judged(state, group, quarter_ms, direction, envelope.event_id, now)
                yield from _breaches(state, group, direction, envelope.event_id, now)

    def _warned(self, state: ComplianceState, item: GroupRow, now: datetime) -> Iterator[Out]:
        row, quarter_ms = item.row, to_ms(item.row.start)
        group = _group(state, item)
        if quarter_ms in group.rows:
            return
        for direction in Direction:
            used_wh, last_w = row.import_wh, row.last_minute_w
            if direction is Direction.EXPORT:
                used_wh, last_w = row.export_wh, None if last_w is None else -last_w
            limits = judgement.allowed(state.timeline, quarter_ms, direction)
            projected_w = judgement.projected_w(used_wh, None if last_w is None else max(last_w, 0.0), row.at - row.start)
            if limits.energy_wh is None or projected_w is None:
                continue
            if projected_w * (QUARTER / timedelta(hours=1)) <= judgement.threshold(limits.energy_wh, group.tolerance):
                group.at_risk.pop(direction, None)
            elif group.at_risk.get(direction) != quarter_ms:
                group.at_risk[direction] = quarter_ms
                yield from compliance_facts.at_risk(_about(state, group, direction), row, limits, projected_w, now)


def _group(state: ComplianceState, item: GroupRow) -> GroupState:
    group = state.groups.setdefault(item.row.id, GroupState(item.row.id, item.partner_id, item.tolerance))
    group.partner_id, group.tolerance = item.partner_id, item.tolerance
    return group


def _about(state: ComplianceState, group: GroupState, direction: Direction) -> compliance_facts.About:
    return compliance_facts.About(group.partner_id, group.group_id, state.scope_id, direction)


def _judged(
    state: ComplianceState, group: GroupState, quarter_ms: int, direction: Direction, cause_id: str, now: datetime
) -> Iterator[Out]:
    used = group.rows[quarter_ms]
    limits = judgement.allowed(state.timeline, quarter_ms, direction)
    judged = judgement.judge(used.of(direction), used.coverage, group.tolerance, limits)
    verdicts = group.verdicts[direction]
    before = verdicts.get(quarter_ms)
    if before is not None and before.judged == judged:
        return
    standing = verdicts[quarter_ms] = Standing(judged, 1 if before is None else before.revision + 1)
    yield compliance_facts.verdict(_about(state, group, direction), quarter_ms, standing.judged, standing.revision, cause_id, now)


def _breaches(state: ComplianceState, group: GroupState, direction: Direction, cause_id: str | None, now: datetime) -> Iterator[Out]:
    history = [(quarter_ms, standing.judged) for quarter_ms, standing in sorted(group.verdicts[direction].items())]
    about = _about(state, group, direction)
    book = group.books[direction]
    before = {breach_id: told.state for breach_id, told in book.told.items()}
    for revision in breaches.revise(book, history, partial(compliance_facts.breach_id, about)):
        yield from compliance_facts.breach(about, revision, before.get(revision.breach_id), cause_id, now)


def _forget(state: ComplianceState, quarter_ms: int) -> None:
    state.newest_ms = max(state.newest_ms, quarter_ms)
    before_ms = state.newest_ms - KEPT_MS
    state.timeline = within(state.timeline, before_ms)
    for group in state.groups.values():
        gone = sorted(quarter_ms for quarter_ms in group.rows if quarter_ms < before_ms)
        for direction in Direction if gone else ():
            verdicts = group.verdicts[direction]
            breaches.forget(group.books[direction], [(quarter_ms, verdicts.pop(quarter_ms).judged) for quarter_ms in gone], before_ms)
        for quarter_ms in gone:
            del group.rows[quarter_ms]
