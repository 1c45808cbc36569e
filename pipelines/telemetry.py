"""Flow `telemetry`: readings become quarter hours of assets and groups (semantics 1 and 2).

An item is a whole poll; it is decoded into columns, judged, and dealt to a few fat shards whose state is arrays. No
Python object a reading anywhere (engine.md 1); objects begin where a quarter's row leaves the shard.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import run_rule
from pipelines.records import Out, Poll
from pipelines.rules.groups import GroupRule, MemberNews
from pipelines.rules.quarter_closing import take_step
from pipelines.rules.quarter_news import told
from pipelines.rules.quarter_out import late_readings, oddities, strays
from pipelines.rules.quarter_rejects import RejectRule
from pipelines.rules.quarter_roster import Roster, Rosters
from pipelines.rules.quarter_snapshot import dump, load
from pipelines.rules.quarter_state import Part, Shard
from pipelines.segments import Segments
from pipelines.spread import shard_key
from pipelines.telemetry_intake import Count, DeadLetterLimit, Intake, uncounted
from pipelines.views import View
from schemas.clock import Clock, wall_seconds
from schemas.config import Configuration
from schemas.telemetry import QuarterHour
from schemas.topics import QUARTER_HOURS, TELEMETRY
from schemas.units import from_ms
from sinks.errors import Unavailable

SHARDS = 4
"""State is kept under so many keys. The number is part of the recovery store: another one begins with empty state."""

EDITION_WITHIN_S = 10.0
"""So long (wall) a worker may be behind another one in what it knows of the configuration."""


@dataclass(frozen=True, slots=True)
class _Told:
    outs: list[Out]
    news: list[MemberNews]


def telemetry_flow(
    *,
    polls: Source[Poll],
    out: Sink[Out],
    clock: Clock,
    config: View[Configuration],
    shards: int = SHARDS,
    limit: DeadLetterLimit | None = None,
    count: Count | None = None,
    closed: Path | None = None,
) -> Dataflow:
    """Reads `Poll`s of derms.telemetry; writes `QuarterHour` (key asset or group), `LateMeasurement` (key asset),
    `DeadLetter` (key origin topic) and `Event` (key scope).

    Timers are the polls: a source brings one about every second, with marks for silent partitions. Raises
    `TooManyDeadLetters` past the limit. Every worker must see the same configuration. `closed` is a directory beside the
    recovery store for quarters that are closed; without it they are part of every snapshot.
    """
    rosters = Rosters(config.current, clock)
    intake = Intake(rosters, clock, shards, limit or DeadLetterLimit(), count or uncounted)
    flow = Dataflow("telemetry")
    taken = op.map("decode", op.input("polls", flow, polls), intake.take)
    unreadable = op.flat_map("unreadable", taken, lambda one: one.letters)
    rejects = op.map("rejects_key", taken, lambda one: (TELEMETRY.name, one.rejects))
    letters = run_rule("rejects", rejects, RejectRule(rosters), clock)
    parts = op.flat_map("deal", taken, lambda one: [(shard_key(part.shard), part) for part in one.parts])
    steps = op.map(
        "quarters_value", op.stateful("quarters", parts, lambda resume: _ShardLogic(resume, rosters, closed)), lambda pair: pair[1]
    )
    assets = op.flat_map("assets", steps, lambda one: one.outs)
    news = op.flat_map("news", steps, lambda one: [(each.scope_id, each) for each in one.news])
    groups = op.map("group_rows", run_rule("groups", news, GroupRule(rosters), clock), _row)
    op.output("out", op.merge("outs", unreadable, letters, assets, groups), out)
    return flow


class _ShardLogic(op.StatefulLogic[Part, _Told, bytes]):
    """One shard in the engine: parts in, what they lead to out. Nothing is emitted at the end of input."""

    def __init__(self, resume: bytes | None, rosters: Rosters, closed: Path | None) -> None:
        self._files = None if closed is None else Segments(closed)
        self._shard = Shard() if resume is None else load(resume, None if self._files is None else self._files.get)
        self._rosters = rosters

    def on_item(self, value: Part) -> tuple[Iterable[_Told], bool]:
        roster, now = self._roster(value.edition), from_ms(value.now)
        step = take_step(self._shard, value, roster)
        rows, news = told(self._shard, value, roster, step, now)
        keys = self._shard.keys
        outs = [*map(_row, rows), *late_readings(keys, step, now), *oddities(keys, step, roster, now), *strays(step.strays, roster, now)]
        return ([_Told(outs, news)] if outs or news else []), op.StatefulLogic.RETAIN

    def _roster(self, edition: str) -> Roster:
        """The roster a part was made by; another worker may have read the configuration a moment earlier."""
        deadline = wall_seconds() + EDITION_WITHIN_S
        while (roster := self._rosters.of(edition)) is None:
            if wall_seconds() > deadline:
                raise Unavailable(f"this worker has not seen the configuration another one works by within {EDITION_WITHIN_S:g} s", 1.0)
            time.sleep(0.01)
        return roster

    def snapshot(self) -> bytes:
        if self._files is None:
            return dump(self._shard)
        state = dump(self._shard, self._files.put)
        self._files.name(self._shard.number, self._shard.segments.values())
        return state


def _row(row: QuarterHour) -> Out:
    return Out(QUARTER_HOURS, row.id, row)
