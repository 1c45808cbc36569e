"""What is wired to what: each flow with its sources and sinks (architecture, "The way of data")."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bytewax.dataflow import Dataflow

from gateway.settings import Settings, clock_of, public_url
from pipelines.archive import READS, archive_flow
from pipelines.circuits import circuits_flow
from pipelines.compliance import compliance_flow
from pipelines.envelopes import envelopes_flow
from pipelines.lifecycle import lifecycle_flow
from pipelines.reporting import reporting_flow
from pipelines.sources import PayloadSource, RecordSource
from pipelines.telemetry import telemetry_flow
from pipelines.views import ConfigView, ConnectionsView
from schemas.clock import Clock
from schemas.topics import (
    CIRCUIT_CAPACITY,
    COMMANDS,
    COMPLIANCE,
    CONFIG,
    CONNECTIONS,
    DELIVERIES,
    ENVELOPES,
    INBOUND,
    QUARTER_HOURS,
    TELEMETRY,
    Topic,
)
from sinks.clickhouse.sink import HistorySink
from sinks.errors import Misconfigured
from sinks.kafka import KafkaSink
from sinks.secrets import Secrets


@dataclass
class Wiring:
    """The settings, clock, views and stop event that all flows of a process share."""

    settings: Settings
    clock: Clock
    stop: threading.Event
    config: ConfigView
    connections: ConnectionsView
    secrets: Secrets

    def records(self, flow: str, *topics: Topic, barrier: tuple[Topic, ...] = ()) -> RecordSource:
        """One consumer over all of a control flow's topics."""
        return RecordSource(self.settings.kafka, topics, clock=self.clock, stop=self.stop, barrier=barrier, group=f"derms-{flow}")

    def out(self, flow: str) -> KafkaSink:
        """The sink to Kafka that waits for acknowledgements and raises on any failure."""
        return KafkaSink(self.settings.kafka, f"derms-{flow}")


def wiring(settings: Settings, stop: threading.Event) -> Wiring:
    """Start the views and wait until both have been read to their present ends. Raises Misconfigured, Unavailable."""
    clock = clock_of(settings)
    if settings.secret is None:
        raise Misconfigured("DERMS_SECRET", "is not set", "32 bytes in base64, such as: openssl rand -base64 32")
    config, connections = ConfigView(settings.kafka, clock), ConnectionsView(settings.kafka, clock)
    for view in (config, connections):
        view.start()
    for view in (config, connections):
        view.wait_ready(15)
    return Wiring(settings, clock, stop, config, connections, Secrets.from_base64(settings.secret.get_secret_value()))


def _telemetry(w: Wiring) -> Dataflow:
    polls = PayloadSource(w.settings.kafka, TELEMETRY, clock=w.clock, stop=w.stop, group="derms-telemetry")
    return telemetry_flow(polls=polls, out=w.out("telemetry"), clock=w.clock, config=w.config)


def _lifecycle(w: Wiring) -> Dataflow:
    records = w.records("lifecycle", CONFIG, CONNECTIONS, INBOUND, DELIVERIES, COMMANDS, barrier=(CONFIG, CONNECTIONS))
    return lifecycle_flow(
        records=records,
        out=w.out("lifecycle"),
        clock=w.clock,
        config=w.config,
        token_digest=w.secrets.token_digest,
        public_url=public_url(w.settings),
    )


def _envelopes(w: Wiring) -> Dataflow:
    records = w.records("envelopes", INBOUND, CONNECTIONS, COMMANDS, CONFIG)
    return envelopes_flow(records=records, out=w.out("envelopes"), clock=w.clock, config=w.config)


def _circuits(w: Wiring) -> Dataflow:
    return circuits_flow(records=w.records("circuits", CIRCUIT_CAPACITY), out=w.out("circuits"), clock=w.clock, config=w.config)


def _compliance(w: Wiring) -> Dataflow:
    records = w.records("compliance", QUARTER_HOURS, ENVELOPES, barrier=(ENVELOPES,))
    return compliance_flow(records=records, out=w.out("compliance"), clock=w.clock, config=w.config)


def _reporting(w: Wiring) -> Dataflow:
    records = w.records("reporting", QUARTER_HOURS, CONNECTIONS, COMPLIANCE, INBOUND, COMMANDS, barrier=(CONNECTIONS, INBOUND))
    return reporting_flow(records=records, out=w.out("reporting"), clock=w.clock, config=w.config)


def _dispatch(w: Wiring) -> Dataflow:
    return dispatch_flow(w)


def _archive(w: Wiring) -> Dataflow:
    kafka = w.settings.kafka
    return archive_flow(
        records=w.records("archive", *READS),
        polls=PayloadSource(kafka, TELEMETRY, clock=w.clock, stop=w.stop, group="derms-archive"),
        history=HistorySink(w.settings.clickhouse, w.settings.incarnation),
        out=w.out("archive"),
        clock=w.clock,
    )


BUILDERS: dict[str, Callable[[Wiring], Dataflow]] = {
    "telemetry": _telemetry,
    "lifecycle": _lifecycle,
    "envelopes": _envelopes,
    "circuits": _circuits,
    "compliance": _compliance,
    "reporting": _reporting,
    "dispatch": _dispatch,
    "archive": _archive,
}


@contextmanager
def flows(names: Iterable[str], settings: Settings, stop: threading.Event) -> Iterator[list[Dataflow]]:
    """The named flows, wired, for as long as the context lasts."""
    wired = wiring(settings, stop)
    try:
        yield [BUILDERS[name](wired) for name in names]
    finally:
        wired.config.stop()
        wired.connections.stop()
