"""A dataflow's sink that writes only under a lease (semantics 8.1)."""

import time
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from sinks.errors import Unavailable
from sinks.lease import Lease

WAIT_S = 30.0
"""So long the broker may be away, as for the writing itself."""
_LOOK_EVERY_S = 0.05


class LeasedSink(DynamicSink[Any]):
    """`sink`, but each batch waits until `lease` is known to be good.

    Ends the flow with Unavailable, before the batch counts as written, when the lease is lost or stays doubtful for `wait_s`.
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
        """Write a batch; blocks while the lease is doubtful."""
        waited = 0.0
        while not self._lease.held():
            if self._lease.lost() or waited >= self._wait_s:
                raise Unavailable("nothing is written: another process has the lease, or may have it")
            time.sleep(_LOOK_EVERY_S)
            waited += _LOOK_EVERY_S
        self._part.write_batch(items)

    def close(self) -> None:
        """As the sink's."""
        self._part.close()
