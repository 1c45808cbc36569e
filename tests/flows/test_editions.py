"""One worker of a cluster is behind another in what it knows of the configuration: parts wait for it, or it says so (engine.md 4)."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from pipelines.meters import Meters
from pipelines.rules.configuration import Held, changes_between, configuration_held, held_after, key_of
from pipelines.rules.quarter_parts import Part
from pipelines.rules.quarter_roster import Rosters
from pipelines.telemetry_intake import DeadLetterLimit, Intake, uncounted
from pipelines.telemetry_shards import ShardLogic
from schemas.clock import FrozenClock
from schemas.config import ConfigChange, Configuration
from schemas.telemetry import QuarterHour
from sinks.errors import Unavailable
from tests.builders import T0, configuration
from tests.flows.polls import MINUTE, Topic, reading
from tests.outs import each

CLOCK = FrozenClock(T0)


def sites(*assets: str) -> Configuration:
    return configuration(assets=[{"id": asset, "scope_id": "mg-1", "category": "STORAGE"} for asset in assets])


class Late:
    """A view that shows another configuration once it has been asked so many times."""

    def __init__(self, before: Configuration, after: Configuration, asked: int) -> None:
        self._before, self._after, self.left = before, after, asked

    def current(self) -> Configuration:
        self.left -= 1
        return self._before if self.left >= 0 else self._after


def part_by(config: Configuration, *assets: str) -> Part:
    """What a worker that knows this configuration makes of a poll with a reading of each asset."""
    intake = Intake(Rosters(lambda: config, CLOCK), 1, DeadLetterLimit(), uncounted)
    (part,) = intake.take(Topic(1).poll(T0, [reading(asset, 0, power_w=1.0) for asset in assets])).parts
    return part


def logic(view: Late) -> ShardLogic:
    return ShardLogic(None, Rosters(view.current, CLOCK), None, Meters("telemetry", clock=CLOCK))


def assets_of(shard: ShardLogic) -> list[str]:
    """The assets whose readings it took, once it has."""
    shard.snapshot()
    return shard._shard.keys.assets


@pytest.mark.parametrize("asked", [0, 1, 7])
def test_a_part_waits_for_the_configuration_it_was_made_by(asked: int) -> None:
    """An asset before all others was added: by the order of before, each row would be another asset's."""
    before, after = sites("b", "c"), sites("a", "b", "c")
    view = Late(before, after, asked)
    shard = logic(view)
    shard.on_item((part_by(after, "c", "a"),))
    assert view.left < 0
    assert assets_of(shard) == ["a", "c"]


def test_one_that_never_comes_ends_the_worker_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.telemetry_shards.EDITION_WITHIN_S", 0.05)
    view = Late(sites("b", "c"), sites("b", "c"), 0)
    shard = logic(view)
    with pytest.raises(Unavailable, match=r"not seen the configuration another one works by within 0\.05 s"):
        shard.on_item((part_by(sites("a", "b", "c"), "a"),))
    assert view.left < -2  # it looked again and again
    assert shard._shard.keys.assets == []


def test_parts_of_a_configuration_of_before_are_taken_by_that() -> None:
    """The other way round: the worker is ahead of the one that read the poll."""
    before, after = sites("b", "c"), sites("a", "b", "c")
    view = Late(before, after, 1)
    shard = logic(view)
    shard.on_item((part_by(before, "b"),))
    shard.on_item((part_by(after, "a"),))
    shard.on_item((part_by(before, "c"),))
    assert assets_of(shard) == ["b", "a", "c"]


class Applied:
    """What is brought to derms.config, one apply after the other, and the configuration after each of its records."""

    def __init__(self) -> None:
        self._changes: dict[str, ConfigChange] = {}
        self._held: dict[str, Held] = {}
        self._states: list[dict[str, Held]] = []

    def apply(self, wanted: Configuration, at: datetime = T0 - timedelta(days=1)) -> Configuration:
        for change in changes_between(self._changes, wanted, prune=True, by="test", at=at):
            self._changes[key_of(change)] = change
            self._held = {**self._held, key_of(change): held_after(self._held.get(key_of(change)), change)}
            self._states.append(self._held)
        return self.at(len(self._states) - 1)

    def at(self, place: int) -> Configuration:
        return configuration_held(self._states[place], place)


