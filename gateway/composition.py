"""What is wired to what: each flow with its sources and sinks (architecture, "The way of data")."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from gateway.recovery import begun, closed_quarters
from gateway.settings import Settings, clock_of, public_url
from pipelines import circuits, compliance, dispatch, envelopes, lifecycle, reporting
from pipelines.flow_reporter import FlowReporter
from pipelines.metered import MeteredSink
from pipelines.meters import Meters
from pipelines.records import Record
from pipelines.settled import SettledView
from pipelines.sources import PayloadSource, RecordSource
from pipelines.views import ConfigView, ConnectionsView
from schemas.clock import Clock
from schemas.topics import ENVELOPES, TELEMETRY, Topic
from sinks.errors import Misconfigured
from sinks.heap import keep_heap
from sinks.kafka import KafkaSink, Producer
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings

if TYPE_CHECKING:
    from pipelines.ahead import Ahead

VIEWS_WITHIN_S = 15.0
NEWS_MS, HISTORY_MS = 100, 500
"""How long an empty fetch waits on the embedded broker, which pays for each partition it is asked about (brokers.md): the
history, with every topic and an epoch of its own, need not hear at once."""
Start = Mapping[tuple[str, int], int] | None
REPORT_WITHIN_S = 5.0
"""A report that has not arrived by then is given up: the next one says it all."""

TELEMETRY_LANES = 8
"""Consumers the 16 partitions of telemetry are read by: as many processes as can share the reading, and one process is no
slower with 8 than with 1 (measured). Fixed with the recovery store, since each lane keeps the positions of its share."""


def telemetry_lanes(kafka: KafkaSettings) -> int:
    """The lanes of the telemetry flow; one on the embedded broker, which pays for each consumer and serves one process."""
    return 1 if kafka.embedded else TELEMETRY_LANES


@dataclass
class Wiring:
    """The settings, clock, views and stop event that all flows of a process share; `open` closes with the process's flows.

    `worker` is the process's number among the `workers` that run the same flows.
    """

    settings: Settings
    clock: Clock
    stop: threading.Event
    config: ConfigView
    connections: ConnectionsView
    secrets: Secrets
    worker: int = 0
    workers: int = 1
    metered: list[Meters] = field(default_factory=list)
    open: ExitStack = field(default_factory=ExitStack)

    def records(
        self, flow: str, topics: Sequence[Topic], barrier: Sequence[Topic] = (), start: Start = None, fetch_wait_ms: int = NEWS_MS
    ) -> Source[Iterable[Record]]:
        """One consumer over all of a control flow's topics."""
        source = RecordSource(
            self.settings.kafka,
            topics,
            clock=self.clock,
            stop=self.stop,
            barrier=barrier,
            start=start,
            group=f"derms-{flow}",
            fetch_wait_ms=fetch_wait_ms,
        )
        return cast("Source[Iterable[Record]]", source)  # the engine's type variables do not vary

    def meters(self, flow: str) -> Meters:
        """Meters for this process's share of a flow, whose reports are sent while the flow runs."""
        made = Meters(flow, str(self.worker), clock=self.clock)
        self.metered.append(made)
        return made

    def report(self) -> None:
        """From now on send what the meters say; nothing where no flow has any."""
        if not self.metered:
            return
        sender = Producer(self.settings.kafka, f"derms-flow-reports-{self.worker}", timeout_s=REPORT_WITHIN_S)
        reporter = FlowReporter(sender, self.metered)
        self.open.callback(reporter.stop)
        reporter.start()

    def readings(
        self, flow: str, lanes: int = 1, fetch_wait_ms: int = NEWS_MS, meters: Meters | None = None, ahead: "Ahead | None" = None
    ) -> PayloadSource:
        """Telemetry, one item a poll of a lane."""
        return PayloadSource(
            self.settings.kafka,
            TELEMETRY,
            clock=self.clock,
            stop=self.stop,
            group=f"derms-{flow}",
            lanes=lanes,
            fetch_wait_ms=fetch_wait_ms,
            meters=meters,
            ahead=ahead,
        )

    def out(self, flow: str, *, many: bool = False, meters: Meters | None = None) -> Sink[Any]:
        """The sink to Kafka, of `Out` and `Outs`, that waits for acknowledgements and raises on any failure; `many` as in
        `sinks.kafka.Producer`."""
        sink = KafkaSink(self.settings.kafka, f"derms-{flow}", many=many)
        return sink if meters is None else MeteredSink(sink, meters)


def _telemetry(w: Wiring) -> Dataflow:
    from pipelines.ahead import Ahead
    from pipelines.beside import Beside, threads_for
    from pipelines.compiled import prepare  # numpy and numba, only in the processes of the data plane
    from pipelines.earlier_rows import EarlierRows, still_open
    from pipelines.telemetry import telemetry_flow

    keep_heap()
    prepare()
    lanes, meters = telemetry_lanes(w.settings.kafka), w.meters("telemetry")
    threads = threads_for(w.workers)
    ahead = Ahead() if threads > 1 else None
    polls = w.readings("telemetry", lanes, meters=meters, ahead=ahead)
    out = w.out("telemetry", many=True, meters=meters)  # no flow waits for the end of what it writes (`EarlierRows` does, and knows)
    data, life = w.settings.data, w.settings.incarnation
    closed = None if data is None else closed_quarters(data, life)
    written = None if data is None else EarlierRows(w.settings.kafka, begun(data, "telemetry", life), partial(still_open, w.config))
    return telemetry_flow(
        polls=polls, out=out, clock=w.clock, config=SettledView(w.config), closed=closed, written=written, meters=meters,
        beside=Beside(threads), ahead=ahead,
    )  # fmt: skip


