"""What the flows of a process share: settings, clock, views, and how their sources and sinks are made."""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from bytewax.inputs import Source
from bytewax.outputs import DynamicSink, Sink

from gateway.secret_use import SecretReporter
from gateway.settings import Settings, clock_of, secrets_of
from pipelines.flow_reporter import FlowReporter
from pipelines.metered import MeteredSink
from pipelines.meters import Meters
from pipelines.records import Record
from pipelines.sources import RECORDS_AT_ONCE, PayloadSource, RecordSource
from pipelines.views import ConfigView, ConnectionsView
from schemas.clock import Clock
from schemas.topics import TELEMETRY, Topic
from sinks.kafka import KafkaSink, Producer
from sinks.kafka_producer import DELIVERY_TIMEOUT_S
from sinks.lease import Lease, write_within_s
from sinks.lease_sink import LeasedSink
from sinks.secrets import Secrets

if TYPE_CHECKING:
    from pipelines.ahead import Ahead

VIEWS_WITHIN_S = 15.0
NEWS_MS, HISTORY_MS = 100, 500
"""How long an empty fetch waits on the embedded broker, which pays for each partition it is asked about (brokers.md): the
history, with every topic and an epoch of its own, need not hear at once."""
Start = Mapping[tuple[str, int], int] | None
REPORT_WITHIN_S = 5.0
"""A report that has not arrived by then is given up: the next one says it all."""


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
    reporting: bool = False
    open: ExitStack = field(default_factory=ExitStack)
    leases: dict[str, Lease] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)

    def records(
        self,
        flow: str,
        topics: Sequence[Topic],
        barrier: Sequence[Topic] = (),
        start: Start = None,
        fetch_wait_ms: int = NEWS_MS,
        in_order: bool = False,
        at_once: int = RECORDS_AT_ONCE,
    ) -> Source[Iterable[Record]]:
        """One consumer over all of a control flow's topics; `in_order` and `at_once` as in `RecordSource`."""
        source = RecordSource(
            self.settings.kafka,
            topics,
            clock=self.clock,
            stop=self.stop,
            barrier=barrier,
            start=start if start is not None else self.starts.get(flow),
            group=f"derms-{flow}",
            fetch_wait_ms=fetch_wait_ms,
            in_order=in_order,
            at_once=at_once,
        )
        return cast("Source[Iterable[Record]]", source)  # the engine's type variables do not vary

    def meters(self, flow: str) -> Meters:
        """Meters for this process's share of a flow, whose reports are sent while the flow runs."""
        made = Meters(flow, str(self.worker), clock=self.clock)
        self.metered.append(made)
        return made

    def report(self) -> None:
        """From now on send what the meters say, those made later too; nothing where no flow has any. Harmless twice."""
        if not self.metered or self.reporting:
            return
        self.reporting = True
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
        `sinks.kafka.Producer`. It is under the flow's lease, if there is one."""
        lease, kafka = self.leases.get(flow), self.settings.kafka
        timeout_s = write_within_s(lease, DELIVERY_TIMEOUT_S)
        sink: DynamicSink[Any] = KafkaSink(kafka, f"derms-{flow}", timeout_s=timeout_s, many=many)
        if lease is not None:
            sink = LeasedSink(sink, lease, self.stop)
        return sink if meters is None else MeteredSink(sink, meters)


@contextmanager
def wiring(
    settings: Settings,
    stop: threading.Event,
    worker: int = 0,
    workers: int = 1,
    keeps_tokens: str = "",
    kinds: Collection[str] | None = None,
) -> Iterator[Wiring]:
    """What flows are made with, for as long as the context lasts; entered once the views have been read to their ends. `worker`
    is the process's number in its cluster, of `workers`. `keeps_tokens` names a process whose flows use the installation secret: it
    says which one (`gateway.secret_use`). `kinds` are the configuration items the flows need; None for all.

    Blocks while they are read. Raises Misconfigured for a missing secret, Unavailable where Kafka does not answer.
    """
    clock = clock_of(settings)
    config = ConfigView(settings.kafka, clock, kinds, remembers=workers > 1)
    connections = ConnectionsView(settings.kafka, clock)
    secrets = secrets_of(settings)
    wired = Wiring(settings, clock, stop, config, connections, secrets, worker, workers)
    with wired.open:
        for view in (config, connections):
            wired.open.callback(view.stop)
            view.start()
        for view in (config, connections):
            view.wait_ready(VIEWS_WITHIN_S)
        if keeps_tokens:
            using = SecretReporter(settings.kafka, keeps_tokens, secrets.key_id)
            wired.open.callback(using.stop)
            using.start()
        yield wired