class Worker:
    """A shard of a worker that goes by `config` of its own accord, and the rows it writes."""

    def __init__(self, applied: Applied, config: Configuration, partitions: int = 1) -> None:
        self.config, self.asked, self.rows = config, list[int](), list[QuarterHour]()
        self._applied, self._topic = applied, Topic(partitions)
        self.rosters = Rosters(lambda: self.config, CLOCK, self._at)
        self.shard = ShardLogic(None, self.rosters, None, Meters("telemetry", clock=CLOCK))

    def _at(self, place: int) -> Configuration:
        self.asked.append(place)
        return self._applied.at(place)

    def step(self, made_by: Configuration, now: datetime, *readings: list[Any]) -> list[QuarterHour]:
        """A poll that a worker took in which went by `made_by`; the final rows that follow."""
        poll = self._topic.poll(now, *readings)
        (part,) = Intake(Rosters(lambda: made_by, CLOCK), 1, DeadLetterLimit(), uncounted).take(poll).parts
        ((due,), _) = self.shard.on_item((part,))
        found = [out.value for out in each(due.result().outs)]
        self.rows += (rows := [one for one in found if isinstance(one, QuarterHour) and not one.provisional])
        return rows


def two_scopes(*assets: tuple[str, str], **more: Any) -> Configuration:
    plain = [{"id": name, "scope_id": scope, "category": "STORAGE", **more.get(name, {})} for name, scope in assets]
    return configuration(circuits=[], scopes=[{"id": "mg-1"}, {"id": "mg-2"}], groups=[], partners=[], assets=plain)


def test_parts_are_never_taken_by_an_older_configuration_than_they_were_made_by() -> None:
    """One apply removes x, moves y and adds z after the quarter; the worker that closes it has yet to take that over by itself."""
    applied = Applied()
    old = applied.apply(two_scopes(("x", "mg-1"), ("y", "mg-1")))
    new = applied.apply(two_scopes(("y", "mg-2"), ("z", "mg-1")), T0 + 16 * MINUTE)
    told = []
    for by_itself in (new, old):
        worker = Worker(applied, old)
        worker.step(old, T0 + 15 * MINUTE, [reading(name, minute, power_w=1.0) for minute in range(15) for name in "xy"])
        worker.config = by_itself
        rows = worker.step(new, T0 + 40 * MINUTE, [reading("y", 40, power_w=1.0)])
        told.append([(row.id, row.scope_id) for row in rows if row.start == T0])
        assert worker.rosters.current().place == new.place
        assert worker.rosters.current().scope_of("y") == "mg-2"
    assert told == [[("x", "mg-1"), ("y", "mg-1")]] * 2


def test_a_part_of_a_worker_that_is_behind_is_taken_by_what_holds() -> None:
    """It says which assets its readings are of, and no more: an asset it does not know keeps its bounds and its scope."""
    applied, many = Applied(), [(f"y-{number:04}", "mg-1") for number in range(1100)]  # with so many keys closing waits for the other
    old = applied.apply(two_scopes(*many))
    new = applied.apply(two_scopes(("w", "mg-1"), *many, w={"max_w": 5e8}))
    told = []
    for behind in (new, old):
        worker = Worker(applied, new, 2)
        worker.step(behind, T0 + 16 * MINUTE, [], [reading(name, 15, power_w=1.0) for name, _ in many])
        registers = [(0, 1e9), (5, 1e9 + 1e7), (10, 2e7), (15, 4e7)]
        worker.step(new, T0 + 16 * MINUTE, [reading("w", minute, import_wh=value) for minute, value in registers], [])
        now, tick = T0 + 40 * MINUTE, timedelta(milliseconds=50)
        worker.step(new, now, [reading("w", 20, import_wh=4e7)], [])
        worker.step(behind, now + tick, [], [reading("y-0000", 20, power_w=1.0)])
        for number in range(3):
            worker.step(new, now + (2 + 20 * number) * tick, [reading("w", 41 + number, power_w=1.0)], [])
        told.append([(row.scope_id, row.import_wh, row.revision) for row in worker.rows if row.id == "w" and row.start == T0])
        assert worker.asked == ([] if behind is new else [old.place])  # once
    assert told[0] == told[1] == [("mg-1", pytest.approx(told[0][0][1]), 1)]


