"""A view whose value changes only once it has been the same for a while, or has not been for long.

A configuration comes item by item, so between two values that somebody meant there are many that nobody did, and each
process sees other ones of them. Those are passed over; but not for ever, where somebody goes on changing it.
"""

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from pipelines.views import View
from schemas.clock import wall_seconds

T = TypeVar("T")

SETTLE_S = 1.0
MOST_S = 5.0


def _unheard(_value: object) -> None:
    """Nobody is told."""


class SettledView(Generic[T]):
    """The last value of `view` that stayed for `settle_s` (wall), looked at whenever it is asked for; at first the first one.

    Where none stays that long, the newest is taken `most_s` after the first one that was not. `told` hears of each value taken.
    """

    def __init__(
        self,
        view: View[T],
        settle_s: float = SETTLE_S,
        now: Callable[[], float] = wall_seconds,
        most_s: float = MOST_S,
        told: Callable[[T], None] = _unheard,
    ) -> None:
        self._view, self._settle_s, self._most_s, self._now, self._told = view, settle_s, most_s, now, told
        self._value: tuple[T] | None = None
        self._next: tuple[T, float] | None = None
        self._latest_at = math.inf

    def current(self) -> T:
        """The settled value; what the view raises."""
        newest, now = self._view.current(), self._now()
        if self._value is None:
            return self._taken(newest)
        if newest is self._value[0]:
            self._next, self._latest_at = None, math.inf
        elif now >= self._latest_at:
            return self._taken(newest)
        elif self._next is None or self._next[0] is not newest:
            self._next, self._latest_at = (newest, now + self._settle_s), min(self._latest_at, now + self._most_s)
        elif now >= self._next[1]:
            return self._taken(newest)
        return self._value[0]

    def _taken(self, value: T) -> T:
        self._value, self._next, self._latest_at = (value,), None, math.inf
        self._told(value)
        return value
