"""Whose request is worked on next: callers take turns, however many requests each of them has waiting.

Reading and checking a long forecast takes the event loop about a millisecond in which nothing else happens. Where requests
were simply worked on as they come, a partner with a hundred connections would have a hundred of these milliseconds before
another partner's only one.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

AT_ONCE = 4
"""So many requests of one caller are worked on at a time: enough to keep the loop busy while the broker answers, and few enough
that what follows the broker's answers, which come together, does not hold up others."""
PLACE_WITHIN_S = 5.0
"""Who waits longer for its caller's others is told to come again: then the broker does not answer."""


@dataclass(eq=False, slots=True)
class _Places:
    """Those of one caller, while it has requests."""

    free: asyncio.Semaphore
    users: int = 0


class Turns:
    """One piece of work in each round of the event loop, of another caller each time. For one event loop."""

    def __init__(self, at_once: int = AT_ONCE, within_s: float = PLACE_WITHIN_S) -> None:
        self._at_once, self._within_s = at_once, within_s
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._busy = False
        self._places: dict[str, _Places] = {}

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """One of the caller's few places, and then its turn. Raises TimeoutError where its other requests keep them for too long."""
        places = self._places.setdefault(caller, _Places(asyncio.Semaphore(self._at_once)))
        places.users += 1
        try:
            async with asyncio.timeout(self._within_s):
                await places.free.acquire()
            try:
                await self.take(caller)
                yield
            finally:
                places.free.release()
        finally:
            places.users -= 1
            if not places.users:
                del self._places[caller]

    async def take(self, caller: str) -> None:
        """Return when it is the caller's turn; what it does before it next awaits something is its turn."""
        loop = asyncio.get_running_loop()
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        await turn

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            caller, queue = next(iter(self._waiting.items()))
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
            if not turn.done():  # else who waited is gone
                turn.set_result(None)  # wakes it in the next round, before the call below
                loop.call_soon(self._next)
                return
        self._busy = False
