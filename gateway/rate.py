"""How often a caller may ask: token buckets in wall time, one a caller, in this process's memory (semantics 6.6)."""

import math
from collections import OrderedDict
from collections.abc import Callable

from schemas.clock import wall_seconds

MOST_CALLERS = 10_000
"""So many callers are remembered; the one silent longest is forgotten first, which only ever gives it more."""


class Buckets:
    """For each caller a bucket that holds `burst` requests and fills at `rate` a second. Not for threads."""

    def __init__(self, now_s: Callable[[], float] = wall_seconds) -> None:
        self._now_s = now_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, rate: float, burst: float) -> int | None:
        """Let one request through (None), or say in how many whole seconds the next one will be."""
        now = self._now_s()
        level, since = self._buckets.pop(caller, (burst, now))
        level = min(burst, level + max(now - since, 0.0) * rate)
        allowed = level >= 1.0
        self._buckets[caller] = (level - 1.0 if allowed else level, now)
        while len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return None if allowed else max(1, math.ceil((1.0 - level) / rate))
