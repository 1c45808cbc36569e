"""Flow `circuits`: each change of a circuit's available capacity, in order, to the legacy platform (semantics 4).

The writer to the platform's HTTP interface is an argument; without one (no `DERMS_CIRCUITS__URL`) the changes are
recorded as events and nothing is written anywhere else.
"""

from collections.abc import Iterable
from functools import partial
from operator import attrgetter
from typing import Protocol

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import read_records, run_rule
from pipelines.records import Out, Record
from pipelines.rules.circuit_changes import Change, CircuitChangesRule, Named
from pipelines.views import View
from schemas.capacity import CircuitCapacity
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.topics import CIRCUIT_CAPACITY

READS = (CIRCUIT_CAPACITY,)


class CircuitWriter(Protocol):
    """Who brings changes to the legacy platform: in order per circuit, retried until done or superseded."""

    def submit(self, change: CircuitCapacity) -> None:
        """Take a change over. Returns at once: it is written beside the flow, under the key `change.event_id`.

        A change that comes again under the same key must not be written twice.
        """


def circuits_flow(
    *, records: Source[Iterable[Record]], out: Sink[Out], clock: Clock, config: View[Configuration], writer: CircuitWriter | None = None
) -> Dataflow:
    """Reads `READS`; writes an `Event` per change (key circuit) and hands each change to `writer`, if there is one."""
    flow = Dataflow("circuits")
    readable, dead = read_records(flow, records, clock)
    named = op.filter_map("named", readable, partial(_named, config))
    changes = run_rule("changes", named, CircuitChangesRule(), clock)
    if writer is not None:
        changes = op.map("write", changes, partial(_submitted, writer))
    events = op.map("events", changes, attrgetter("event"))
    op.output("out", op.merge("outs", dead, events), out)
    return flow


def _named(config: View[Configuration], record: Record) -> tuple[str, Named] | None:
    if not isinstance(record.value, CircuitCapacity):
        return None
    circuit = config.current().circuit(record.value.circuit_id)
    name = f"{circuit.name} ({circuit.id})" if circuit and circuit.name else record.value.circuit_id
    return record.value.circuit_id, Named(record.value, name)


def _submitted(writer: CircuitWriter, change: Change) -> Change:
    writer.submit(change.capacity)
    return change
