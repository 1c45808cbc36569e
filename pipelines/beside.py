"""Work of several shards at once: threads beside the engine's, for steps that are mostly compiled loops, which run side by side.

The engine calls one logic after the other. A logic that hands its work on here gives the engine a `Due` in place of the
result; a later step asks for it, when all logics of the poll have handed on theirs. Nothing of it is in any snapshot: a
logic waits for its own work before it makes one.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

X = TypeVar("X")

Due: TypeAlias = Future[X]
"""A result that is there, or will be; `result()` waits for it and raises what the work raised."""

MOST = 4
"""More threads have more to wait for one another than to do."""


class Beside:
    """So many threads; with one, work is done at once by whoever hands it on, and nothing is waited for."""

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, "shards") if threads > 1 else None

    def do(self, work: Callable[[], X]) -> "Due[X]":
        """Have it done, in the order in which work is handed on as far as threads are free. Does not block but as said above."""
        if self._pool is not None:
            return self._pool.submit(work)
        done: Future[X] = Future()
        done.set_result(work())
        return done


def threads_for(processes: int, processors: int | None = None) -> int:
    """How many threads each of so many processes on this machine should have: all together no more than processors are
    theirs to use."""
    return max(1, min(MOST, (processors or len(os.sched_getaffinity(0))) // max(1, processes)))
