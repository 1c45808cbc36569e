"""Flow `compliance`: group quarters against the envelope become verdicts and breaches (semantics 5)."""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import read_records, run_rule
from pipelines.records import Out, Record
from pipelines.rules.compliance import ComplianceRule, GroupRow
from pipelines.rules.patience import Patience
from pipelines.views import View
from schemas.capacity import OperatingEnvelope
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.telemetry import Level, Origin, QuarterHour
from schemas.topics import ENVELOPES, QUARTER_HOURS
from schemas.units import Phase

READS = (QUARTER_HOURS, ENVELOPES)
BARRIER = (ENVELOPES,)

SETTLE = timedelta(seconds=5)
"""How long after a start, and after rows of the past, an open breach is not closed for want of rows."""


def compliance_flow(*, records: Source[Iterable[Record]], out: Sink[Out], clock: Clock, config: View[Configuration]) -> Dataflow:
    """Reads `READS` (with `BARRIER`: a row comes after the envelopes appended before it); writes `Verdict` and `Breach`
    (key group) and `Event` (key scope)."""
    flow = Dataflow("compliance")
    readable, dead = read_records(flow, records, clock)
    items = op.filter_map("items", readable, partial(_item, config))
    patience = Patience(clock.now(), clock.allowance(SETTLE))
    judged = run_rule("compliance", items, ComplianceRule(patience), clock)
    op.output("out", op.merge("outs", dead, judged), out)
    return flow


def _item(config: View[Configuration], record: Record) -> tuple[str, GroupRow | OperatingEnvelope] | None:
    """An envelope, or a group's row with its terms, under its scope; no item is a row of a group nobody knows any more, or one
    that was loaded from before the system's time."""
    match record.value:
        case OperatingEnvelope() as envelope:
            return envelope.scope_id, envelope
        case QuarterHour(level=Level.GROUP, phase=Phase.ALL) as row if row.origin is not Origin.BACKFILL:
            group = config.current().group_by_id(row.id)
            return None if group is None else (group.scope_id, GroupRow(row, group.partner_id, group.tolerance))
        case _:
            return None
