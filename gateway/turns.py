"""Whose request is worked on next: callers take turns, however many requests each of them has waiting.

Reading and checking a long forecast takes the event loop about a millisecond in which nothing else happens. Where requests
were simply worked on as they come, a partner with a hundred connections would have a hundred of these milliseconds before
another partner's only one.
"""

import asyncio
from collections import OrderedDict, deque


class Turns:
    """One piece of work in each round of the event loop, of another caller each time. For one event loop."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._busy = False

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
