"""Flow `envelopes`: what partners and operators say becomes each scope's envelope and its circuit's capacity (semantics 3, 4)."""

from collections.abc import Iterable
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import read_records, run_rule
from pipelines.records import Out, Record
from pipelines.rules.circuits import CircuitRule, Plan
from pipelines.rules.envelopes import EnvelopeRule
from pipelines.rules.fan_out import FanOut
from pipelines.rules.patience import Patience
from pipelines.rules.scope_changes import ScopeChanges, Whereabouts
from pipelines.rules.scope_items import Item
from pipelines.scope_news import ScopeNews, whereabouts
from pipelines.views import View
from schemas.clock import Clock
from schemas.config import ConfigChange, Configuration
from schemas.connection import Connection
from schemas.topics import COMMANDS, CONFIG, CONNECTIONS, INBOUND

READS = (CONFIG, INBOUND, CONNECTIONS, COMMANDS)
BARRIER = (CONFIG,)
"""Read up to its end before the other topics' records of the same poll; a replay of all of them is in the order of appending."""

AT_ONCE = 100
"""So many records at most are worked on before boundaries that have come are told: a forecast of a day takes some milliseconds, and
a boundary is to be told within a second (semantics 4), also while thousands of forecasts wait."""

VIEWS_FOLLOW = timedelta(seconds=2)
"""How long a view may take to show a change of the configuration that this flow has read."""

SETTLE = timedelta(milliseconds=500)
"""How long circuits' timers wait for more news after some that came late: half of the second within which a boundary is to be told
(semantics 4)."""

OPENING = timedelta(seconds=1)
"""So long the source takes at a start before it reads: a boundary stated before that might be denied by what was written meanwhile.
One that comes later than half a second after the start is still told within the second."""


def envelopes_flow(*, records: Source[Iterable[Record]], out: Sink[Out], clock: Clock, config: View[Configuration]) -> Dataflow:
    """Reads `READS` (with `BARRIER`, in order); writes `OperatingEnvelope` (key scope), `CircuitCapacity` (key circuit) and `Event`.

    Boundaries of an envelope change the circuit when the clock reaches them.
    """
    flow = Dataflow("envelopes")
    readable, dead = read_records(flow, records, clock)

    news = ScopeNews(config, clock)
    changes = op.filter_map("config_changes", readable, _change)
    looks = run_rule("scope_changes", changes, ScopeChanges(clock.allowance(VIEWS_FOLLOW)), clock)
    told = op.flat_map("news", readable, news.of_record)
    looked = op.flat_map("looks", looks, news.of_look)
    links = run_rule("links", op.filter_map("connections", readable, news.of_connection), FanOut(), clock)
    linked = op.map("linked", links, news.of_link)
    concerned = op.merge("scopes", told, looked, linked)
    oddities = op.filter_map("oddities", concerned, _out)
    items = op.filter_map("items", concerned, _item)

    said = run_rule("envelopes", items, EnvelopeRule(), clock, told=True)
    plans = op.filter_map("plans", said, _plan)
    envelopes = op.filter_map("revisions", said, _out)

    settle = clock.allowance(SETTLE)
    patience = Patience(clock.now(), settle, clock.allowance(OPENING + SETTLE) - settle)
    capacities = run_rule("circuits", plans, CircuitRule(patience), clock, told=True)

    op.output("out", op.merge("outs", dead, oddities, envelopes, capacities), out)
    return flow


def _change(record: Record) -> tuple[str, ConfigChange | Whereabouts] | None:
    if isinstance(record.value, Connection):
        return "configuration", whereabouts(record.value)
    return ("configuration", record.value) if isinstance(record.value, ConfigChange) else None


def _out(value: object) -> Out | None:
    return value if isinstance(value, Out) else None


def _item(value: Out | tuple[str, Item]) -> tuple[str, Item] | None:
    return None if isinstance(value, Out) else value


def _plan(value: Out | Plan) -> tuple[str, Plan] | None:
    return (value.scope_id, value) if isinstance(value, Plan) else None
