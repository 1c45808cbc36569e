"""What the partners are told of one scope: measurements, compliance errors, operators' messages (semantics 7).

The state machine of one scope. Beside it: `reporting_plan` (who is told about what), `reporting_standing`
(what a connection allows), `reporting_quarters` (which rows go together, and when), `reporting_entries`
(rows as OSCP entries), `reporting_compliance` (errors and manual messages), `reporting_messages` (ids, expiry).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pipelines.records import Tick
from pipelines.rules.patience import AT_ONCE, Patience
from pipelines.rules.reporting_compliance import Told, by_hand, compliance_errors
from pipelines.rules.reporting_entries import Marks, Row, asset_entries, group_entries, kept, marks_of, news, row_of, text_of, whole
from pipelines.rules.reporting_forecasts import keep_forecast
from pipelines.rules.reporting_messages import MEASUREMENTS_OWED, Changed, measurements, owed
from pipelines.rules.reporting_past import chained, noted
from pipelines.rules.reporting_plan import Plan, Plans, reported
from pipelines.rules.reporting_quarters import GroupQuarter, Waits, complete, first_seen, forgettable, next_batch, stands_alone, take
from pipelines.rules.reporting_standing import Standing, style_for
from schemas.compliance import Verdict
from schemas.config import Configuration, Measurements, ReportMessage, Style
from schemas.connection import Command, Connection, Event, InboundMessage
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.oscp.v20 import Action
from schemas.outbound import OutboundMessage
from schemas.telemetry import Level, QuarterHour
from schemas.topology import Group
from schemas.units import Phase, from_ms, to_ms

Item = QuarterHour | Verdict | Connection | InboundMessage | Command
Owed = OutboundMessage | Event
_MS = timedelta(milliseconds=1)


@dataclass(slots=True)
class ScopeState:
    """What reporting remembers of one scope; `quarters` by (group, start in ms), `past` by group what went of those before."""

    scope_id: str
    standings: dict[str, Standing] = field(default_factory=dict)
    quarters: dict[tuple[str, int], GroupQuarter] = field(default_factory=dict)
    newest_ms: int = 0
    told: Told = field(default_factory=Told)
    version: int = 1
    past: dict[str, bytes] = field(default_factory=dict)

    def __setstate__(self, kept: tuple[None, dict[str, Any]]) -> None:
        """What a recovery store kept; one of an earlier version knew of no `past`."""
        for name, value in ({"past": {}} | kept[1]).items():
            setattr(self, name, value)


class ReportingRule:
    """From rows, verdicts, connections, forecasts and commands of one scope to messages owed.

    `connection_of` gives a partner's present connection for a scope that has seen no change of it yet
    (a group bound after the partner came online). `patience`: what was waited for before a restart is still to be read.
    """

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        waits: Waits | None = None,
        connection_of: Callable[[str], Connection | None] = lambda partner_id: None,
        patience: Patience = AT_ONCE,
    ) -> None:
        self._plans = Plans(configuration)
        self._waits = waits or Waits()
        self._connection_of, self._begin_ms = connection_of, patience.at_first()
        self._of_use = MEASUREMENTS_OWED + self._waits.recent + self._waits.apart

    @property
    def plan(self) -> Plan:
        """The configuration in force, indexed."""
        return self._plans.current()

    def start(self, key: str) -> ScopeState:
        """A scope never seen before."""
        return ScopeState(key)

    def due(self, state: ScopeState) -> datetime | None:
        """When the next message has waited long enough."""
        first = min((quarter.due for quarter in state.quarters.values() if quarter.due), default=None)
        return None if first is None else max(first, from_ms(self._begin_ms))

    def step(self, state: ScopeState, item: Item | Tick, now: datetime) -> Iterable[Owed]:
        """Take in one item and say what is owed to whom."""
        match item:
            case QuarterHour():
                return [] if item.provisional else self._row(state, row_of(item), now)
            case Verdict():
                return self._verdict(state, item, now)
            case InboundMessage():
                if (partner := self.plan.partners.get(item.partner_id)) is not None:  # where nothing is metered no verdict does it
                    state.told.prune(partner.id, now - partner.measurements.report_horizon)
                keep_forecast(state.told.forecasts, item)
                return []
            case Command():
                return by_hand(item, now)
            case Connection():
                return self._connection(state, item, now)
            case Tick():
                return self._due(state, now)

    def _connection(self, state: ScopeState, connection: Connection, now: datetime) -> list[Owed]:
        partner = self.plan.partners.get(connection.partner_id)
        if partner is None:
            return []
        standing = state.standings.setdefault(connection.partner_id, Standing())
        standing.take(connection, partner.measurements.report_horizon)
        if standing.first_acknowledged_at is None:
            return []
        for quarter in state.quarters.values():
            if quarter.undecided:
                quarter.undecided, quarter.due = False, now
        return self._due(state, now)

    def _standing(self, state: ScopeState, partner_id: str) -> Standing:
        if partner_id not in state.standings and (connection := self._connection_of(partner_id)) is not None:
            standing, partner = Standing(), self.plan.partners.get(partner_id)
            standing.take(connection, timedelta(0) if partner is None else partner.measurements.report_horizon)
            state.standings[partner_id] = standing
        return state.standings.get(partner_id, Standing())

    def _verdict(self, state: ScopeState, verdict: Verdict, now: datetime) -> list[Owed]:
        partner = self.plan.partners.get(verdict.partner_id)
        if partner is None or self._standing(state, verdict.partner_id).silent(verdict.quarter):
            return []
        state.told.prune(partner.id, now - partner.measurements.report_horizon)
        return [*compliance_errors(state.told, verdict, partner.compliance_errors, now)]

    def _row(self, state: ScopeState, row: Row, now: datetime) -> list[Owed]:
        messages: list[Owed] = []
        if from_ms(row.at_ms) + self._of_use <= now:
            return messages  # a replay of long ago: whatever it made has expired, and whatever came after it
        for group in self.plan.groups_in(state.scope_id, row.start_ms):
            if row.level == Level.GROUP.value and row.id != group.group_id:
                continue
            key = (group.group_id, row.start_ms)
            if key not in state.quarters:
                state.quarters[key] = first_seen(row, now, self._waits, state.past.get(group.group_id, b""))
                self._forget(state, row.start_ms, now)
            quarter = state.quarters[key]
            take(quarter, row, now, self._waits)
            if quarter.group_row is None:
                continue
            if complete(quarter, self.plan.roster(state.scope_id, row.start_ms), now, self._waits):
                messages += self._tell(state, group, row.start_ms, quarter, now)
        return messages

    def _forget(self, state: ScopeState, start_ms: int, now: datetime) -> None:
        state.newest_ms = max(state.newest_ms, start_ms)
        for key, quarter in list(state.quarters.items()):
            if forgettable(quarter, key[1], state.newest_ms, now, self._waits):
                del state.quarters[key]
                self._note(state, key, quarter)

    def _note(self, state: ScopeState, key: tuple[str, int], quarter: GroupQuarter) -> None:
        group = self.plan.groups.get(key[0])
        if group is None:
            state.past.pop(key[0], None)
        elif quarter.after:
            horizon = QUARTER + self.plan.partners[group.partner_id].measurements.report_horizon
            state.past[key[0]] = noted(state.past.get(key[0], b""), key[1], quarter.after, state.newest_ms - horizon // _MS)

    def _due(self, state: ScopeState, now: datetime) -> list[Owed]:
        messages: list[Owed] = []
        if to_ms(now) < self._begin_ms:
            return messages
        for (group_id, start_ms), quarter in sorted(state.quarters.items(), key=lambda pair: pair[0][1]):
            while quarter.due is not None and quarter.due <= now:
                group = self.plan.group_in(group_id, state.scope_id, start_ms)
                if group is None:
                    quarter.pending, quarter.group_row, quarter.due = [], None, None  # the group went away
                    break
                messages += self._tell(state, group, start_ms, quarter, now)
        return messages

    def _tell(self, state: ScopeState, group: Group, start_ms: int, quarter: GroupQuarter, now: datetime) -> list[OutboundMessage]:
        """The messages of the quarter's next batch; sets when to look again."""
        owed_now = self._standing(state, group.partner_id).measurements_owed(from_ms(start_ms))
        if owed_now is None:
            quarter.undecided, quarter.due = True, None
            return []
        wanted = self.plan.partners[group.partner_id].measurements
        style = style_for(self._standing(state, group.partner_id).required, wanted.styles)
        if owed_now and style is None and any(from_ms(row.at_ms) + MEASUREMENTS_OWED > now for row in quarter.pending):
            # the quarter is from before measurements were withheld, so it is owed once they go again
            quarter.undecided, quarter.due = True, now + self._waits.orphans
            return []
        batch = next_batch(quarter, now, self._waits)
        horizon_ms = start_ms + QUARTER_MS + wanted.report_horizon // _MS
        rows = [row for row in batch if row.at_ms <= horizon_ms]
        if not owed_now or style is None or not rows:
            return []
        if stands_alone(quarter, rows, self._waits):
            quarter.told = b""
        marks, told = marks_of(quarter.told), list[OutboundMessage]()
        if ReportMessage.ASSET in wanted.messages:
            changed = self._changed_assets(state, quarter, marks, rows, wanted, style)
            told += measurements(group, Action.UPDATE_ASSET_MEASUREMENTS, start_ms, quarter.after, rows, changed, now)
        if ReportMessage.GROUP in wanted.messages:
            own = [row for row in rows if row.level == Level.GROUP.value]
            found = ((row, key, text_of(entry)) for row in own for key, entry in group_entries(row, style, wanted))
            changed = [([row], text) for row, key, text in found if news(marks, key, text)]
            told += measurements(group, Action.UPDATE_GROUP_MEASUREMENTS, start_ms, quarter.after, rows, changed, now)
        if told:
            quarter.told, quarter.after, quarter.after_ms = kept(marks), chained(told), max(row.at_ms for row in rows)
        return owed(*told)

    def _changed_assets(
        self, state: ScopeState, quarter: GroupQuarter, marks: Marks, rows: list[Row], wanted: Measurements, style: Style
    ) -> list[Changed]:
        """The entries that differ from what was told, as text, each with the rows it is of."""
        by_asset: dict[str, list[Row]] = {}
        for row in rows:
            if row.level == Level.ASSET.value:
                by_asset.setdefault(row.id, []).append(row)
        members = self.plan.members(state.scope_id, from_ms(rows[0].start_ms))
        changed: list[Changed] = []
        for asset in members:
            found = by_asset.get(asset.id)
            if not found or not reported(asset, members):
                continue
            total = whole(_with_phases(quarter, found))
            entries = asset_entries(asset, total, style, wanted) if total else ()
            changed += [(found, text) for key, entry in entries if news(marks, key, text := text_of(entry))]
        return changed


def _with_phases(quarter: GroupQuarter, found: list[Row]) -> list[Row]:
    """The asset's rows, with those of its other phases as known from before."""
    asset_id = found[0].id
    known = {phase: row for (held, phase), row in quarter.phased.items() if held == asset_id} if quarter.phased else {}
    if not known and all(row.phase == Phase.ALL.value for row in found):
        return found
    quarter.phased |= {(asset_id, row.phase): row for row in found}
    return [*(known | {row.phase: row for row in found}).values()]
