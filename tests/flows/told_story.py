"""A story for a flow: what is on its topics when, told by the test's own clock, which moves on between the records.

Timers of the flow fire when the clock has reached them, however fast the machine is: at every instant of the story the flow gets
some turns of the engine to itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource, Source, StatefulSourcePartition
from bytewax.outputs import DynamicSink, Sink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main

from pipelines.records import Out, Record
from schemas.clock import FrozenClock

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
TURNS = 3
"""Of the engine, in which the flow looks at its timers after the clock has moved."""


@dataclass(slots=True)
class StoryClock(FrozenClock):
    """Stands still until told to move; the engine looks at every timer at every turn, and this clock says whether its time has come."""

    def wall_at(self, instant: datetime) -> datetime:
        return LONG_AGO


@dataclass(frozen=True, slots=True)
class Moment:
    """The clock reads `at`, and these records come in one poll (none: time only passes)."""

    at: datetime
    records: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What the flow wrote, and what the clock read then."""

    at: datetime
    out: Out


class Killed(Exception):
    """The process is gone."""


@dataclass
class Life:
    """One life of a flow: it is fed from moment `first` on (where its store says nothing else), and killed before it is given moment
    number `killed_before`, or behind what it has written as number `killed_behind` (from 1 on)."""

    moments: Sequence[Moment]
    clock: StoryClock
    written: list[Written]
    first: int = 0
    killed_before: int | None = None
    killed_behind: int | None = None


class _Part(StatefulSourcePartition[Iterable[Record], int]):
    def __init__(self, life: Life, first: int) -> None:
        self._life, self._next, self._turns = life, first, 0

    def next_batch(self) -> list[Iterable[Record]]:
        if self._turns:
            self._turns -= 1
            return []
        if self._next == self._life.killed_before:
            raise Killed
        if self._next >= len(self._life.moments):
            raise StopIteration
        moment = self._life.moments[self._next]
        self._next, self._turns = self._next + 1, TURNS
        self._life.clock.set(max(moment.at, self._life.clock.now()))
        return [list(moment.records)] if moment.records else []

    def snapshot(self) -> int:
        return self._next


class _Source(FixedPartitionedSource[Iterable[Record], int]):
    def __init__(self, life: Life) -> None:
        self._life = life

    def list_parts(self) -> list[str]:
        return ["lane-000"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Part:
        return _Part(self._life, self._life.first if resume_state is None else resume_state)


class _Sink(DynamicSink[Out]):
    def __init__(self, life: Life) -> None:
        self._life = life

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Writing":
        return _Writing(self._life)


class _Writing(StatelessSinkPartition[Out]):
    def __init__(self, life: Life) -> None:
        self._life, self._count = life, 0

    def write_batch(self, items: list[Out]) -> None:
        for item in items:
            self._life.written.append(Written(self._life.clock.now(), item))
            self._count += 1
            if self._count == self._life.killed_behind:
                raise Killed


Flow = Callable[[Source[Iterable[Record]], Sink[Out], StoryClock], Dataflow]
"""Makes the flow from its source, its sink and its clock."""


def live(flow: Flow, life: Life, *, store: Path | None = None, **more: object) -> bool:
    """Run one life; whether it came to the end of the story. `more` goes to the engine."""
    recovery = {} if store is None else {"recovery_config": RecoveryConfig(str(store))}
    try:
        run_main(flow(_Source(life), _Sink(life), life.clock), **recovery, **more)
    except (Killed, BytewaxRuntimeError) as error:
        if not isinstance(error, Killed) and not isinstance(error.__cause__, Killed):
            raise
        return False
    return True


def told(flow: Flow, moments: Sequence[Moment]) -> list[Written]:
    """What a flow writes that lives through the whole story."""
    written: list[Written] = []
    assert live(flow, Life(moments, StoryClock(moments[0].at), written))
    return written
