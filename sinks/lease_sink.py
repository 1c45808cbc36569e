"""A dataflow's sink that writes only under a lease (semantics 8.1)."""

import time
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from schemas.clock import wall_seconds
from sinks.errors import Unavailable
from sinks.lease import Lease

WAIT_S = 30.0
"""So long the broker may be away, as for the writing itself."""
_LOOK_EVERY_S = 0.05


class LeasedSink(DynamicSink[Any]):
    """`sink`, but each batch waits until `lease` is known to be good, and is written again where the broker did not take it.

    So `sink` may give up soon, before another can have the lease: what it has given up does not arrive later. Ends the flow
    with Unavailable, before the batch counts as written, when the lease is lost or that takes longer than `wait_s`.
    """

    def __init__(self, sink: DynamicSink[Any], lease: Lease, *, wait_s: float = WAIT_S) -> None:
        self._sink, self._lease, self._wait_s = sink, lease, wait_s

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        """The sink's own part for the worker, under the lease."""
        return _Leased(self._sink.build(step_id, worker_index, worker_count), self._lease, self._wait_s)


class _Leased(StatelessSinkPartition[Any]):
    def __init__(self, part: StatelessSinkPartition[Any], lease: Lease, wait_s: float) -> None:
        self._part, self._lease, self._wait_s = part, lease, wait_s

    def write_batch(self, items: list[Any]) -> None:
        """Write a batch; blocks while the lease is doubtful or the broker away, at most a little over the time-out."""
        until = wall_seconds() + self._wait_s
        while True:
            while not self._lease.held():
                if self._lease.lost() or wall_seconds() >= until:
                    raise Unavailable("nothing is written: another process has the lease, or may have it")
                time.sleep(_LOOK_EVERY_S)
            try:
                return self._part.write_batch(items)
            except Unavailable:
                if wall_seconds() >= until:
                    raise

    def close(self) -> None:
        """As the sink's."""
        self._part.close()
