"""Whether a scope's groups keep to its envelope: verdicts and breaches (semantics 5). The warning before is `at_risk`'s."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from pipelines.records import Out, Tick
from pipelines.rules import breaches, compliance_facts
from pipelines.rules.compliance_limits import limited
from pipelines.rules.compliance_state import OPEN, REACH, Account, ComplianceState, GroupState, Told, judged_at
from pipelines.rules.compliance_verdicts import breaches_of, judged_anew, silent
from pipelines.rules.kept_quarters import Used
from pipelines.rules.patience import AT_ONCE, Patience
from schemas.capacity import OperatingEnvelope
from schemas.intervals import QUARTER_MS
from schemas.telemetry import QuarterHour
from schemas.units import Direction, from_ms, to_ms

ROWS_TAKE_MS = timedelta(minutes=10) // timedelta(milliseconds=1)
"""How long after its end a quarter's row may take to come: before that, its absence says nothing."""

DAY_MS = timedelta(days=1) // timedelta(milliseconds=1)


class GroupRow(NamedTuple):
    """A group's row, with what the configuration says about the group: phase ALL is the group's own (level GROUP), a single
    phase that of its scope's connection meter. `reach`: how old a quarter may be that is judged again."""

    row: QuarterHour
    group_id: str
    partner_id: str
    tolerance: float
    reach: timedelta = REACH


class ComplianceRule:
    """Turns `GroupRow`s and `OperatingEnvelope`s of one scope into `Verdict`s, `Breach`es and `Event`s.

    A quarter is judged when its final row comes, and again whenever its row or its past envelope changes. A single phase is
    judged where a limit of it is known in some part of the quarter; of one nobody limits nothing is said.
    """

    def __init__(self, patience: Patience = AT_ONCE) -> None:
        self._patience = patience

    def start(self, key: str) -> ComplianceState:
        """A scope of which nothing is known."""
        return ComplianceState(key)

    def step(self, state: ComplianceState, item: GroupRow | OperatingEnvelope | Tick, now: datetime) -> Iterator[Out]:
        """Take in one row or envelope, or close what has been open long enough (a tick)."""
        match item:
            case GroupRow(row=row) if not row.provisional:
                yield from self._measured(state, item, now)
            case OperatingEnvelope():
                yield from limited(state, item, now)
            case Tick() if self._waits(state) <= to_ms(now):
                for group, phase, account in state.accounts():
                    yield from silent(state, group, phase, account, to_ms(now) - ROWS_TAKE_MS, None, now)
            case _:
                return

    def due(self, state: ComplianceState) -> datetime | None:
        """When the first open breach closes for want of news."""
        books = (book for _, _, account in state.accounts() for book in account.books.values())
        closes = [close for book in books if (close := breaches.next_close_ms(book)) is not None]
        return from_ms(max(min(closes) + ROWS_TAKE_MS, self._waits(state))) if closes else None

    def _waits(self, state: ComplianceState) -> int:
        return max(state.wait_until_ms, self._patience.at_first())

    def _measured(self, state: ComplianceState, item: GroupRow, now: datetime) -> Iterator[Out]:
        row, quarter_ms, phase = item.row, to_ms(item.row.start), item.row.phase
        state.wait_until_ms = max(state.wait_until_ms, self._patience.after(quarter_ms + QUARTER_MS + ROWS_TAKE_MS, now))
        group, account = _account(state, item)
        quarters, at = account.quarters, account.quarters.find(quarter_ms)
        if at is not None and row.revision <= quarters.revisions[at]:
            return
        if quarter_ms < max(state.newest_ms - group.kept_ms, state.limited_from_ms):
            if quarter_ms < state.newest_ms:  # else a replay of long ago: it was judged when its limits were known
                yield from _too_late(state, group, item, now)
            return
        before = {direction: None if at is None else judged_at(state, group, phase, direction, at) for direction in Direction}
        at = quarters.put(quarter_ms, Used(row.import_wh, row.export_wh, row.coverage, row.revision))
        for direction in Direction:
            told = list(judged_anew(state, group, Told(quarter_ms, direction, phase), at, before[direction], row.event_id, now))
            yield from told
            if told:
                yield from breaches_of(state, group, account, phase, direction, quarter_ms, quarter_ms, row.event_id, now)
        yield from silent(state, group, phase, account, quarters.starts[-1] + QUARTER_MS, row.event_id, now)
        for other, its_phase, its_account in list(state.accounts()):  # whose rows may have stopped coming
            before_ms = max(state.newest_ms, quarter_ms) - other.kept_ms
            yield from silent(state, other, its_phase, its_account, before_ms, row.event_id, now)
        state.forget(quarter_ms)


def _account(state: ComplianceState, item: GroupRow) -> tuple[GroupState, Account]:
    """The group's state with its present terms, and its account of the row's phase."""
    kept_ms = (item.reach + OPEN) // timedelta(milliseconds=1)
    group = state.groups.setdefault(item.group_id, GroupState(item.group_id, item.partner_id, item.tolerance, kept_ms))
    group.partner_id, group.tolerance, group.kept_ms = item.partner_id, item.tolerance, kept_ms
    return group, group.accounts.setdefault(item.row.phase, Account())


def _too_late(state: ComplianceState, group: GroupState, item: GroupRow, now: datetime) -> Iterator[Out]:
    """Rows of quarters that are no longer kept: told once for a day in a row, since a repair may bring months of them."""
    day = to_ms(item.row.start) // DAY_MS
    if group.too_late_day != day:
        group.too_late_day = day
        yield compliance_facts.too_late(state.scope_id, group.group_id, item.row, group.kept_ms, now)