def _lifecycle(w: Wiring) -> Dataflow:
    return lifecycle.lifecycle_flow(
        records=w.records("lifecycle", lifecycle.READS, lifecycle.BARRIER),
        out=w.out("lifecycle"),
        clock=w.clock,
        config=w.config,
        token_digest=w.secrets.token_digest,
        public_url=public_url(w.settings),
    )


def _envelopes(w: Wiring) -> Dataflow:
    records = w.records("envelopes", envelopes.READS)
    return envelopes.envelopes_flow(records=records, out=w.out("envelopes"), clock=w.clock, config=w.config)


def _circuits(w: Wiring) -> Dataflow:
    records = w.records("circuits", circuits.READS)
    return circuits.circuits_flow(records=records, out=w.out("circuits"), clock=w.clock, config=w.config)


def _compliance(w: Wiring) -> Dataflow:
    records = w.records("compliance", compliance.READS, (ENVELOPES,))
    return compliance.compliance_flow(records=records, out=w.out("compliance"), clock=w.clock, config=w.config)


def _reporting(w: Wiring) -> Dataflow:
    return reporting.reporting_flow(
        records=w.records("reporting", reporting.READS, reporting.BARRIER),
        out=w.out("reporting"),
        clock=w.clock,
        config=w.config,
        connections=w.connections,
    )


def _dispatch(w: Wiring) -> Dataflow:
    opened = w.open.enter_context(
        dispatch.open_dispatch(w.settings.kafka, clock=w.clock, config=w.config, connections=w.connections, secrets=w.secrets, stop=w.stop)
    )
    records = w.records("dispatch", dispatch.READS, start=opened.start)
    return dispatch.dispatch_flow(records=records, dispatch=opened.sink, out=w.out("dispatch"), clock=w.clock)


def _archive(w: Wiring) -> Dataflow:
    from pipelines.archive import READS, archive_flow
    from sinks.clickhouse.sink import HistorySink

    return archive_flow(
        records=w.records("archive", READS, fetch_wait_ms=HISTORY_MS),
        polls=w.readings("archive", fetch_wait_ms=HISTORY_MS),
        history=HistorySink(w.settings.clickhouse, w.settings.incarnation),
        out=w.out("archive"),
        clock=w.clock,
    )


def _repair(w: Wiring) -> Dataflow:
    from pipelines.repair import READS, Desk, repair_flow
    from pipelines.repairing import Repairer
    from pipelines.rules.quarter_roster import Rosters
    from sinks.clickhouse.client import connected
    from sinks.clickhouse.measured import MeasuredHistory
    from sinks.kafka_archived import Archived

    desk = None
    if w.settings.clickhouse.url:
        history, progress = MeasuredHistory(partial(connected, w.settings.clickhouse)), Archived(w.settings.kafka, "derms-repair")
        w.open.callback(history.close)
        w.open.callback(progress.close)
        rosters = Rosters(w.config.current, w.clock)
        repairer = Repairer(history, rosters, w.clock, lambda: w.config.current().timing.asset_expiry)
        desk = Desk(repairer, progress, rosters, w.clock, w.stop.is_set)
    records = w.records("repair", READS, fetch_wait_ms=HISTORY_MS)
    return repair_flow(records=records, out=w.out("repair", many=True), clock=w.clock, desk=desk)


def layout_of(flow: str, settings: Settings) -> Mapping[str, int]:
    """What of a flow is fixed with its recovery store: with other numbers, state or positions would be left behind in it."""
    if flow != "telemetry":
        return {}
    from pipelines.telemetry import SHARDS

    return {"lanes": telemetry_lanes(settings.kafka), "shards": SHARDS}


BUILDERS: dict[str, Callable[[Wiring], Dataflow]] = {
    "telemetry": _telemetry,
    "lifecycle": _lifecycle,
    "envelopes": _envelopes,
    "circuits": _circuits,
    "compliance": _compliance,
    "reporting": _reporting,
    "dispatch": _dispatch,
    "archive": _archive,
    "repair": _repair,
}


@contextmanager
def flows(names: Iterable[str], settings: Settings, stop: threading.Event, worker: int = 0, workers: int = 1) -> Iterator[list[Dataflow]]:
    """The named flows, wired, for as long as the context lasts; entered once the views have been read to their ends. `worker` is
    the process's number in its cluster, of `workers`.

    Blocks while they are read. Raises Misconfigured for a missing secret, Unavailable where Kafka does not answer.
    """
    if settings.secret is None:
        raise Misconfigured("DERMS_SECRET", "is not set", "32 bytes in base64, such as: openssl rand -base64 32")
    clock = clock_of(settings)
    config, connections = ConfigView(settings.kafka, clock), ConnectionsView(settings.kafka, clock)
    secrets = Secrets.from_base64(settings.secret.get_secret_value())
    wired = Wiring(settings, clock, stop, config, connections, secrets, worker, workers)
    with wired.open:
        for view in (config, connections):
            wired.open.callback(view.stop)
            view.start()
        for view in (config, connections):
            view.wait_ready(VIEWS_WITHIN_S)
        built = [BUILDERS[name](wired) for name in names]
        wired.report()
        yield built
