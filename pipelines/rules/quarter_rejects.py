"""Bad readings: which they are, and one dead letter for each run of a reason and asset in a minute (semantics 1.7, 1.8)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Out, Tick
from pipelines.rules.quarter_readings import POWER, Flags, Floats, Ints
from pipelines.rules.quarter_roster import Rosters
from schemas.facts import derived_id
from schemas.outbound import DeadLetter
from schemas.topics import DEAD_LETTERS, TELEMETRY

REASONS = (
    "",
    "BAD quality",
    "unknown asset",
    "non-finite value",
    "power above the asset's max_w",
    "instant in the future",
    "instant before 1970",
    "no value",
)
"""Why a reading does not count; the first means that it does. BAD ones are counted only, the others are dead letters."""
GOOD, BAD, UNKNOWN, NON_FINITE, ABOVE, FUTURE, ANCIENT, EMPTY = range(len(REASONS))

SUBJECT = 200
"""So much of an asset's id is told: a letter with all of an endless one would be larger than its topic takes."""
ABSURD = 1e100
"""Of larger values no sums can be made: they are as good as not finite."""
MINUTE_MS = 60_000
NO_MINUTE = 0
"""Instead of a minute of the clock, which would be another after a restart: a run ends with a minute anyway."""
_PENDING = 10_000
"""More runs than this are not kept open."""


def verdicts(
    at: Ints, present: NDArray[np.uint8], values: Mapping[int, Floats], known: Flags, max_w: Floats, bad: Flags, latest: int
) -> NDArray[np.int8]:
    """For each reading an index into `REASONS`. `values` are by their bit of `present`; `max_w` is NaN where there is none.

    `latest` (ms) is the clock and what instants may be ahead of it. For readings from the history; `quarter_intake` says
    the same of those that arrive.
    """
    finite = np.ones(len(at), np.bool_)
    for bit, column in values.items():
        finite &= ((present & bit) == 0) | (np.abs(column) <= ABSURD)  # false for what is not a number
    above = ((present & POWER) != 0) & (np.abs(values[POWER]) > max_w)
    reasons = np.zeros(len(at), np.int8)
    for reason, applies in ((EMPTY, present == 0), (ANCIENT, at < 0), (FUTURE, at > latest), (ABOVE, above),
                            (NON_FINITE, ~finite), (UNKNOWN, ~known), (BAD, bad)):  # fmt: skip
        reasons[applies] = reason
    return reasons


@dataclass(frozen=True, slots=True)
class Reject:
    """Bad readings of one asset, reason and minute in a poll, with the place and bytes of the first.

    Or messages of one partition that are no readings, for one reason: they have no subject, and `NO_MINUTE` of their own.
    """

    subject: str
    reason: str
    minute: int
    count: int
    partition: int
    offset: int
    raw: bytes


class _Run(TypedDict):
    first: Reject
    count: int
    begun: datetime
    last: datetime


class RejectState(TypedDict):
    """The runs still open, by (asset or partition, reason), and when the first of them is to be looked at."""

    runs: dict[tuple[str, str], _Run]
    due: datetime | None


class RejectRule:
    """Collapses rejects into dead letters. A run ends with its minute, or when nothing was added for `idle_after`."""

    def __init__(self, rosters: Rosters) -> None:
        self._rosters = rosters

    def start(self, key: str) -> RejectState:
        """No run is open."""
        return {"runs": {}, "due": None}

    def step(self, state: RejectState, item: tuple[Reject, ...] | Tick, now: datetime) -> Iterable[Out]:
        """Take in a poll's rejects, or the news that time has passed; says which letters are complete."""
        letters: list[Out] = []
        for reject in () if isinstance(item, Tick) else item:
            letters += self._add(state["runs"], reject, now)
        if len(state["runs"]) > _PENDING:
            letters += [self._letter(run, now) for run in state["runs"].values()]
            state["runs"].clear()
        if state["due"] is None or state["due"] <= now:
            quiet = timedelta(milliseconds=self._rosters.current().timing.idle_after)
            letters += self._ended(state["runs"], now, quiet)
            state["due"] = min((self._end(run, quiet) for run in state["runs"].values()), default=None)
        return letters

    def due(self, state: RejectState) -> datetime | None:
        """When a run may have ended."""
        return state["due"]

    def _add(self, runs: dict[tuple[str, str], _Run], reject: Reject, now: datetime) -> Iterator[Out]:
        key = (reject.subject or f"partition {reject.partition}", reject.reason)
        run = runs.get(key)
        if run is not None and run["first"].minute == reject.minute:
            run["count"], run["last"] = run["count"] + reject.count, now
            return
        runs[key] = {"first": reject, "count": reject.count, "begun": now, "last": now}
        if run is not None:
            yield self._letter(run, now)

    def _ended(self, runs: dict[tuple[str, str], _Run], now: datetime, quiet: timedelta) -> Iterator[Out]:
        for key in [key for key, run in runs.items() if self._end(run, quiet) <= now]:
            yield self._letter(runs.pop(key), now)

    @staticmethod
    def _end(run: _Run, quiet: timedelta) -> datetime:
        return min(run["begun"] + timedelta(minutes=1), run["last"] + quiet)

    @staticmethod
    def _letter(run: _Run, now: datetime) -> Out:
        first = run["first"]
        letter = DeadLetter(
            event_id=derived_id("dead-letter", TELEMETRY.name, first.partition, first.offset, first.subject, first.reason, first.minute),
            at=now,
            reason=first.reason,
            count=run["count"],
            subject=first.subject[:SUBJECT],
            topic=TELEMETRY.name,
            partition=first.partition,
            offset=first.offset,
            raw=first.raw,
        )
        return Out(DEAD_LETTERS, TELEMETRY.name, letter)


def collapsed(asset: NDArray[Any], reason: NDArray[np.int8], at: Ints) -> Iterator[tuple[int, int]]:
    """Of bad readings, the first index and the count of each (asset, reason, minute), in order of their first."""
    if not len(asset):
        return
    kinds = np.stack((asset.astype(np.int64), reason.astype(np.int64), at // MINUTE_MS), axis=1)
    _, first, count = np.unique(kinds, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    yield from zip(first[order].tolist(), count[order].tolist(), strict=True)
