"""Flow `reporting`: closed quarters, verdicts and operators' wishes become messages owed to partners (semantics 7).

Everything is keyed by scope, where assets, group, envelope and partners meet. Connections concern all scopes of
their partner; a verdict, a forecast and a command name a group, which is bound to one scope.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import read_records, run_rule
from pipelines.records import Out, Record
from pipelines.rules import adjustments
from pipelines.rules.adjustments import AdjustmentRule, Asked
from pipelines.rules.patience import Patience
from pipelines.rules.reporting import Item, Owed, ReportingRule
from pipelines.rules.reporting_plan import Plans
from pipelines.rules.reporting_quarters import Waits
from pipelines.views import View
from schemas.clock import Clock
from schemas.compliance import Verdict
from schemas.config import Configuration
from schemas.connection import Command, CommandKind, Connection, InboundMessage, refused_command
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage
from schemas.telemetry import Origin, QuarterHour
from schemas.topics import COMMANDS, COMPLIANCE, CONNECTIONS, DELIVERIES, EVENTS, INBOUND, OUTBOUND, QUARTER_HOURS

READS = (QUARTER_HOURS, CONNECTIONS, COMPLIANCE, INBOUND, COMMANDS, DELIVERIES)
BARRIER = (CONNECTIONS, INBOUND)
"""Read up to their ends before the other topics' records of the same poll: what a row or a verdict is judged by."""
SETTLE = timedelta(seconds=5)
"""How long after a start no timer acts, since what it waits for may have been written meanwhile; and how long after late news no
wish for another capacity is given up."""
_BY_HAND = frozenset({CommandKind.ADJUST, CommandKind.COMPLIANCE_ERROR})


def reporting_flow(
    *,
    records: Source[Iterable[Record]],
    out: Sink[Out],
    clock: Clock,
    config: View[Configuration],
    connections: View[Mapping[str, Connection]] | None = None,
) -> Dataflow:
    """Reads `READS` (with `BARRIER`); writes `OutboundMessage` (key partner), `Adjustment` (key group) and `Event`.

    `connections` serves scopes bound to a partner after it came online, which no change of the connection reaches.
    """
    flow = Dataflow("reporting")
    readable, dead = read_records(flow, records, clock)
    plans = Plans(config.current)

    routed = op.flat_map("route", readable, partial(_route, plans, clock))
    by_scope = op.filter_map("by_scope", routed, _item)
    unknown = op.filter_map("unknown", routed, _out)

    patience = Patience(clock.now(), clock.allowance(SETTLE))
    rule = ReportingRule(config.current, waits_of(clock, config.current()), _connection_of(connections), patience)
    owed = run_rule("reporting", by_scope, rule, clock, told=True)

    wishes = op.filter_map("wishes", readable, partial(_of_wishes, plans))
    lives = run_rule("adjustments", wishes, AdjustmentRule(patience), clock, told=True)
    op.output("out", op.merge("outs", dead, unknown, op.map("addressed", owed, addressed), lives), out)
    return flow


def waits_of(clock: Clock, configuration: Configuration) -> Waits:
    """Reporting's waits under a clock (with its floor for slow machinery) and a configuration's horizons."""
    numbers = Waits()
    return Waits(
        settle=clock.allowance(numbers.settle),
        patience=clock.allowance(numbers.patience),
        live=clock.allowance(numbers.live),
        orphans=clock.allowance(configuration.timing.report_deadline + timedelta(minutes=1)),
        recent=max(numbers.recent, configuration.timing.correction_horizon + timedelta(hours=1)),
        idle=clock.allowance(numbers.idle),
    )


def addressed(owed: Owed | Out) -> Out:
    """Where a message or an event goes."""
    if isinstance(owed, Out):
        return owed
    if isinstance(owed, OutboundMessage):
        return Out(OUTBOUND, owed.partner_id, owed)
    return Out(EVENTS, owed.subject_id, owed)


def _route(plans: Plans, clock: Clock, record: Record) -> Iterator[tuple[str, Item] | Out]:
    """The scopes a record concerns, or the event that a command concerns none."""
    plan = plans.current()
    match record.value:
        case QuarterHour() as row:
            if row.scope_id is not None and not row.provisional and row.origin is not Origin.BACKFILL:
                yield row.scope_id, row
        case Verdict() as verdict:
            yield verdict.scope_id, verdict
        case Connection() as connection:
            yield from ((scope_id, connection) for scope_id in plan.scopes_of(connection.partner_id))
        case InboundMessage(action=Action.UPDATE_GROUP_CAPACITY_FORECAST, is_segment=False) as message:
            if (scope := plan.scope_of(message.group_id)) is not None:
                yield scope, message
        case Command() as command if command.kind in _BY_HAND:
            bound = plan.scope_of(command.group_id)
            yield (bound, command) if bound else addressed(refused_command(command, f"there is no group {command.group_id!r}", clock.now()))
        case _:
            pass


def _of_wishes(plans: Plans, record: Record) -> tuple[str, adjustments.Item] | None:
    """What concerns a group's wishes for another capacity, by the group."""
    match record.value:
        case Command(kind=CommandKind.ADJUST, group_id=str(group_id)) as command:
            scope_id = plans.current().scope_of(group_id)
            return None if scope_id is None else (group_id, Asked(command, scope_id))
        case Delivery(action=Action.ADJUST_GROUP_CAPACITY_FORECAST, group_id=str(group_id)) as delivery:
            return group_id, delivery
        case InboundMessage(action=Action.UPDATE_GROUP_CAPACITY_FORECAST, is_segment=False, group_id=str(group_id)) as message:
            return group_id, message
        case _:
            return None


def _connection_of(connections: View[Mapping[str, Connection]] | None) -> Callable[[str], Connection | None]:
    return lambda partner_id: connections.current().get(partner_id) if connections else None


def _item(routed: tuple[str, Item] | Out) -> tuple[str, Item] | None:
    return None if isinstance(routed, Out) else routed


def _out(routed: tuple[str, Item] | Out) -> Out | None:
    return routed if isinstance(routed, Out) else None
