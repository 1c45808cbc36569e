"""How the workers of dataflows stand, made of what they reported: for the status, the metrics and the page. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel

from gateway.picture import Picture, Reported
from gateway.wording import delay
from schemas.clock import Clock
from schemas.flows import FlowReport, PartitionStanding, StageTime, Tally
from schemas.units import Instant

STALE_AFTER = timedelta(seconds=30)
"""Workers report at least every 15 s (wall): one that has not for so long does not run, or does not reach the broker."""
LAGGING_BY = timedelta(minutes=1)
"""Event time may be so far (clock) behind what lateness accounts for before messages that wait are called a lag."""
READINGS = "readings"


class WorkerState(StrEnum):
    """How a worker stands; the later, the more it matters."""

    RUNNING = "running"
    STOPPED = "stopped"
    LAGGING = "lagging"
    SILENT = "silent"


class PartitionView(BaseModel):
    """One partition of what a flow reads. `lag`: messages behind the broker's end. `behind_s`: how far event time (`watermark`)
    was behind the clock at the last report, or is, where the worker is silent. `worker` reads it, where one is known to."""

    topic: str
    partition: int
    worker: str | None
    position: int | None
    lag: int | None
    watermark: Instant | None
    behind_s: float | None


class StageView(BaseModel):
    """Where a worker's time goes. `share` is the part of its time the stage took over the last reports."""

    stage: str
    runs: int
    seconds: float
    longest_s: float
    size_bytes: int
    share: float | None


class WorkerView(BaseModel):
    """One worker. `state` is silent where there was no report for 30 s, lagging where messages wait at the broker and event time
    is more than a minute further behind the clock than lateness accounts for; `words` say so to people. Counts run from
    `started_at` (wall)."""

    worker: str
    state: WorkerState
    words: str
    started_at: Instant
    report_age_s: float
    readings_per_s: float | None
    tallies: list[Tally]
    stages: list[StageView]


class FlowView(BaseModel):
    """One dataflow: the sums and the worst of its workers and partitions."""

    flow: str
    state: WorkerState
    readings_per_s: float | None
    lag: int | None
    behind_s: float | None
    workers: list[WorkerView]
    partitions: list[PartitionView]


Worker = tuple[Reported, ...]
"""A worker's last reports, newest first."""


def standing_workers(picture: Picture) -> dict[str, list[Worker]]:
    """The workers of each flow in their order, without those whose partitions others have taken over since."""
    found: dict[str, list[Worker]] = {}
    for key in sorted(picture.flows):
        worker = picture.flows[key]
        found.setdefault(worker[0].report.flow, []).append(worker)
    return {flow: [worker for worker in workers if not _replaced(worker[0], workers)] for flow, workers in found.items()}


def _replaced(one: Reported, workers: Iterable[Worker]) -> bool:
    """A cluster was made smaller: what was silent or ended is read by workers that reported well after it."""
    later = [each[0].report for each in workers if each[0].at > one.at + STALE_AFTER]
    read = {part for report in later for part in _reads(report)}
    return bool(later) and (one.report.ended or _reads(one.report) <= read)


def _reads(report: FlowReport) -> set[tuple[str, int]]:
    return {(each.topic, each.partition) for each in report.partitions if each.position is not None}


def partitions_of(workers: Iterable[Worker], now: datetime, wall: datetime) -> list[PartitionView]:
    """The partitions of a flow's workers: where each one's last reader is, and the event time that all workers' state has passed."""
    newest = sorted((worker[0] for worker in workers), key=lambda each: each.at)
    readers: dict[tuple[str, int], tuple[str | None, PartitionStanding]] = {}
    passed: dict[tuple[str, int], tuple[datetime, float]] = {}
    for reported in [each for each in newest if not each.report.ended] or newest:
        report = reported.report
        # Of a worker that lives the report's own instant counts; of one that does not, time goes on without it.
        seen = now if wall - reported.at > STALE_AFTER else report.at
        for each in report.partitions:
            part = (each.topic, each.partition)
            if each.position is not None or part not in readers:
                readers[part] = (None if each.position is None else report.worker, each)
            if each.watermark is not None and (part not in passed or each.watermark < passed[part][0]):
                passed[part] = (each.watermark, max(0.0, (seen - each.watermark).total_seconds()))
    return [
        PartitionView(
            topic=part[0],
            partition=part[1],
            worker=worker,
            position=each.position,
            lag=each.lag,
            watermark=passed[part][0] if part in passed else None,
            behind_s=passed[part][1] if part in passed else None,
        )
        for part, (worker, each) in sorted(readers.items(), key=lambda pair: pair[0])
    ]


