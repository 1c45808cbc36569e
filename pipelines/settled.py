"""A view whose value changes only once it has been the same for a while: for workers that have to agree on it.

A configuration comes item by item, so between two values that somebody meant there are many that nobody did, and each
process sees other ones of them. Those are passed over.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from pipelines.views import View
from schemas.clock import wall_seconds

T = TypeVar("T")

SETTLE_S = 1.0


class SettledView(Generic[T]):
    """The last value of `view` that stayed for `settle_s` (wall), looked at whenever it is asked for; at first the first one."""

    def __init__(self, view: View[T], settle_s: float = SETTLE_S, now: Callable[[], float] = wall_seconds) -> None:
        self._view, self._settle_s, self._now = view, settle_s, now
        self._value: tuple[T] | None = None
        self._next: tuple[T, float] | None = None

    def current(self) -> T:
        """The settled value; what the view raises."""
        newest = self._view.current()
        if self._value is None:
            self._value = (newest,)
        if newest is self._value[0]:
            self._next = None
        elif self._next is None or self._next[0] is not newest:
            self._next = (newest, self._now() + self._settle_s)
        elif self._now() >= self._next[1]:
            self._value, self._next = (newest,), None
        return self._value[0]
