"""Groups in the engine: sums over partitions, shards and workers, members that move, kills and restarts, stores of before."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

from pipelines.records import Out, Outs, Poll
from pipelines.rules.group_bindings import scope_hash
from pipelines.telemetry import SHARDS, telemetry_flow
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.connection import Event
from schemas.telemetry import Level, QuarterHour
from sinks.errors import Misconfigured
from tests.builders import T0, Applied, configuration
from tests.flows.polls import MINUTE, Topic, reading
from tests.flows.test_telemetry import final, rows, timed
from tests.outs import each

ASSETS = [f"a{number:02d}" for number in range(12)]
SCOPES = ["north", "south", "hill"]
MOVED = "a00"


def sites(moved_to: str = "north", meter: str = "", groups: dict[str, str] | None = None) -> Configuration:
    """Twelve assets in three scopes, each with a group; one of them may have moved, one be its scope's meter, groups be on other scopes."""
    assets = [
        {
            "id": asset, "scope_id": moved_to if asset == MOVED else SCOPES[number % 3], "category": "STORAGE",
            "connection_meter": asset == meter,
        }
        for number, asset in enumerate(ASSETS)
    ]  # fmt: skip
    bound = {f"G-{scope}": scope for scope in SCOPES} if groups is None else groups
    plain = [{"partner_id": "vector", "group_id": group, "scope_id": scope} for group, scope in bound.items()]
    return configuration(scopes=[{"id": scope} for scope in SCOPES], circuits=[], assets=assets, groups=plain)


CHANGES = {
    "an asset moves": (sites(), sites("south")),
    "a meter is installed": (sites(), sites(meter=ASSETS[3])),
    "a group moves": (sites(groups={"G-1": "north"}), sites(groups={"G-1": "south"})),
    "a group goes": (sites(), sites(groups={"G-north": "north"})),
    "an asset moves with its group": (sites(groups={"G-1": "north"}), sites("south", groups={"G-1": "south"})),
}


def a_day_in_short(hours: float = 1.0) -> list[Poll]:
    """All assets once a minute, on four partitions, the last one late by two minutes."""
    topic, polls = Topic(4), []
    for minute in range(round(hours * 60)):
        runs = [
            [reading(asset, at, power_w=100.0 + n + at / 7) for n, asset in enumerate(ASSETS) if n % 4 == partition and at >= 0]
            for partition, at in enumerate((minute, minute, minute, minute - 2))
        ]
        polls.append(topic.poll(T0 + minute * MINUTE, *runs))
    end = T0 + hours * 60 * MINUTE
    return [*polls, topic.silence(end, end + timedelta(hours=3))]


class Changing:
    """A view of the configuration in which something changes at an instant of the clock."""

    def __init__(self, clock: FrozenClock, at: datetime | None, what: str = "an asset moves") -> None:
        applied, (before, after) = Applied(), CHANGES[what]
        self._clock, self._at = clock, at
        self._before, self._after = applied.apply(before, T0 - timedelta(days=1)), applied.apply(after, at or T0)

    def current(self) -> Configuration:
        return self._before if self._at is None or self._clock.now() < self._at else self._after


class Played:
    """Polls, some of them kills or ends, with the clock standing where each poll says; each run goes through them anew."""

    def __init__(self, clock: FrozenClock, items: list[Any]) -> None:
        self._clock, self._items = clock, items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            if isinstance(item, Poll):
                self._clock.set(item.now)
            yield item


def run(
    polls: list[Poll], moves_at: datetime | None = None, kills: tuple[int, ...] = (), folder: Path | None = None, *, files: bool = False,
    what: str = "an asset moves",
) -> list[Out]:  # fmt: skip
    """What the flow writes that is killed before the polls at these places, and goes on from its last snapshot each time."""
    items: list[Any] = list(polls)
    for place in sorted(kills, reverse=True):
        items.insert(place, TestingSource.ABORT())
    out, clock = list[Out | Outs](), FrozenClock(T0)
    source = TestingSource(Played(clock, items), batch_size=1)
    if folder is not None:
        init_db_dir(folder, 1)
    for _ in range(len(kills) + 1):
        flow = telemetry_flow(
            polls=source, out=TestingSink(out), clock=clock, config=Changing(clock, moves_at, what),
            closed=folder / "closed" if folder is not None and files else None,
        )  # fmt: skip
        recovery = None if folder is None else RecoveryConfig(str(folder))
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
    return each(out)