def flow_views(picture: Picture, clock: Clock, wall: datetime, lateness: timedelta) -> list[FlowView]:
    """The flows that have reported, by name. `wall` is the wall's instant, `lateness` the configured one."""
    now = clock.now()
    allowed = (clock.allowance(lateness) + clock.allowance(LAGGING_BY)).total_seconds()
    return [_flow(flow, workers, partitions_of(workers, now, wall), wall, allowed) for flow, workers in standing_workers(picture).items()]


def _flow(flow: str, workers: list[Worker], partitions: list[PartitionView], wall: datetime, allowed: float) -> FlowView:
    views = [_worker(worker, partitions, wall, allowed) for worker in workers]
    rates = [view.readings_per_s for view in views if view.readings_per_s is not None]
    states = list(WorkerState)
    return FlowView(
        flow=flow,
        state=max((view.state for view in views), key=states.index),
        readings_per_s=sum(rates) if rates else None,
        lag=_sum(each.lag for each in partitions),
        behind_s=max((each.behind_s for each in partitions if each.behind_s is not None), default=None),
        workers=views,
        partitions=partitions,
    )


def _worker(worker: Worker, partitions: list[PartitionView], wall: datetime, allowed: float) -> WorkerView:
    last = worker[0]
    age = max(0.0, (wall - last.at).total_seconds())
    mine = [each for each in partitions if each.worker == last.report.worker]
    state, words = _state(worker, mine, age, allowed)
    return WorkerView(
        worker=last.report.worker,
        state=state,
        words=words,
        started_at=last.report.started_at,
        report_age_s=age,
        readings_per_s=None if state in (WorkerState.SILENT, WorkerState.STOPPED) else _rate(worker),
        tallies=last.report.tallies,
        stages=[_stage(each, worker) for each in last.report.stages],
    )


def _state(worker: Worker, partitions: list[PartitionView], age: float, allowed: float) -> tuple[WorkerState, str]:
    if worker[0].report.ended:
        return WorkerState.STOPPED, "has been stopped"
    if age > STALE_AFTER.total_seconds():
        return WorkerState.SILENT, f"no report for {delay(age)}: it does not run, or does not reach the broker"
    before = _lags(worker[1].report) if len(worker) > 1 else {}
    late = [each for each in partitions if each.behind_s is not None and each.behind_s > allowed and each.lag]
    # Of one look alone nothing follows: messages always wait for a moment.
    late = [each for each in late if before.get((each.topic, each.partition))]
    if late:
        waiting, behind = sum(each.lag or 0 for each in late), max(each.behind_s or 0.0 for each in late)
        return WorkerState.LAGGING, f"{waiting:,} messages wait at the broker, event time is {delay(behind)} behind the clock"
    return WorkerState.RUNNING, ""


def _lags(report: FlowReport) -> Mapping[tuple[str, int], int]:
    return {(each.topic, each.partition): each.lag or 0 for each in report.partitions}


def _sum(lags: Iterable[int | None]) -> int | None:
    known = [lag for lag in lags if lag is not None]
    return sum(known) if known else None


def _span(worker: Worker) -> float:
    """The wall seconds between the oldest and the newest report that are kept."""
    return (worker[0].at - worker[-1].at).total_seconds()


def _rate(worker: Worker) -> float | None:
    span, last = _span(worker), worker[0].report
    if not (last.tallies or last.partitions):  # of a flow that takes none
        return None
    newest, oldest = (sum(each.count for each in reported.report.tallies if each.what == READINGS) for reported in (worker[0], worker[-1]))
    return (newest - oldest) / span if span > 0 else None


def _stage(stage: StageTime, worker: Worker) -> StageView:
    span = _span(worker)
    before = next((each.seconds for each in worker[-1].report.stages if each.stage == stage.stage), 0.0)
    return StageView(**stage.model_dump(), share=(stage.seconds - before) / span if span > 0 else None)
