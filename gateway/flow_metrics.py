"""The metrics of dataflows, as their workers report them (`gateway.metrics` has the others). Pure.

A worker's counts begin at 0 when it is started again, which is what Prometheus takes for a counter's reset.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.flow_status import FlowView, StageView, WorkerState, WorkerView

Samples = Iterable[tuple[tuple[str, ...], float]]


def metric_of(name: str, words: str, labels: tuple[str, ...], samples: Samples, *, counter: bool) -> Metric:
    """A metric with its samples."""
    family = (CounterMetricFamily if counter else GaugeMetricFamily)(name, words, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


@dataclass(frozen=True, slots=True)
class FlowMetered:
    """One metric: its name, what it says, its labels, and how it is read from how the flows stand."""

    name: str
    words: str
    labels: tuple[str, ...]
    read: Callable[[Sequence[FlowView]], Samples]
    counter: bool = False

    def metric(self, flows: Sequence[FlowView]) -> Metric:
        """Its present samples."""
        return metric_of(self.name, self.words, self.labels, self.read(flows), counter=self.counter)


def _workers(flows: Sequence[FlowView]) -> Iterator[tuple[tuple[str, str], WorkerView]]:
    for flow in flows:
        yield from (((flow.flow, worker.worker), worker) for worker in flow.workers)


def _items(flows: Sequence[FlowView]) -> Samples:
    for labels, worker in _workers(flows):
        yield from (((*labels, each.what, each.outcome), float(each.count)) for each in worker.tallies)


def _stages(read: Callable[[StageView], float | None]) -> Callable[[Sequence[FlowView]], Samples]:
    def samples(flows: Sequence[FlowView]) -> Samples:
        for labels, worker in _workers(flows):
            found = ((stage.stage, read(stage)) for stage in worker.stages)
            yield from (((*labels, name), value) for name, value in found if value is not None)

    return samples


def _lag(flows: Sequence[FlowView]) -> Samples:
    for flow in flows:
        for each in flow.partitions:
            if each.lag is not None:
                yield (flow.flow, each.worker or "", each.topic, str(each.partition)), float(each.lag)


def _watermark_delay(flows: Sequence[FlowView]) -> Samples:
    """It goes on growing when the worker is gone: that is what an alert should see."""
    for flow in flows:
        for each in flow.partitions:
            if each.behind_s is not None:
                yield (flow.flow, each.worker or "", each.topic, str(each.partition)), each.behind_s


def _states(flows: Sequence[FlowView]) -> Samples:
    for labels, worker in _workers(flows):
        yield from (((*labels, state.value), float(worker.state is state)) for state in WorkerState)


_WORKER, _STAGE = ("flow", "worker"), ("flow", "worker", "stage")
_PARTITION = ("flow", "worker", "topic", "partition")
FLOW_CATALOGUE: tuple[FlowMetered, ...] = (
    FlowMetered("derms_flow_items", "What a worker counted since it was started", (*_WORKER, "what", "outcome"), _items, True),
    FlowMetered("derms_flow_stage_seconds", "Wall time spent in a stage", _STAGE, _stages(lambda each: each.seconds), True),
    FlowMetered("derms_flow_stage_runs", "Runs of a stage", _STAGE, _stages(lambda each: float(each.runs)), True),
    FlowMetered("derms_flow_stage_bytes", "Bytes that passed in a stage", _STAGE, _stages(lambda each: each.size_bytes or None), True),
    FlowMetered(
        "derms_flow_stage_longest_seconds", "Longest run of a stage in the last minute or two", _STAGE, _stages(lambda each: each.longest_s)
    ),
    FlowMetered("derms_flow_lag_messages", "Messages behind the broker's end", _PARTITION, _lag),
    FlowMetered(
        "derms_flow_watermark_delay_seconds", "How far a partition's event time is behind the clock", _PARTITION, _watermark_delay
    ),
    FlowMetered("derms_flow_worker_state", "1 for the state a worker is in, 0 for the others", (*_WORKER, "state"), _states),
    FlowMetered(
        "derms_flow_report_age_seconds", "Wall time since a worker's last report", _WORKER,
        lambda flows: ((labels, worker.report_age_s) for labels, worker in _workers(flows)),
    ),
    FlowMetered(
        "derms_flow_start_timestamp_seconds", "Unix time at which a worker was started", _WORKER,
        lambda flows: ((labels, worker.started_at.timestamp()) for labels, worker in _workers(flows)),
    ),
)  # fmt: skip
