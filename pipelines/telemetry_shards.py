"""The shards of the telemetry flow in the engine: state and rules behind one key each, rows and news out (engine.md 1, 4)."""

import pickle
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import bytewax.operators as op
import numpy as np

from pipelines.beside import Beside, Due
from pipelines.earlier_rows import EarlierRows
from pipelines.meters import Meters
from pipelines.quarter_rows import AssetRows, group_outs
from pipelines.records import Out, Outs
from pipelines.rules.group_news import GroupNews
from pipelines.rules.group_shard import GroupShard
from pipelines.rules.group_snapshot import dump as dump_groups
from pipelines.rules.group_snapshot import load as load_groups
from pipelines.rules.group_words import Behind
from pipelines.rules.quarter_closing import take_step
from pipelines.rules.quarter_earlier import Earlier, overtake, overtake_groups
from pipelines.rules.quarter_news import Teller, Told
from pipelines.rules.quarter_out import late_readings, oddities, strays
from pipelines.rules.quarter_parts import Edition, Part, joined_parts
from pipelines.rules.quarter_roster import Roster, Rosters
from pipelines.rules.quarter_snapshot import dump, load
from pipelines.rules.quarter_state import Shard, Step
from pipelines.segments import Segments
from pipelines.telemetry_counts import counting
from schemas.clock import Clock, wall_seconds
from schemas.telemetry import Level
from schemas.topics import TELEMETRY
from schemas.units import from_ms
from sinks.errors import Misconfigured, Unavailable

EDITION_WITHIN_S = 10.0
"""So long (wall) a worker may be behind another one in what it knows of the configuration."""
INLINE_BYTES = 1 << 20
"""A larger state goes into a file of its own: the engine's store takes three times as long for it, in which the flow stands still."""
_GROUPS = 1000
"""Group shards' files are numbered from here on."""


Parts = tuple[Part, ...]
"""A shard's parts of polls that can be taken for one (`quarter_state.joined_parts`)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a telemetry shard's step leads to: messages, and news by group shard."""

    outs: list[Out | Outs]
    news: list[tuple[int, GroupNews]]


class ShardLogic(op.StatefulLogic[Parts, Due[Found], bytes]):
    """A telemetry shard: its parts of polls in, those that came together as one; what follows out, nothing at the end of input."""

    def __init__(
        self,
        resume: bytes | None,
        rosters: Rosters,
        closed: Path | None,
        meters: Meters,
        written: EarlierRows | None = None,
        beside: Beside | None = None,
    ) -> None:
        self._files = None if closed is None else Segments(closed, lambda size: meters.passed("snapshot", size))
        self._shard, told, since = Shard(), Told(), None
        if resume is not None:
            self._shard, told, since = self._loaded(resume)
        self._before = _Before(Level.ASSET, written, since)
        self._rosters, self._meters, self._count = rosters, meters, counting(meters)
        self._beside = beside or Beside()
        self._due: Due[Found] | None = None
        meters.follow(TELEMETRY.name, self._watermarks)
        self._teller, self._rows = Teller(told), AssetRows()

    def on_item(self, value: Parts) -> tuple[Iterable[Due[Found]], bool]:
        """Take parts in, after the ones before them, perhaps in another thread; waits for the ones before.

        Raises `Unavailable` where this worker does not learn of the configuration they were made by.
        """
        roster, ids = self._by(value[0].edition)
        earlier = self._before.of(value[0].shard, value[0].shards)
        self._wait()
        self._due = self._beside.do(lambda: self._taken(value, roster, ids, earlier))
        return [self._due], op.StatefulLogic.RETAIN

    def _wait(self) -> None:
        """Raises what the work under way raises."""
        if self._due is not None:
            self._due.result()

    def _taken(self, parts: Parts, roster: Roster, ids: list[str], earlier: Earlier | None) -> Found:
        with self._meters.timed("aggregate"):
            part = joined_parts(parts)
            step = take_step(self._shard, part, roster, ids)
            if earlier is not None:
                overtake(self._shard, step, earlier)
            found = Found(self._outs(part, roster, step), self._teller.tell(self._shard, part, roster, step))
            self._tell(step)
            return found

    def _outs(self, part: Part, roster: Roster, step: Step) -> list[Out | Outs]:
        keys, now = self._shard.keys, from_ms(part.now)
        written = [*zip(step.rows, step.revisions, strict=True), *((rows, np.zeros(len(rows), np.int32)) for rows in step.running)]
        return [
            *(self._rows.outs(keys, rows, revisions, roster, part.now) for rows, revisions in written),
            *late_readings(keys, step, now),
            *oddities(keys, step, roster, now),
            *strays(step.strays, roster, now),
        ]

    def _tell(self, step: Step) -> None:
        told = {
            "rows": sum(map(len, step.rows)),
            "revisions": sum(int(np.count_nonzero(some > 1)) for some in step.revisions),
            "late": sum(len(some) for some, _, _ in step.late),
            "conflicts": sum(len(keys) for keys, _ in step.conflicts),
            "strays": len(step.strays),
            "repeated": step.repeated,
        }
        for what, number in told.items():
            if number:
                self._count(what, number)

    def _watermarks(self) -> dict[int, int]:
        return dict(enumerate(self._shard.watermark.tolist()))

    def _by(self, edition: Edition) -> tuple[Roster, list[str]]:
        """The roster to take parts of that edition by, and the ids their rows are of; another worker may have read the configuration
        a moment earlier."""
        deadline = wall_seconds() + EDITION_WITHIN_S
        while (roster := self._rosters.reached(edition)) is None or (ids := self._rosters.ids(edition)) is None:
            if wall_seconds() > deadline:
                raise Unavailable(f"this worker has not seen the configuration another one works by within {EDITION_WITHIN_S:g} s", 1.0)
            time.sleep(0.01)
        return roster, ids

    def snapshot(self) -> bytes:
        """The state by value, or the name of the file that has it; blocks while it and closed quarters are stored."""
        self._wait()
        state = dump(self._shard, None if self._files is None else self._files.put)
        kept = _kept(self._files, self._shard.number, state, self._shard.segments.values())
        return pickle.dumps(kept | {"told": vars(self._teller.told), "saved_at": datetime.now(UTC)}, protocol=5)

    def _loaded(self, resume: bytes) -> tuple[Shard, Told, datetime | None]:
        """The state of a snapshot; an earlier version's had nothing around the shard's own, which says that it is one."""
        kept, get = pickle.loads(resume), None if self._files is None else self._files.get  # noqa: S301 - our own recovery store
        try:
            return load(_state(self._files, kept) or resume, get), Told(**kept.get("told", {})), kept.get("saved_at")
        except ValueError as error:
            raise _refused(error) from error


