"""Parts of a dataflow that are timed: any function, stateful logic or sink, as stages of the flow's meters."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

import bytewax.operators as op
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from pipelines.meters import Meters

X = TypeVar("X")
Y = TypeVar("Y")


class MeteredLogic(op.StatefulLogic[X, Y, bytes]):
    """A logic whose snapshots are runs of the stage `snapshot`, with their size; its work it times itself."""

    def __init__(self, logic: op.StatefulLogic[X, Y, bytes], meters: Meters) -> None:
        self._logic, self._meters = logic, meters

    def on_item(self, value: X) -> tuple[Iterable[Y], bool]:
        """The logic's."""
        return self._logic.on_item(value)

    def on_notify(self) -> tuple[Iterable[Y], bool]:
        """The logic's."""
        return self._logic.on_notify()

    def on_eof(self) -> tuple[Iterable[Y], bool]:
        """The logic's."""
        return self._logic.on_eof()

    def notify_at(self) -> datetime | None:
        """The logic's."""
        return self._logic.notify_at()

    def snapshot(self) -> bytes:
        """The logic's, timed and measured."""
        return _measured(self._logic.snapshot, self._meters)


class MeteredBatchLogic(op.StatefulBatchLogic[X, Y, bytes]):
    """The same for a logic that takes what comes together at once: each time is a run of `stage`."""

    def __init__(self, logic: op.StatefulBatchLogic[X, Y, bytes], meters: Meters, stage: str) -> None:
        self._logic, self._meters, self._stage = logic, meters, stage

    def on_batch(self, values: list[X]) -> tuple[Iterable[Y], bool]:
        """The logic's, timed."""
        with self._meters.timed(self._stage):
            return self._logic.on_batch(values)

    def on_notify(self) -> tuple[Iterable[Y], bool]:
        """The logic's."""
        return self._logic.on_notify()

    def on_eof(self) -> tuple[Iterable[Y], bool]:
        """The logic's."""
        return self._logic.on_eof()

    def notify_at(self) -> datetime | None:
        """The logic's."""
        return self._logic.notify_at()

    def snapshot(self) -> bytes:
        """The logic's, timed and measured."""
        return _measured(self._logic.snapshot, self._meters)


def _measured(snapshot: Callable[[], bytes], meters: Meters) -> bytes:
    with meters.timed("snapshot") as timing:
        state = snapshot()
        timing.size = len(state)
    return state


class _Writing(StatelessSinkPartition[X]):
    def __init__(self, partition: StatelessSinkPartition[X], meters: Meters) -> None:
        self._partition, self._meters = partition, meters

    def write_batch(self, items: list[X]) -> None:
        with self._meters.timed("write"):
            self._partition.write_batch(items)

    def close(self) -> None:
        self._partition.close()


class MeteredSink(DynamicSink[X]):
    """A sink whose batches are runs of the stage `write`: with our Kafka sink, until the broker has acknowledged them."""

    def __init__(self, sink: DynamicSink[X], meters: Meters) -> None:
        self._sink, self._meters = sink, meters

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[X]:
        """The sink's part for a worker, timed."""
        return _Writing(self._sink.build(step_id, worker_index, worker_count), self._meters)
