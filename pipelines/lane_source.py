"""What the sources of the dataflows have in common: lanes as the engine's parts, their positions and snapshots (engine.md 2)."""

import threading
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from pipelines.lanes import REOPEN_S, Lane, Part
from sinks.errors import Misconfigured

X = TypeVar("X")
VERSION = 1
State = dict[str, Any]
"""A snapshot: {"version", "lanes", "next": {(topic, partition): offset of the next record}}. Plain, since it is pickled."""


class LanePart(StatefulSourcePartition[X, State], Generic[X]):
    """What both sources' lanes have in common: opening, sleeping, stopping, positions."""

    def __init__(self, lane: Lane, lanes: int, stop: threading.Event) -> None:
        self._lane, self._lanes, self._stop = lane, lanes, stop
        self._sleep_s = 0.0
        self._mirrored: dict[Part, int] = {}

    def next_batch(self) -> list[X]:
        """What one poll brought. Raises StopIteration once the source is to stop; blocks for a few ms at most."""
        if self._stop.is_set():
            raise StopIteration
        if not self._lane.opened:
            if not self._lane.open():
                self._sleep_s = REOPEN_S
                return []
            self._opened()
        return self._take()

    @abstractmethod
    def _opened(self) -> None:
        """The lane knows its partitions now."""

    @abstractmethod
    def _take(self) -> list[X]:
        """What to emit after one poll; sets `_sleep_s`."""

    def next_awake(self) -> datetime | None:
        """When to look again; None for at once."""
        return datetime.now(UTC) + timedelta(seconds=self._sleep_s) if self._sleep_s else None

    def snapshot(self) -> State:
        """The positions behind what has been emitted."""
        # What was snapshotted the last time has been committed by the engine by now, so this may be shown.
        self._lane.commit(self._mirrored)
        self._mirrored = dict(self._lane.done)
        return {"version": VERSION, "lanes": self._lanes, "next": dict(self._lane.done)}

    def close(self) -> None:
        """End the consumer."""
        self._lane.close()


class LaneSource(FixedPartitionedSource[X, State], Generic[X]):
    """A source whose parts are lanes."""

    def __init__(self, lanes: int) -> None:
        if lanes < 1:
            raise ValueError("a source has at least one lane")
        self._lanes = lanes

    def list_parts(self) -> list[str]:
        """The lanes; every worker sees all, and the engine deals them out in turn, in the order of their names: lane n to
        worker n modulo the number of workers. Their number is fixed with the recovery store."""
        return [f"lane-{index:03d}" for index in range(self._lanes)]

    def _resumed(self, resume_state: State | None) -> dict[Part, int] | None:
        if resume_state is None:
            return None
        for what, ours in (("version", VERSION), ("lanes", self._lanes)):
            if (theirs := resume_state.get(what)) != ours:
                problem = f"was made with {what} {theirs} of the source, this is {what} {ours}"
                raise Misconfigured("the recovery store", problem, "go back to that, or delete the flow's recovery directory")
        return dict(resume_state["next"])