def sums(out: list[Out], moves_at: datetime | None = None) -> dict[tuple[str, datetime], float]:
    """What the groups' rows should amount to, by the members' rows."""
    found: dict[tuple[str, datetime], float] = {}
    for (level, asset, _, start), content in final(out).items():
        if level is Level.ASSET:
            scope = SCOPES[ASSETS.index(asset) % 3]
            if asset == MOVED and moves_at is not None and start >= moves_at:
                scope = "south"
            found[f"G-{scope}", start] = found.get((f"G-{scope}", start), 0.0) + content["net_wh"]
    return found


def groups_of(out: list[Out]) -> dict[tuple[str, datetime], QuarterHour]:
    """Each group's last row of each quarter."""
    found: dict[tuple[str, datetime], QuarterHour] = {}
    for row in rows(out, Level.GROUP):
        found[row.id, row.start] = row
    return found


def test_scopes_here_are_in_different_group_shards() -> None:
    assert len({scope_hash(scope) % SHARDS for scope in SCOPES}) == 3


def test_sums_over_partitions_and_shards_are_told_once_and_whole() -> None:
    out = run(a_day_in_short())
    told = rows(out, Level.GROUP)
    assert {(row.revision, row.missing_members) for row in told} == {(1, 0)}
    assert {place: pytest.approx(net) for place, net in sums(out).items()} == {(row.id, row.start): row.net_wh for row in told}
    assert len(told) == 3 * 4
    assert {row.id for row in rows(out, Level.GROUP, provisional=True)} == {"G-north", "G-south", "G-hill"}


def test_a_member_that_moves_counts_where_it_was_until_the_quarter_is_over() -> None:
    moves_at = T0 + 20 * MINUTE
    out = run(a_day_in_short(), moves_at)
    found = groups_of(out)
    expected = sums(out, T0 + 30 * MINUTE)
    assert {place: row.net_wh for place, row in found.items()} == {place: pytest.approx(net) for place, net in expected.items()}
    assert {row.missing_members for row in found.values()} == {0}
    assert found["G-south", T0 + 30 * MINUTE].samples == found["G-south", T0].samples * 5 // 4


