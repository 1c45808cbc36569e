"""Flow `circuits`: each change of a circuit's available capacity, in order, to the legacy platform (semantics 4).

The writer to the platform's HTTP interface is an argument; without one (no `DERMS_CIRCUITS__URL`) the changes are
recorded as events and nothing is written anywhere else. The writer knows by itself what is newest, so it is handed everything that
is read; the flow's own state is only for saying each change once.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import read_records, run_rule
from pipelines.records import Out, Record
from pipelines.rules.circuit_changes import CircuitChangesRule, Named
from pipelines.views import View
from schemas.capacity import CircuitCapacity
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.topics import CIRCUIT_CAPACITY
from sinks.circuit_history import CircuitHistory
from sinks.circuit_requests import checked
from sinks.circuits import CircuitWriter as HttpCircuitWriter
from sinks.kafka import AsyncAppender
from sinks.kafka_appender import APPEND_TIMEOUT_S
from sinks.lease import Lease, write_within_s
from sinks.settings import CircuitsSettings, KafkaSettings

READS = (CIRCUIT_CAPACITY,)


class CircuitWriter(Protocol):
    """Who brings changes to the legacy platform: in order per circuit, retried until done or superseded."""

    def submit(self, change: CircuitCapacity) -> None:
        """Take a change over. Returns at once: it is written beside the flow, under the key `change.event_id`.

        A change that comes again under the same key must not be written twice, nor one that is older than what came before.
        """


def circuits_flow(
    *, records: Source[Iterable[Record]], out: Sink[Out], clock: Clock, config: View[Configuration], writer: CircuitWriter | None = None
) -> Dataflow:
    """Reads `READS`; hands each change to `writer`, if there is one, and writes an `Event` for each that is news (key circuit)."""
    flow = Dataflow("circuits")
    readable, dead = read_records(flow, records, clock)
    if writer is not None:
        readable = op.map("write", readable, partial(_submitted, writer))
    named = op.filter_map("named", readable, partial(_named, config))
    events = run_rule("changes", named, CircuitChangesRule(), clock, told=True)
    op.output("out", op.merge("outs", dead, events), out)
    return flow


def _named(config: View[Configuration], record: Record) -> tuple[str, Named] | None:
    if not isinstance(record.value, CircuitCapacity):
        return None
    circuit_id = record.value.circuit_id
    return circuit_id, Named(record.value, name_of(config, circuit_id))


def name_of(config: View[Configuration], circuit_id: str) -> str:
    """What people call a circuit."""
    circuit = config.current().circuit(circuit_id)
    return f"{circuit.name} ({circuit_id})" if circuit and circuit.name else circuit_id


def with_scope(config: View[Configuration]) -> frozenset[str]:
    """The circuits that correspond to a scope: those there is something to say about."""
    return frozenset(scope.circuit_id for scope in config.current().scopes if scope.circuit_id)


def _submitted(writer: CircuitWriter, record: Record) -> Record:
    if isinstance(record.value, CircuitCapacity):
        writer.submit(record.value)
    return record


@contextmanager
def open_writer(
    kafka: KafkaSettings,
    settings: CircuitsSettings,
    *,
    clock: Clock,
    config: View[Configuration],
    stop: threading.Event,
    lease: Lease | None = None,
) -> Iterator[HttpCircuitWriter]:
    """A writer to the platform at `settings.url`, and a reader of what held before, until the context ends (which takes at most 6 s).

    A fault of the writer's own sets `stop`. Only one may be open at a time in an installation: who composes sees to that, by opening
    it once it has the `lease`. Raises Misconfigured where the CA file cannot be used.
    """
    platform = checked(settings)
    # A result that cannot be recorded before the lease may end must not arrive after it.
    appender = AsyncAppender(kafka, "derms-circuit-writer", timeout_s=write_within_s(lease, APPEND_TIMEOUT_S))
    try:
        writer = HttpCircuitWriter(
            platform=platform,
            append=appender.append,
            wanted=partial(with_scope, config),
            name_of=partial(name_of, config),
            clock=clock,
            lease=lease,
            on_failure=lambda error: stop.set(),
        )
        history = CircuitHistory(kafka, wanted=partial(with_scope, config), tell=writer.learn, clock=clock, on_failure=writer.fail)
        writer.start()
        try:
            history.start()
            yield writer
        finally:
            history.stop()
            writer.stop()
    finally:
        appender.close()
