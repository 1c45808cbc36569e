"""Flow `telemetry`: readings become quarter hours of assets and groups (semantics 1 and 2).

An item is a whole poll; it is decoded into columns, judged, and dealt to a few fat shards whose state is arrays. No
Python object a reading anywhere (engine.md 1); objects begin where a quarter's row leaves the shard.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.ahead import Ahead
from pipelines.beside import Beside
from pipelines.earlier_rows import EarlierRows
from pipelines.merging import merged, together
from pipelines.metered import MeteredBatchLogic, MeteredLogic
from pipelines.meters import Meters
from pipelines.operators import run_rule, stateful_together
from pipelines.records import Out, Outs, Poll
from pipelines.rules.group_news import GroupNews
from pipelines.rules.quarter_rejects import RejectRule
from pipelines.rules.quarter_roster import Rosters, not_known
from pipelines.spread import SHARD_KEYS, shard_key
from pipelines.telemetry_counts import counting
from pipelines.telemetry_intake import Count, DeadLetterLimit, Intake, Taken
from pipelines.telemetry_shards import Found, GroupLogic, Parts, ShardLogic
from pipelines.views import View
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.topics import TELEMETRY

SHARDS = len(SHARD_KEYS)
"""State is kept under so many keys, of assets and again of groups. The number is part of the recovery store: another one begins
with empty state."""


def telemetry_flow(
    *,
    polls: Source[Poll],
    out: Sink[Out | Outs],
    clock: Clock,
    config: View[Configuration],
    shards: int = SHARDS,
    limit: DeadLetterLimit | None = None,
    meters: Meters | None = None,
    closed: Path | None = None,
    written: EarlierRows | None = None,
    beside: Beside | None = None,
    ahead: Ahead | None = None,
    config_at: Callable[[int], Configuration | None] = not_known,
) -> Dataflow:
    """Reads `Poll`s of derms.telemetry; writes `QuarterHour` (key asset or group), `LateMeasurement` (key asset),
    `DeadLetter` (key origin topic) and `Event` (key scope).

    Timers are the polls: a source brings one about every second, with marks for silent partitions. Raises
    `TooManyDeadLetters` past the limit. Every worker must see the same changes of the configuration, each at a moment of its own;
    `config_at` says what another one went by (`ConfigView.at`). `closed` is a directory beside the
    recovery store for quarters that are closed; without it they are part of every snapshot. `written` knows the rows an earlier
    life wrote since its last snapshot, so that what comes again is not numbered below them. `beside` are the threads in which a
    worker's shards take their parts, side by side; without it they do one after the other. `ahead` is who takes
    `polls` in before their turn, if anybody does. `meters` hear what is counted, what stages take and how far event time has come.
    """
    rosters, meters = Rosters(config.current, clock, config_at), meters or Meters("telemetry", clock=clock)
    count = counting(meters)
    intake = Intake(rosters, shards, limit or DeadLetterLimit(), count)
    take = _Taking(intake, meters)
    if ahead is not None:
        ahead.by(take.prepare)
    flow = Dataflow("telemetry")
    taken = op.flat_map_batch("decode", op.input("polls", flow, polls), take.all if ahead is None else take.begun)

    parts = op.flat_map("deal", taken, _dealt)
    quarters = op.stateful(
        "quarters", parts, lambda resume: MeteredLogic(ShardLogic(resume, rosters, closed, meters, written, beside), meters)
    )
    steps = op.map("quarters_value", quarters, lambda pair: pair[1].result())
    assets = op.flat_map("assets", steps, lambda one: one.outs)

    news = op.flat_map("news", steps, _news)
    told = stateful_together(
        "groups", news, lambda resume: MeteredBatchLogic(GroupLogic(resume, rosters, clock, meters, closed, written), meters, "groups")
    )
    groups = op.map("groups_value", told, lambda pair: pair[1])

    rejects = op.map("rejects_key", taken, lambda some: (TELEMETRY.name, tuple(chain.from_iterable(one.rejects for one in some))))
    rejected = run_rule("rejects", rejects, RejectRule(rosters), clock)
    letters = _counted("letters", rejected, "dead_letters", count)

    op.output("out", op.merge("outs", letters, assets, groups), out)
    return flow


class _Taking:
    """Polls taken in: merged first, or one by one ahead. What can be taken for one stays together."""

    def __init__(self, intake: Intake, meters: Meters) -> None:
        self._intake, self._meters = intake, meters

    def prepare(self, poll: Poll) -> Callable[[], Taken]:
        work = self._intake.prepare(poll)

        def timed() -> Taken:
            with self._meters.timed("decode"):
                return work()

        return timed

    def all(self, polls: list[Poll]) -> list[list[Taken]]:
        return [[self.prepare(poll)()] for poll in merged(polls)]

    def begun(self, polls: list[Poll]) -> list[list[Taken]]:
        return [each for some in together(polls, lanes=True) for each in self._of_one_edition(some)]

    def _of_one_edition(self, polls: Sequence[Poll]) -> Iterator[list[Taken]]:
        taken = [self.prepare(poll)() if poll.taken is None else poll.taken.result() for poll in polls]
        for _, some in groupby(taken, lambda one: one.parts[0].edition):
            yield list(some)


def _dealt(taken: list[Taken]) -> list[tuple[str, Parts]]:
    return [(shard_key(parts[0].shard), parts) for parts in zip(*(one.parts for one in taken), strict=True)]


def _news(found: Found) -> list[tuple[str, tuple[int, GroupNews]]]:
    return [(shard_key(number), (number, news)) for number, news in found.news]


def _counted(step_id: str, stream: Stream[Out], what: str, count: Count) -> Stream[Out]:
    def pass_on(one: Out) -> Out:
        count(what, 1)
        return one

    return op.map(step_id, stream, pass_on)