class GroupLogic(op.StatefulBatchLogic[tuple[int, GroupNews], Out | Outs, bytes]):
    """A group shard: news of telemetry shards in, each with this shard's number; rows of groups out, and what people should know.

    News that come together, as those of one poll do, are one step: a group whose members live in several shards is summed once.
    """

    def __init__(
        self,
        resume: bytes | None,
        rosters: Rosters,
        clock: Clock,
        meters: Meters,
        closed: Path | None = None,
        written: EarlierRows | None = None,
    ) -> None:
        self._rosters, self._clock, self._count = rosters, clock, counting(meters)
        self._files = None if closed is None else Segments(closed, lambda size: meters.passed("snapshot", size))
        kept = {} if resume is None else pickle.loads(resume)  # noqa: S301 - our own recovery store
        self._before, self._behind = _Before(Level.GROUP, written, kept.get("saved_at")), Behind()
        try:
            self._shard = None if resume is None else load_groups(_state(self._files, kept) or resume)
        except ValueError as error:
            raise _refused(error) from error

    def on_batch(self, values: list[tuple[int, GroupNews]]) -> tuple[Iterable[Out | Outs], bool]:
        """Take news in, by the configuration this worker knows now."""
        number, news = values[0][0], [one for _, one in values]
        self._shard = self._shard or GroupShard(number)  # the engine does not tell a logic its key
        now, outs = self._clock.now(), list[Out | Outs]()
        found = self._shard.step(news, self._rosters.current())
        if (earlier := self._before.of(number, news[0].shards)) is not None:
            overtake_groups(self._shard, found, earlier)
        for some in found:
            outs.append(group_outs(some, now))
            if some.revisions[0]:
                self._count("group_rows", len(some.groups))
        if self._shard.passed:
            self._count("behind_groups", sum(self._shard.passed.values()))
            outs += self._behind.told(self._shard.passed, now)
        return outs, op.StatefulLogic.RETAIN

    def snapshot(self) -> bytes:
        """The state by value, or the name of the file that has it; blocks while that is stored."""
        if self._shard is None:
            raise RuntimeError("a group shard that never heard anything has no state")
        kept = _kept(self._files, _GROUPS + self._shard.number, dump_groups(self._shard))
        return pickle.dumps(kept | {"saved_at": datetime.now(UTC)}, protocol=5)


class _Before:
    """What an earlier life wrote since a shard's snapshot (semantics 1.11), read when the shard has its first item: before it writes."""

    def __init__(self, level: Level, written: EarlierRows | None, since: datetime | None) -> None:
        self._level, self._written = level, written
        self._earlier: Earlier | None = None
        if written is not None and since is not None:
            written.restored(since)

    def of(self, number: int, shards: int) -> Earlier | None:
        """The rows of this shard; None where nothing was written earlier, or nobody knows."""
        if self._earlier is None and self._written is not None:
            found = self._written.of(self._level)
            self._earlier = found.of_shard(number, shards) if self._level is Level.ASSET else found.copy()
        return self._earlier if self._earlier is not None and self._earlier.places else None


def _kept(files: Segments | None, number: int, state: bytes, named: Iterable[str] = ()) -> dict[str, Any]:
    """A shard's state for the engine's store: itself, or where there is a place for files the name of one, if it is large.
    `named` are the shard's other files in use."""
    if files is None:
        return {"shard": state}
    if len(state) < INLINE_BYTES:
        files.name(number, named)
        return {"shard": state}
    name = f"{number}-{uuid4().hex}"
    files.put(name, state)
    files.name(number, {*named, name})
    return {"file": name}


def _state(files: Segments | None, kept: dict[str, Any]) -> bytes | None:
    """The state of `_kept`; None where it is none of its."""
    if "file" in kept:
        if files is None:
            raise ValueError("the snapshot names a file beside the recovery store, and no place for files was given")
        return files.get(kept["file"])
    return kept.get("shard")


def _refused(error: ValueError) -> Misconfigured:
    """State that this program cannot read ends the process for good: a person has to move it away."""
    return Misconfigured("the recovery store", str(error))