def test_a_worker_goes_by_what_the_newest_part_was_made_by_and_never_back() -> None:
    applied = Applied()
    editions = [applied.apply(two_scopes(*((name, "mg-1") for name in "abcd"[:count]))) for count in (1, 2, 3, 4)]
    worker = Worker(applied, editions[1])
    for made_by, holds in ((0, 1), (2, 2), (1, 2), (0, 2), (3, 3), (2, 3)):
        worker.step(editions[made_by], T0, [reading("a", made_by, power_w=1.0)])
        assert worker.rosters.current().place == editions[holds].place
    worker.config = editions[2]  # what it has taken over by itself by now
    assert worker.rosters.current().place == editions[3].place
    first = worker.rosters.current()
    worker.config = editions[3]
    assert worker.rosters.current() is first  # the same: nothing to be followed anew
    assert assets_of(worker.shard) == ["a"]


def test_a_topic_that_was_made_anew_begins_anew() -> None:
    """Its places are small again: that is no configuration of before."""
    applied, anew = Applied(), Applied()
    for count in (1, 2, 3):
        newest = applied.apply(two_scopes(*((name, "mg-1") for name in "abc"[:count])))
    worker = Worker(applied, newest)
    worker.step(newest, T0, [reading("a", 0, power_w=1.0)])
    worker.config = anew.apply(two_scopes(("d", "mg-1")))
    assert worker.config.place < newest.place
    worker.step(worker.config, T0, [reading("d", 0, power_w=1.0)])
    assert assets_of(worker.shard) == ["a", "d"]


def test_an_asset_that_is_heard_of_by_the_rows_of_several_editions_is_one() -> None:
    applied = Applied()
    old = applied.apply(two_scopes(("b", "mg-1"), ("c", "mg-1")))
    new = applied.apply(two_scopes(("a", "mg-1"), ("b", "mg-1"), ("c", "mg-1")))
    for parts in (((new, "c"), (old, "bc"), (new, "cba"), (old, "cb")), ((old, "c"), (new, "b"), (old, "bc"), (new, "ba"))):
        worker = Worker(applied, new)
        for number, (made_by, names) in enumerate(parts):
            worker.step(made_by, T0, [reading(name, number / 10, power_w=1.0) for name in names])
        assert assets_of(worker.shard) == ["c", "b", "a"]


def test_bounds_are_those_that_hold_whatever_part_an_asset_is_first_heard_in() -> None:
    applied = Applied()
    bounds = [{"max_w": 5e8}, {"max_w": 7e8}]
    old = applied.apply(two_scopes(("a", "mg-1"), ("b", "mg-1"), ("c", "mg-1"), b=bounds[0], c=bounds[0]))
    new = applied.apply(two_scopes(("b", "mg-1"), ("c", "mg-1"), ("d", "mg-1"), b=bounds[1], c=bounds[1]))
    newest = applied.apply(two_scopes(("b", "mg-1"), ("c", "mg-1"), ("e", "mg-1"), b=bounds[0], c=bounds[0]))
    worker = Worker(applied, new)
    for goes_by, name, max_w in ((new, "b", [7e8]), (newest, "c", [5e8, 5e8])):
        worker.config = goes_by
        worker.step(old, T0, [reading(name, 0, power_w=1.0)])
        assert worker.shard.snapshot()
        assert worker.shard._shard.keys.max_w.tolist() == max_w


def test_rows_of_a_configuration_that_cannot_be_had_again_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records were compacted away: what is made of the rest has another order, and rows would be other assets'."""
    monkeypatch.setattr("pipelines.telemetry_shards.EDITION_WITHIN_S", 0.05)
    applied = Applied()
    old = applied.apply(two_scopes(("a", "mg-1"), ("b", "mg-1"), ("c", "mg-1")))
    new = applied.apply(two_scopes(("b", "mg-1"), ("c", "mg-1"), ("d", "mg-1")))
    for made_by, goes_by in ((old, new), (new, old)):
        worker = Worker(applied, goes_by)
        wrong = two_scopes(("b", "mg-1"), ("c", "mg-1")).after({}, made_by.place)
        monkeypatch.setattr(worker.rosters, "_config_at", lambda place, wrong=wrong: wrong)
        with pytest.raises(Unavailable, match="not seen the configuration"):
            worker.step(made_by, T0, [reading("b", 0, power_w=1.0)])
        assert worker.rosters.current().place == goes_by.place