@pytest.mark.parametrize(("kills", "files"), [((3, 17, 31, 32, 47), False), ((19, 20, 21), False), ((24,), True)])
def test_a_kill_anywhere_changes_no_row_of_a_group(
    tmp_path: Path, kills: tuple[int, ...], files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.telemetry_shards.INLINE_BYTES", 0)
    polls, moves_at = a_day_in_short(0.75), T0 + 20 * MINUTE
    assert final(run(polls, moves_at, kills, tmp_path, files=files)) == final(run(polls, moves_at))
    assert any(tmp_path.glob("closed/1*")) == files


@pytest.mark.parametrize(
    ("kill", "what"),
    [*((kill, "an asset moves") for kill in (None, 3, 17, 31, 40)), *((kill, what) for kill in (None, 17) for what in CHANGES)],
)
def test_a_change_takes_effect_when_it_was_made_whenever_a_life_learns_of_it(tmp_path: Path, kill: int | None, what: str) -> None:
    """The flow is down, or has not begun, when something changes; the rows are those of a run that was there."""
    polls, moves_at, later = a_day_in_short(0.75), T0 + 20 * MINUTE, T0 + timedelta(hours=2)
    undisturbed = run(polls, moves_at, what=what)
    before, after = polls[: kill or 0], [replace(poll, now=max(poll.now, later)) for poll in polls[kill or 0 :]]
    out = run([*before, *after], moves_at, () if kill is None else (kill,), None if kill is None else tmp_path, what=what)
    assert final(out) == final(undisturbed)


def test_rows_of_an_asset_name_the_scope_it_was_bound_to_in_their_quarter() -> None:
    """The quarter in which it moves is still the old scope's; late readings revise one from before under the old one, too."""
    polls, moves_at = a_day_in_short(0.75), T0 + 20 * MINUTE
    topic = Topic(4)
    late = replace(topic.poll(T0, [reading(MOVED, 10.5, power_w=9_000.0)]), now=polls[38].now)
    out = run([*polls[:38], late, *polls[38:]], moves_at)
    told = {(row.start, row.revision): row.scope_id for row in rows(out, Level.ASSET) if row.id == MOVED}
    assert told == {
        (T0, 1): "north", (T0 + 15 * MINUTE, 1): "north", (T0, 2): "north", (T0 + 30 * MINUTE, 1): "south",
    }  # fmt: skip


def test_a_backlog_of_days_whose_partitions_hold_more_and_less_comes_to_the_same() -> None:
    """Lanes are read by the message: where a partition has few assets, it is days ahead before the others' first day is read."""
    end, steps = T0 + timedelta(days=4), range(0, 4 * 1440, 15)
    few = [reading("a00", at, power_w=60.0) for at in steps]
    many = [reading(asset, at, power_w=60.0) for at in steps for asset in ASSETS if asset != "a00"]

    def told(at_once: int) -> dict[Any, Any]:
        topic, polls = Topic(2), list[Poll]()
        for first in range(max(len(few), len(many)) // at_once + 1):
            polls.append(topic.poll(end, few[first * at_once :][:at_once], many[first * 96 :][:96]))
        out = run([*polls, topic.silence(end, end + timedelta(minutes=20))])
        return {place: (row.import_wh, row.missing_members) for place, row in groups_of(out).items()}

    in_step, by_the_message = told(96 // (len(ASSETS) - 1)), told(96)
    assert len(in_step) >= 2 * 4 * 96 - 2
    assert by_the_message == in_step


def test_a_partition_far_behind_has_its_rows_and_its_scopes_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.rules.group_shard.LEAST_MS", 0)
    monkeypatch.setattr("pipelines.rules.group_shard.MOST_ROWS", 0)
    topic, slow, hours = Topic(2), "a03", 5
    now = T0 + hours * 60 * MINUTE
    swift = [asset for asset in ASSETS if asset != slow]
    ahead = [
        topic.poll(now, [reading(asset, at, power_w=60.0) for asset in swift], [reading(slow, 0, power_w=60.0)][at:])
        for at in range(hours * 60)
    ]
    behind = [topic.poll(now, [], [reading(slow, at, power_w=60.0)]) for at in range(1, hours * 60)]
    out = run([*ahead, *behind, topic.silence(now, now + timedelta(minutes=20))])
    quarters = {(row.id, row.start): row for row in rows(out, Level.ASSET)}
    assert {start for asset, start in quarters if asset == slow} == {start for asset, start in quarters if asset == swift[0]}
    last = groups_of(out)
    told = {start: (row.revision, row.missing_members) for (group, start), row in last.items() if group == "G-north"}
    assert [told[T0 + quarter * 15 * MINUTE] for quarter in range(hours * 4)] == [(1, 1)] * 15 + [(2, 0)] * 4 + [(1, 0)]
    (event,) = {one.value.event_id: one.value for one in out if isinstance(one.value, Event)}.values()
    assert (event.kind, event.subject_id) == ("groups_behind", "north")
    assert "derms telemetry repair --from 2026-10-20T00:00:00.000Z --to 2026-10-21T00:00:00.000Z" in event.words


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_several_workers_write_the_same(workers: int) -> None:
    polls, out, clock = a_day_in_short(0.5), list[Out | Outs](), FrozenClock(T0 + timedelta(hours=9))
    flow = telemetry_flow(polls=TestingSource(polls, batch_size=1), out=TestingSink(out), clock=clock, config=Changing(clock, None))
    cluster_main(flow, [], 0, epoch_interval=timedelta(0), worker_count_per_proc=workers)
    alone = [*timed(FrozenClock(T0), polls)]
    assert final(each(out)) == final(run(alone))


def test_a_store_of_before_is_refused_in_words(tmp_path: Path) -> None:
    """State of a scope of its own, as groups were kept once, under the step that has them now."""
    state = pickle.dumps({"quarters": {}, "settled": {}, "phases": {}, "overdue": 0, "frozen": {}, "gone": 0, "ticks": {}, "ticked": 0})

    class Before(op.StatefulLogic[int, int, bytes]):
        def on_item(self, value: int) -> tuple[list[int], bool]:
            return [], op.StatefulLogic.RETAIN

        def snapshot(self) -> bytes:
            return state

    init_db_dir(tmp_path, 1)
    flow = Dataflow("telemetry")
    keyed = op.map("key", op.input("polls", flow, TestingSource([1], batch_size=1)), lambda one: ("mg-1", one))
    op.output("out", op.stateful("groups", keyed, lambda _: Before()), TestingSink([]))
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(tmp_path)))

    clock = FrozenClock(T0)
    now = telemetry_flow(polls=TestingSource([]), out=TestingSink([]), clock=clock, config=Changing(clock, None))
    with pytest.raises(BaseException) as stopped:  # noqa: PT011 - the engine decides what it wraps the error in
        run_main(now, recovery_config=RecoveryConfig(str(tmp_path)))
    causes, error = [], stopped.value
    while error is not None:
        causes.append(error)
        error = error.__cause__  # type: ignore[assignment]
    (refusal,) = [cause for cause in causes if isinstance(cause, Misconfigured)]
    assert refusal.setting == "the recovery store"
    assert "groups of version 1" in str(refusal)
    assert "move the store away" in str(refusal)
