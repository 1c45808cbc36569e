"""A dataflow's sink that writes only under a lease (semantics 8.1)."""

import logging
import threading
import time
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from schemas.clock import wall_seconds
from sinks.errors import Unavailable
from sinks.lease import Lease

log = logging.getLogger(__name__)

LAST_TRY_S = 3.0
"""So long after the process was asked to stop a lease in doubt may still be renewed: longer than two renewals are apart."""
SAY_EVERY_S = 30.0
_LOOK_EVERY_S = 0.05
_AGAIN_S = 0.5


class LeasedSink(DynamicSink[Any]):
    """`sink`, but each batch waits until `lease` is known to be good, and is written again where the broker did not take it.

    So `sink` may give up soon, before another can have the lease: what it has given up does not arrive later. A broker that is away
    is waited for, for ever and aloud, as sources do it. Ends the flow with Unavailable, before the batch counts as written, when
    the lease is lost, or when the process is asked to stop (`stop`) and the batch cannot be written at once.
    """

    def __init__(self, sink: DynamicSink[Any], lease: Lease, stop: threading.Event) -> None:
        self._sink, self._lease, self._stop = sink, lease, stop

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        """The sink's own part for the worker, under the lease."""
        return _Leased(self._sink.build(step_id, worker_index, worker_count), self._lease, self._stop)


class _Leased(StatelessSinkPartition[Any]):
    def __init__(self, part: StatelessSinkPartition[Any], lease: Lease, stop: threading.Event) -> None:
        self._part, self._lease, self._stop = part, lease, stop
        self._last_try: float | None = None
        self._said: float | None = None

    def write_batch(self, items: list[Any]) -> None:
        """Write a batch; blocks while the lease is doubtful or the broker away, but once `stop` is set only a little over
        `LAST_TRY_S` and one attempt of the sink's."""
        while True:
            self._until_held()
            try:
                self._part.write_batch(items)
            except Unavailable as problem:
                if self._stop.is_set():
                    raise
                self._say(problem.words)
                self._stop.wait(_AGAIN_S)
            else:
                break
        if self._said is not None:
            log.warning("the broker is back, writing goes on")
            self._said = None

    def _until_held(self) -> None:
        began = wall_seconds()
        while not self._lease.held():
            if self._lease.lost():
                raise Unavailable("nothing is written: another process has the lease, or this one may not have it any more")
            if self._too_late():
                raise Unavailable("not written before the stop: the broker is away, and the lease was not renewed")
            if wall_seconds() - began >= SAY_EVERY_S / 10:
                self._say("the broker is away, or out of reach: the lease is not renewed")
            time.sleep(_LOOK_EVERY_S)

    def _too_late(self) -> bool:
        if not self._stop.is_set():
            return False
        if self._last_try is None:
            self._last_try = wall_seconds() + LAST_TRY_S
        return wall_seconds() >= self._last_try

    def _say(self, words: str) -> None:
        now = wall_seconds()
        if self._said is None or now - self._said >= SAY_EVERY_S:
            self._said = now
            log.warning("nothing is written until this ends: %s", words)

    def close(self) -> None:
        """As the sink's."""
        self._part.close()
