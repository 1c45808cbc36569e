"""Names looked up beside the event loop, so that a resolver that hangs for one host holds up no other (semantics 8.2).

The loop's own lookups share a few threads, and one that was given up keeps its thread until the resolver gives up too: one
partner whose name server does not answer would keep every other partner from being reached. Here a host is looked up at
most once at a time, whoever and however many ask, each lookup in a thread of its own.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from schemas.clock import wall_seconds
from sinks.errors import Unavailable

KEPT_S = 5.0
"""An answer is used again for so long; whoever connects judges it again each time."""
MOST_AT_ONCE = 256
"""Lookups under way; only names that nobody answers for get this far."""

Found = list[tuple[Any, ...]]
Ask = Callable[[str, int], Found]


def _system(host: str, port: int) -> Found:
    return [tuple(entry) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(eq=False, slots=True)
class _Lookup:
    """One question on its way, and the loops and futures that wait for its answer."""

    waiting: list[tuple[asyncio.AbstractEventLoop, "asyncio.Future[Found]"]] = field(default_factory=list)


class Lookups:
    """Shared by all event loops of a process. `ask` may block for as long as it likes, and raises OSError or UnicodeError."""

    def __init__(self, ask: Ask = _system, kept_s: float = KEPT_S) -> None:
        self._ask, self._kept_s = ask, kept_s
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], _Lookup] = {}
        self._known: dict[tuple[str, int], tuple[float, Found]] = {}

    async def find(self, host: str, port: int) -> Found:
        """What the resolver says of a host, as `socket.getaddrinfo`; the caller sets the time-out.

        Raises what the resolver raised, or Unavailable while too many names wait for an answer.
        """
        loop, key = asyncio.get_running_loop(), (host, port)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known[0] > wall_seconds():
                return known[1]
            lookup = self._under_way.get(key)
            if lookup is None:
                if len(self._under_way) >= MOST_AT_ONCE:
                    raise Unavailable(f"too many names wait for an answer to ask for {host}", KEPT_S)
                lookup = self._under_way[key] = _Lookup()
                threading.Thread(target=self._run, args=(key, lookup), name=f"lookup-{host}"[:60], daemon=True).start()
            answer: asyncio.Future[Found] = loop.create_future()
            lookup.waiting.append((loop, answer))
        return await answer

    def _run(self, key: tuple[str, int], lookup: _Lookup) -> None:
        found: Found | None = None
        trouble: Exception | None = None
        try:
            found = self._ask(*key)
        except (OSError, UnicodeError) as problem:
            trouble = problem
        with self._lock:
            del self._under_way[key]
            now = wall_seconds()
            self._known = {other: kept for other, kept in self._known.items() if kept[0] > now}
            if found is not None:
                self._known[key] = (now + self._kept_s, found)
            waiting = lookup.waiting
        for loop, answer in waiting:
            try:
                loop.call_soon_threadsafe(_settle, answer, found, trouble)
            except RuntimeError:
                continue  # that loop has ended, and who waited with it


def _settle(answer: "asyncio.Future[Found]", found: Found | None, trouble: Exception | None) -> None:
    if answer.done():
        return
    if found is not None:
        answer.set_result(found)
    else:
        answer.set_exception(trouble or OSError("no answer"))


LOOKUPS = Lookups()
"""The process's own."""
