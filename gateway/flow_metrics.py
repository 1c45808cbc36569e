"""The metrics of dataflows, as their workers report them (`gateway.metrics` has the catalogue). Pure.

A worker's counts begin at 0 when it is started again, which is what Prometheus takes for a counter's reset.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from gateway.flow_status import PartitionView, partitions_of, standing_workers
from gateway.picture import Picture
from schemas.flows import FlowReport, StageTime

Samples = Iterable[tuple[tuple[str, ...], float]]


def _reports(picture: Picture) -> Iterator[FlowReport]:
    for workers in standing_workers(picture).values():
        yield from (worker[0].report for worker in workers)


def items(picture: Picture, _: datetime) -> Samples:
    """By flow, worker, what and outcome."""
    for report in _reports(picture):
        for each in report.tallies:
            yield (report.flow, report.worker, each.what, each.outcome), float(each.count)


def _stages(picture: Picture) -> Iterator[tuple[tuple[str, ...], StageTime]]:
    for report in _reports(picture):
        for each in report.stages:
            yield (report.flow, report.worker, each.stage), each


def stage_seconds(picture: Picture, _: datetime) -> Samples:
    """By flow, worker and stage."""
    return ((labels, each.seconds) for labels, each in _stages(picture))


def stage_runs(picture: Picture, _: datetime) -> Samples:
    """By flow, worker and stage."""
    return ((labels, float(each.runs)) for labels, each in _stages(picture))


def stage_bytes(picture: Picture, _: datetime) -> Samples:
    """By flow, worker and stage, where any passed."""
    return ((labels, float(each.size_bytes)) for labels, each in _stages(picture) if each.size_bytes)


def stage_longest(picture: Picture, _: datetime) -> Samples:
    """By flow, worker and stage."""
    return ((labels, each.longest_s) for labels, each in _stages(picture))


def _partitions(picture: Picture, now: datetime) -> Iterator[tuple[tuple[str, ...], PartitionView]]:
    for flow, workers in standing_workers(picture).items():
        for each in partitions_of(workers, now):
            yield (flow, each.worker or "", each.topic, str(each.partition)), each


def lag(picture: Picture, now: datetime) -> Samples:
    """By flow, worker, topic and partition."""
    return ((labels, float(each.lag)) for labels, each in _partitions(picture, now) if each.lag is not None)


def watermark_delay(picture: Picture, now: datetime) -> Samples:
    """By flow, worker, topic and partition. It goes on growing when the worker is gone: that is what an alert should see."""
    return ((labels, each.behind_s) for labels, each in _partitions(picture, now) if each.behind_s is not None)


def report_time(picture: Picture, _: datetime) -> Samples:
    """By flow and worker: Unix time (wall) of the last report."""
    for flow, workers in standing_workers(picture).items():
        yield from (((flow, worker[0].report.worker), worker[0].at.timestamp()) for worker in workers)


def start_time(picture: Picture, _: datetime) -> Samples:
    """By flow and worker: Unix time (wall) at which it was started."""
    return (((report.flow, report.worker), report.started_at.timestamp()) for report in _reports(picture))
