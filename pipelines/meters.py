"""What a worker counts and times while it works, and the report made of it. No I/O; `pipelines.flow_reporter` sends it.

Made for the way of data: an increment takes a few tenths of a microsecond, and is meant to be done a few times a poll, never
once a reading. One `Meters` a flow and process; all threads may use it.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self

from schemas.clock import Clock, SystemClock, wall_seconds
from schemas.facts import derived_id
from schemas.flows import FlowReport, PartitionStanding, QueueStanding, StageTime, Tally
from schemas.units import from_ms, whole_ms

LONGEST_OF_S = 60.0
"""The longest run of a stage is that of so long (wall), and of at most as long before it."""


class _Stage:
    """One stage's totals, and its longest run in the present and in the last window."""

    __slots__ = ("before", "longest", "runs", "seconds", "size", "until")

    def __init__(self) -> None:
        self.runs, self.seconds, self.size = 0, 0.0, 0
        self.longest, self.before, self.until = 0.0, 0.0, 0.0

    def turn(self, now: float) -> None:
        """Begin another window where the present one is over."""
        if now >= self.until:
            self.before = self.longest if now < self.until + LONGEST_OF_S else 0.0
            self.longest, self.until = 0.0, now + LONGEST_OF_S


class Timing:
    """A stage being timed; `size` may be raised by the bytes that pass."""

    __slots__ = ("_began", "_meters", "_stage", "size")

    def __init__(self, meters: "Meters", stage: str) -> None:
        self._meters, self._stage, self._began, self.size = meters, stage, 0.0, 0

    def __enter__(self) -> Self:
        self._began = wall_seconds()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._meters.spent(self._stage, wall_seconds() - self._began, self.size)


class Meters:
    """Counts, times and standings of one worker of a flow since it was made, which is when the worker starts.

    `worker` names it among the flow's workers, and stays the same when it is started again. Reports are stated by `clock`;
    when the worker started is wall time.
    """

    def __init__(self, flow: str, worker: str = "0", *, clock: Clock, wall: Clock | None = None) -> None:
        self.flow, self.worker = flow, worker
        self._clock = clock
        self._started = (wall or SystemClock()).now()
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], int] = {}
        self._stages: defaultdict[str, _Stage] = defaultdict(_Stage)
        self._reading: dict[tuple[str, int], tuple[int, int | None]] = {}
        self._watermarks: list[tuple[str, Callable[[], Mapping[int, int]]]] = []
        self._queues: Callable[[], list[QueueStanding]] = list

    def count(self, what: str, number: int, outcome: str = "") -> None:
        """So many more of `what` came to `outcome`."""
        key = (what, outcome)
        with self._lock:
            self._tallies[key] = self._tallies.get(key, 0) + number

    def timed(self, stage: str) -> Timing:
        """`with meters.timed("decode"):` adds what it takes to the stage, whatever comes of it."""
        return Timing(self, stage)

    def spent(self, stage: str, seconds: float, size: int = 0) -> None:
        """One run of a stage took so long, and so many bytes passed in it."""
        now = wall_seconds()
        with self._lock:
            found = self._stages[stage]
            found.turn(now)
            found.runs += 1
            found.seconds += seconds
            found.size += size
            found.longest = max(found.longest, seconds)

    def passed(self, stage: str, size: int) -> None:
        """So many more bytes passed in a stage, beside those its runs know of."""
        with self._lock:
            self._stages[stage].size += size

    def reading(self, topic: str, standings: Mapping[int, tuple[int, int | None]]) -> None:
        """By partition: the offset of the next record, and how many records the broker has beyond it (None: not known)."""
        with self._lock:
            for partition, standing in standings.items():
                self._reading[topic, partition] = standing

    def follow(self, topic: str, watermarks: Callable[[], Mapping[int, int]]) -> None:
        """Ask one more part of the worker for each report: by partition, the event time (ms) that has passed there. The slowest
        part's counts. Asked in the reporter's thread, while the worker works."""
        with self._lock:
            self._watermarks.append((topic, watermarks))

    def follow_queues(self, queues: Callable[[], list[QueueStanding]]) -> None:
        """Ask for each report but the last how the partners' queues stand; `queues` raises Unavailable where that is not known."""
        self._queues = queues

    def report(self, *, ended: bool = False) -> FlowReport:
        """All of it as it is now; with `ended` as the worker's last word, in which no queue stands.

        Raises Unavailable where there are queues and it is not known how they stand: a report without them would say that
        nothing is owed.
        """
        queues = [] if ended else self._queues()
        at = whole_ms(self._clock.now())
        now = wall_seconds()
        with self._lock:
            tallies = [Tally(what=what, outcome=outcome, count=count) for (what, outcome), count in sorted(self._tallies.items())]
            stages = []
            for name, stage in sorted(self._stages.items()):
                stage.turn(now)
                longest = max(stage.longest, stage.before)
                stages.append(StageTime(stage=name, runs=stage.runs, seconds=stage.seconds, longest_s=longest, size_bytes=stage.size))
            reading = dict(self._reading)
            followed = list(self._watermarks)
        return FlowReport(
            event_id=derived_id("flow-report", self.flow, self.worker, self._started, at),
            at=at,
            flow=self.flow,
            worker=self.worker,
            started_at=self._started,
            ended=ended,
            tallies=tallies,
            stages=stages,
            partitions=_standings(reading, [(topic, watermarks()) for topic, watermarks in followed]),
            queues=queues,
        )


def _standings(
    reading: Mapping[tuple[str, int], tuple[int, int | None]], watermarks: list[tuple[str, Mapping[int, int]]]
) -> list[PartitionStanding]:
    slowest: dict[tuple[str, int], int] = {}
    for topic, instants in watermarks:
        for partition, instant in instants.items():
            slowest[topic, partition] = min(instant, slowest.get((topic, partition), instant))
    found = []
    for topic, partition in sorted({*reading, *slowest}):
        position, lag = reading.get((topic, partition), (None, None))
        passed = slowest.get((topic, partition))
        found.append(PartitionStanding(topic=topic, partition=partition, position=position, lag=lag, watermark=_instant(passed)))
    return found


def _instant(ms: int | None) -> datetime | None:
    """An instant of event time; 0 is "before everything"."""
    return from_ms(ms) if ms else None
