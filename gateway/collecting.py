"""Python's garbage collector kept away from what lasts: going through a large live picture, or the state of thousands of groups, stops
a process for up to half a second, every ten to twenty seconds while it grows (measured).

What has lasted for some seconds is set aside (`gc.freeze`) and no longer looked at; what is not referred to any more goes at once all
the same. Only cycles among what was set aside would stay: once an hour all is looked through.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.clock import wall_seconds

EVERY_S = 5.0
WHOLE_EVERY_S = 3600.0


class Collector:
    """What is done every few seconds. `seconds` is a wall reading."""

    def __init__(self, seconds: Callable[[], float] = wall_seconds) -> None:
        self._seconds, self._whole_at = seconds, seconds() + WHOLE_EVERY_S

    def turn(self) -> None:
        """Free the cycles that came up lately and set the rest aside; of all that is there, once an hour. Stops the process: for some
        milliseconds, then for as long as that takes."""
        if self._seconds() >= self._whole_at:
            self._whole_at = self._seconds() + WHOLE_EVERY_S
            gc.unfreeze()
            gc.collect()
        else:
            gc.collect(1)
        gc.freeze()


@contextmanager
def collecting() -> Iterator[None]:
    """Done in a thread of its own for as long as the context lasts."""
    over, collector = threading.Event(), Collector()

    def work() -> None:
        while not over.wait(EVERY_S):
            collector.turn()

    thread = threading.Thread(target=work, name="collecting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        gc.unfreeze()
