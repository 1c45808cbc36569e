"""What is wired to what: each flow with its sources and sinks (architecture, "The way of data")."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from bytewax.dataflow import Dataflow

from gateway.recovery import begun, closed_quarters
from gateway.settings import Settings, public_url
from gateway.wiring import HISTORY_MS, Start, Wiring
from pipelines import circuits, compliance, dispatch, envelopes, lifecycle, reporting
from pipelines.settled import SettledView
from schemas.config import Configuration
from schemas.topics import ENVELOPES
from sinks.heap import keep_heap
from sinks.lease import Lease
from sinks.settings import KafkaSettings

log = logging.getLogger(__name__)

TELEMETRY_LANES = 8
"""Consumers the 16 partitions of telemetry are read by: as many processes as can share the reading, and one process is no
slower with 8 than with 1 (measured). Fixed with the recovery store, since each lane keeps the positions of its share."""


def telemetry_lanes(kafka: KafkaSettings) -> int:
    """The lanes of the telemetry flow; one on the embedded broker, which pays for each consumer and serves one process."""
    return 1 if kafka.embedded else TELEMETRY_LANES


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
        polls=polls, out=out, clock=w.clock, config=SettledView(w.config, told=_goes_by), closed=closed, written=written, meters=meters,
        beside=Beside(threads), ahead=ahead, config_at=w.config.at,
    )  # fmt: skip


def _goes_by(config: Configuration) -> None:
    log.info("telemetry goes by a configuration of %d assets and %d groups", len(config.assets), len(config.groups))


def _lifecycle(w: Wiring) -> Dataflow:
    return lifecycle.lifecycle_flow(
        records=w.records("lifecycle", lifecycle.READS, lifecycle.BARRIER, in_order=True),
        out=w.out("lifecycle"),
        clock=w.clock,
        config=w.config,
        token_digest=w.secrets.token_digest,
        key_id=w.secrets.key_id,
        renewed=w.secrets.renewed,
        connections=w.connections,
        public_url=public_url(w.settings),
    )


def _envelopes(w: Wiring) -> Dataflow:
    records = w.records("envelopes", envelopes.READS, envelopes.BARRIER, in_order=True, at_once=envelopes.AT_ONCE)
    return envelopes.envelopes_flow(records=records, out=w.out("envelopes"), clock=w.clock, config=w.config)


def _circuits(w: Wiring) -> Dataflow:
    writer = None
    if w.settings.circuits.url:
        lease = w.leases.get("circuits")
        opened = circuits.open_writer(w.settings.kafka, w.settings.circuits, clock=w.clock, config=w.config, stop=w.stop, lease=lease)
        writer = w.open.enter_context(opened)
    records = w.records("circuits", circuits.READS)
    return circuits.circuits_flow(records=records, out=w.out("circuits"), clock=w.clock, config=w.config, writer=writer)


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
        dispatch.open_dispatch(
            w.settings.kafka,
            clock=w.clock,
            config=w.config,
            connections=w.connections,
            secrets=w.secrets,
            stop=w.stop,
            lease=w.leases.get("dispatch"),
        )
    )
    w.meters("dispatch").follow_queues(opened.dispatcher.standings)
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


NEEDS: dict[str, frozenset[str]] = {
    "lifecycle": frozenset({"partners", "timing"}),
    "dispatch": frozenset({"partners", "timing"}),
    "circuits": frozenset({"circuits", "scopes", "timing"}),
    "envelopes": frozenset({"circuits", "scopes", "partners", "groups", "timing"}),
}
"""The kinds of configuration items a flow asks its view for; all of them where it is not named. Assets are what there is most of."""


def kinds_for(flows: Iterable[str]) -> frozenset[str] | None:
    """The kinds of configuration items that a process with these flows has to hold; None for all."""
    needs = [NEEDS.get(flow) for flow in flows]
    return None if not needs or None in needs else frozenset[str]().union(*(each for each in needs if each is not None))


def flow_of(wired: Wiring, name: str, lease: Lease | None = None, start: Start = None) -> Dataflow:
    """The flow of that name, ready to run; under a `lease` (which is held) it writes only while that is known to be good.

    `start` is where it begins where no recovery store says. Blocks while it reads what it must know; for one thread at a time.
    Raises Unavailable.
    """
    if lease is not None:
        wired.leases[name] = lease
    wired.starts[name] = start
    return BUILDERS[name](wired)
