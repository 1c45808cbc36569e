"""Polls taken in ahead: decoded, judged and dealt in a thread of their own, while the engine's is busy with what came before.

What becomes of a poll's readings depends on the poll and the configuration alone, so it does not matter when they are looked at; all
that has a memory comes later.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pipelines.records import Poll


class Ahead:
    """One thread for all lanes of a worker. For the engine's thread only."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "ahead")
        self._prepare: Callable[[Poll], Callable[[], Any]] | None = None

    def by(self, prepare: Callable[[Poll], Callable[[], Any]]) -> None:
        """`prepare` says, in the engine's thread, what is to be done about a poll in this one. Nothing is done before it is known."""
        self._prepare = prepare

    def begin(self, poll: Poll) -> Poll:
        """The poll, with what will become of it. Does not block."""
        return poll if self._prepare is None else replace(poll, taken=self._pool.submit(self._prepare(poll)))
