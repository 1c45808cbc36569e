"""Flow `repair`: readings that came too late for the running flow get their quarters computed again (semantics 1.10).

What is due and when is a pure rule (`rules.repair_schedule`); the computing, which asks the history, is `repairing`. One
worker does all of it: two would write revisions past each other.
"""

import logging
import pickle
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.records import Out, Record
from pipelines.repairing import Repairer, Wanted
from pipelines.rules.quarter_roster import Roster, Rosters
from pipelines.rules.repair import open_from_ms
from pipelines.rules.repair_schedule import Due, Schedule, ScheduleState, Waits
from pipelines.rules.repair_words import gave_up, told
from schemas.clock import Clock
from schemas.telemetry import LateMeasurement, Level, QuarterHour
from schemas.topics import LATE_TELEMETRY, QUARTER_HOURS, TELEMETRY, Topic
from schemas.units import to_ms
from sinks.errors import Misconfigured, OutsideError, Unavailable
from sinks.kafka_archived import Part, lacking

log = logging.getLogger(__name__)

READS = (LATE_TELEMETRY,)
_MS = timedelta(milliseconds=1)


class Progress(Protocol):
    """How far the archive is; `sinks.kafka_archived.Archived` tells."""

    def ends(self, topics: Iterable[Topic]) -> dict[Part, int]:
        """Where each partition ends now."""

    def kept(self, parts: Iterable[Part]) -> dict[Part, int]:
        """Up to where the history has these partitions, as far as is known."""


def waits_of(clock: Clock) -> Waits:
    """The waits under a clock, with its floor for slow machinery."""
    plain = Waits()
    return Waits(
        every=plain.every,
        settle=clock.allowance(plain.settle),
        margin=clock.allowance(plain.margin),
        again=clock.allowance(plain.again),
        patience=clock.allowance(plain.patience),
    )


class Desk:
    """Late readings in, rows and events out. Asks the history when something is due; the schedule's state is kept by the flow."""

    def __init__(
        self, repairer: Repairer, progress: Progress, rosters: Rosters, clock: Clock, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._repairer, self._progress, self._rosters, self._clock = repairer, progress, rosters, clock
        self._stopping = stopping
        self._schedule = Schedule(waits_of(clock))
        self._ends: dict[Part, int] | None = None

    def take(self, state: ScheduleState, late: Iterable[LateMeasurement]) -> None:
        """Note late readings; nothing blocks."""
        timing, now = self._rosters.current().timing, self._clock.now()
        for one in late:
            self._schedule.take(state, one, timing, now)

    def due(self, state: ScheduleState) -> datetime | None:
        """When, by the clock, `work` has something to do."""
        return self._schedule.due(state, self._rosters.current().timing)

    def work(self, state: ScheduleState) -> list[Out]:
        """Repair what is due. Blocks while the broker and the history answer; where they do not, it is tried again later.

        Raises `Misconfigured` where the history refuses the credentials.
        """
        roster = self._rosters.current()
        dues = self._schedule.next(state, roster.timing, self._clock.now())
        if not dues:
            return []
        try:
            ready = self._archived(dues)
            rows = self._repaired(ready) if ready else []
        except Misconfigured:
            raise
        except OutsideError as error:
            log.warning("late readings of %s wait to be repaired: %s", _names(dues), error)
            return self._later(state, dues, roster)
        outs = self._later(state, [due for due in dues if due not in ready], roster)
        for due in ready:
            self._schedule.done(state, due, roster.timing, self._clock.now())
            outs += told(due, [row for row in rows if row.id == due.asset_id and row.level is Level.ASSET], roster, self._clock.now())
        return [*(Out(QUARTER_HOURS, row.id, row) for row in rows), *outs]

    def _archived(self, dues: list[Due]) -> list[Due]:
        """Those whose readings the history has, once it has all rows that had been written when this was first asked."""
        if self._ends is None:
            self._ends = self._progress.ends([QUARTER_HOURS])
        wanted = [{(TELEMETRY.name, number): offset + 1 for number, offset in due.offsets.items()} for due in dues]
        kept = self._progress.kept({*self._ends, *(part for parts in wanted for part in parts)})
        if lacking(self._ends, kept):
            return []
        ready = [due for due, parts in zip(dues, wanted, strict=True) if not lacking(parts, kept)]
        if ready:
            self._ends = None
        return ready

    def _repaired(self, dues: list[Due]) -> list[QuarterHour]:
        timing, now = self._rosters.current().timing, self._clock.now()
        until = open_from_ms(to_ms(now), timing, self._schedule.waits.margin // _MS)
        asked = {due.asset_id: due.spans for due in dues}
        spans = self._repairer.beyond(asked, {due.asset_id: until - due.lag for due in dues})
        rows: list[QuarterHour] = []
        for piece in self._repairer.run(Wanted(spans, causes={due.asset_id: due.cause_id for due in dues})):
            if self._stopping():
                raise Unavailable("the flow is being stopped")
            rows += piece.rows
        return rows

    def _later(self, state: ScheduleState, dues: list[Due], roster: Roster) -> list[Out]:
        now = self._clock.now()
        return [out for due in dues if not self._schedule.wait(state, due, now) for out in gave_up(due, roster, now)]


def repair_flow(*, records: Source[Iterable[Record]], out: Sink[Out], clock: Clock, desk: Desk | None) -> Dataflow:
    """Reads `READS`; writes `QuarterHour` (key asset or group) and `Event` (key scope).

    Without a `desk` there is no history to compute from: that is said once, and readings that are late stay as they are. Records
    that cannot be read are left to the archive, which makes dead letters of them.
    """
    flow = Dataflow("repair")
    late = op.filter_map("late", op.input("in", flow, records), _late)
    repaired = op.stateful("repair", late, lambda resume: _Logic(desk, clock, resume))
    op.output("out", op.flat_map("outs", repaired, lambda pair: pair[1]), out)
    return flow


def _late(records: Iterable[Record]) -> tuple[str, list[LateMeasurement]] | None:
    found = [record.value for record in records if isinstance(record.value, LateMeasurement)]
    return ("repair", found) if found else None


class _Logic(op.StatefulLogic[list[LateMeasurement], list[Out], bytes]):
    def __init__(self, desk: Desk | None, clock: Clock, resume: bytes | None) -> None:
        self._desk, self._clock = desk, clock
        self._state: ScheduleState = ScheduleState() if resume is None else pickle.loads(resume)  # noqa: S301 - our own recovery store
        self._said = False

    def on_item(self, value: list[LateMeasurement]) -> tuple[Iterable[list[Out]], bool]:
        if self._desk is not None:
            self._desk.take(self._state, value)
        elif not self._said:
            self._said = True
            log.warning("no history is configured (DERMS_CLICKHOUSE__URL): quarters of late readings are not computed again")
        return (), op.StatefulLogic.RETAIN

    def on_notify(self) -> tuple[Iterable[list[Out]], bool]:
        outs = self._desk.work(self._state) if self._desk is not None else []
        return ([outs] if outs else []), op.StatefulLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[list[Out]], bool]:
        return (), op.StatefulLogic.RETAIN

    def notify_at(self) -> datetime | None:
        due = self._desk.due(self._state) if self._desk is not None else None
        return None if due is None else self._clock.wall_at(due)

    def snapshot(self) -> bytes:
        return pickle.dumps(self._state, protocol=5)


def _names(dues: list[Due]) -> str:
    some = ", ".join(due.asset_id for due in dues[:3])
    return some if len(dues) <= 3 else f"{some} and {len(dues) - 3} more"
