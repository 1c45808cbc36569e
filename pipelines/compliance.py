"""Flow `compliance`: group quarters against the envelope become verdicts and breaches (semantics 5)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import read_records, run_rule
from pipelines.records import Out, Record
from pipelines.rules.at_risk import AtRiskRule
from pipelines.rules.compliance import ComplianceRule, GroupRow
from pipelines.rules.patience import Patience
from pipelines.views import View
from schemas.capacity import OperatingEnvelope
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.intervals import next_quarter
from schemas.telemetry import Level, Origin, QuarterHour
from schemas.topics import ENVELOPES, QUARTER_HOURS
from schemas.topology import Asset, Group, bound
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
    items = op.flat_map("items", readable, Concerned(config).items)
    patience = Patience(clock.now(), clock.allowance(SETTLE))
    # Provisional rows come every minute: they do not touch what is kept to judge a week of quarters again.
    warned = run_rule("at_risk", items, AtRiskRule(), clock, told=True)
    judged = run_rule("compliance", op.filter("final", items, _final), ComplianceRule(patience), clock, told=True)
    op.output("out", op.merge("outs", dead, warned, judged), out)
    return flow


def _final(keyed: tuple[str, GroupRow | OperatingEnvelope]) -> bool:
    return not (isinstance(keyed[1], GroupRow) and keyed[1].row.provisional)


class Concerned:
    """Reads the configuration's present view; keeps nothing but an index of it."""

    def __init__(self, config: View[Configuration]) -> None:
        self._config = config
        self._index = _Index(Configuration())

    def items(self, record: Record) -> Iterator[tuple[str, GroupRow | OperatingEnvelope]]:
        """An envelope, or a row with the terms of each group it judges, under the scope.

        That is a group's own row, and a connection meter's of a single phase for each group of its scope. None is a row of a
        group nobody knows any more, or one that was loaded from before the system's time.
        """
        match record.value:
            case OperatingEnvelope() as envelope:
                yield envelope.scope_id, envelope
            case QuarterHour() as row if row.origin is not Origin.BACKFILL:
                index = self._current()
                if row.level is Level.GROUP and row.phase is Phase.ALL:
                    group = index.configuration.group_by_id(row.id)
                    if group is not None:  # an old quarter stands under the scope of its time
                        yield row.scope_id or group.scope_id, index.with_terms(row, group)
                elif row.level is Level.ASSET and row.phase is not Phase.ALL and row.scope_id is not None and index.measures(row):
                    yield from ((row.scope_id, index.with_terms(row, group)) for group in index.of_scope.get(row.scope_id, ()))
            case _:
                return

    def _current(self) -> "_Index":
        configuration = self._config.current()
        if configuration is not self._index.configuration:
            self._index = _Index(configuration)
        return self._index


class _Index:
    """A configuration by what is asked of it; made once for each that is seen."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.of_scope: dict[str, list[Group]] = defaultdict(list)
        for group in configuration.groups:
            self.of_scope[group.scope_id].append(group)
        self._meters: dict[str, Asset] = {asset.id: asset for asset in configuration.assets if asset.connection_meter}

    def with_terms(self, row: QuarterHour, group: Group) -> GroupRow:
        """The row, and by what it is judged."""
        partner = self.configuration.partner(group.partner_id)
        item = GroupRow(row, group.group_id, group.partner_id, group.tolerance)
        return item if partner is None else item._replace(reach=partner.measurements.report_horizon)

    def measures(self, row: QuarterHour) -> bool:
        """Whether an asset's row is that of its scope's connection meter, as bound in that quarter."""
        for past in self.configuration.earlier.get(f"assets/{row.id}", ()):
            if row.start < next_quarter(past.until):
                return past.connection_meter and past.scope_id == row.scope_id
        asset = self._meters.get(row.id)
        return asset is not None and asset.scope_id == row.scope_id and bound(asset, row.start)
