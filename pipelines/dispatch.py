"""Flow `dispatch`: what is owed to partners, handed over to the dispatcher, which sends it (semantics 8).

This flow keeps no engine recovery: its progress is the deliveries and the positions the dispatcher commits. It
always reads on; what waits for a partner waits in the dispatcher, as references.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import DynamicSink, Sink, StatelessSinkPartition

from pipelines.operators import read_records
from pipelines.records import Out, Record
from pipelines.views import View
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.connection import Command, Connection
from schemas.outbound import OutboundMessage
from schemas.topics import COMMANDS, OUTBOUND
from sinks.kafka import AsyncAppender, Positions
from sinks.kafka_appender import APPEND_TIMEOUT_S
from sinks.lease import Lease, write_within_s
from sinks.oscp.bodies import BodyReader
from sinks.oscp.client import OscpClient
from sinks.oscp.dispatcher import Dispatcher
from sinks.oscp.history import Keeper, read_start
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings

READS = (OUTBOUND, COMMANDS)
GROUP = "derms-dispatch-progress"
"""Not the group the source mirrors its own position to, which is further on than what is delivered."""


def dispatch_flow(*, records: Source[Iterable[Record]], dispatch: Sink[Record], out: Sink[Out], clock: Clock) -> Dataflow:
    """Reads `READS` and hands each record to `dispatch`; what cannot be read goes to `out` as dead letters.

    `records` has to begin at the positions of `open_dispatch`, not where a recovery store says.
    """
    flow = Dataflow("dispatch")
    readable, dead = read_records(flow, records, clock)
    op.output("dispatch", readable, dispatch)
    op.output("out", dead, out)
    return flow


class _Handing(StatelessSinkPartition[Record]):
    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def write_batch(self, items: list[Record]) -> None:
        for record in items:
            match record.value:
                case OutboundMessage() as message:
                    self._dispatcher.take(message, record.partition, record.offset)
                case Command() as command:
                    self._dispatcher.command(command, record.partition, record.offset)
                case _:
                    pass


class DispatchSink(DynamicSink[Record]):
    """Hands messages and commands to a dispatcher. Never blocks; raises RuntimeError once the dispatcher failed."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Record]:
        """One dispatcher serves all workers of the process."""
        return _Handing(self._dispatcher)


@dataclass(frozen=True, slots=True)
class OpenDispatch:
    """A dispatcher at work: `start` is where the flow's source begins, by plain topic name and partition."""

    dispatcher: Dispatcher
    sink: DispatchSink
    start: Mapping[tuple[str, int], int]


@contextmanager
def open_dispatch(
    settings: KafkaSettings,
    *,
    clock: Clock,
    config: View[Configuration],
    connections: View[Mapping[str, Connection]],
    secrets: Secrets,
    stop: threading.Event,
    lease: Lease | None = None,
) -> Iterator[OpenDispatch]:
    """Read where the last dispatch got to, and run a dispatcher until the context ends (which drains it, at most 6 s).

    Blocks while the deliveries are read. A fault of the dispatcher's own sets `stop`. Raises Unavailable when the
    broker does not answer. Only one dispatch may be open at a time in an installation: who composes sees to that, by
    opening it once it has the `lease`.
    """
    positions = Positions(settings, GROUP)
    keeper = Keeper(settings, positions)
    bodies = BodyReader(settings)
    # An outcome that cannot be recorded before the lease may end must not arrive after it: another has read them by then.
    appender = AsyncAppender(settings, "derms-dispatch", timeout_s=write_within_s(lease, APPEND_TIMEOUT_S))
    try:
        start = read_start(settings, positions)
        client = OscpClient(config.current, connections.current, secrets)
        dispatcher = Dispatcher(
            sender=client,
            append=appender.append,
            fetch=bodies,
            positions=keeper,
            start=start,
            configuration=config.current,
            connections=connections.current,
            clock=clock,
            on_failure=lambda error: stop.set(),
            lease=lease,
            token_times=client.token_times,
        )
        dispatcher.start()
        try:
            yield OpenDispatch(dispatcher, DispatchSink(dispatcher), start.positions())
        finally:
            dispatcher.stop()
    finally:
        appender.close()
        bodies.close()
        keeper.close()
