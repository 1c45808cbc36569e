"""What is legal and odd: settings that change under a running shard, absurd values, endless ids, rows whose quarter has left."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pipelines.records import Tick
from pipelines.rules.quarter_closing import take_step
from pipelines.rules.quarter_earlier import Earlier, overtake, overtake_groups
from pipelines.rules.quarter_rejects import SUBJECT, Reject, RejectRule
from pipelines.rules.quarter_roster import Rosters
from schemas.clock import FrozenClock
from schemas.outbound import DeadLetter
from schemas.telemetry import Level
from schemas.units import from_ms
from tests.builders import T0, configuration
from tests.rules.grouping import END, Groups, news, row
from tests.rules.metering import FAR, START, Meter, dealt, minutes, roster
from tests.rules.reference_quarter_hours import QUARTER, Reading


def at(minute: float, asset: str = "a", **values: Any) -> Reading:
    return Reading(asset, START + minutes(minute), **values)


class TestChangedTiming:
    def test_a_longer_horizon_brings_nothing_back_and_loses_nothing_silently(self) -> None:
        meter = Meter(roster({"a"}), partitions=(0,))
        meter.poll([at(minute, power=1000.0) for minute in range(240)])
        meter.roster = roster({"a"}, correction_horizon="PT6H")
        meter.poll([at(0.5, power=9000.0), at(165.5, power=9000.0)])
        assert len(meter.late) == 1
        assert meter.rows["a", 0, START]["samples"] == 15
        assert meter.rows["a", 0, START + 11 * QUARTER]["samples"] == 16

    def test_provisional_rows_go_on_when_their_interval_becomes_longer(self) -> None:
        meter, now = Meter(roster({"a"}), partitions=(0,)), START + minutes(1)
        rounds = []
        for interval in ("PT1M", "PT2M", "PT1M"):
            meter.roster = roster({"a"}, provisional_every=interval)
            for _ in range(8):
                now += minutes(1)
                found = dealt([Reading("a", now, 1.0)], meter.roster, now)
                rounds.append(take_step(meter.shards[0], found.parts[0], meter.roster).provisional)
        assert [sum(rounds[first : first + 8]) for first in (0, 8, 16)] == [8, 4, 8]

    def test_coverage_is_right_where_nothing_is_interpolated(self) -> None:
        meter = Meter(roster({"a", "b"}, max_interpolation="PT10M"), partitions=(0,))
        for minute, value in ((0, 0.0), (4, 10.0)):
            meter.poll([at(minute, imported=value)])
        meter.poll([at(17.5, "b", power=1.0)])
        meter.poll([at(18, imported=30.0)])
        meter.poll([at(60, "b", power=1.0)])
        assert meter.rows["a", 0, START]["coverage"] == 1.0


@pytest.mark.parametrize("absurd", [1e308, -1.7e308])
def test_values_no_sum_can_be_made_of_do_not_count(absurd: float) -> None:
    meter = Meter(roster({"a"}), partitions=(0,))
    meter.poll([at(0, power=60.0), at(1, power=absurd), at(2, imported=absurd), at(3, power=60.0), at(20, power=60.0)])
    assert meter.rows["a", 0, START]["samples"] == 2
    assert np.isfinite(meter.rows["a", 0, START]["mean_w"])


def test_a_letter_tells_the_beginning_of_an_endless_id() -> None:
    rule = RejectRule(Rosters(lambda: configuration(), FrozenClock(T0)))
    state = rule.start("telemetry")
    assert list(rule.step(state, (Reject("x" * 2_200_000, "unknown asset", 0, 1, 0, 0, b"raw"),), T0)) == []
    (letter,) = (out.value for out in rule.step(state, Tick(), T0 + timedelta(hours=1)))
    assert isinstance(letter, DeadLetter)
    assert letter.subject == "x" * SUBJECT


def said(level: Level, place: str, start: int, revision: int) -> dict[str, Any]:
    """A row that an earlier life wrote."""
    nothing = dict.fromkeys(("min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh"))
    zero = dict.fromkeys(("import_wh", "export_wh", "mean_w", "coverage"), 0.0)
    method = "POWER" if level is Level.ASSET else "SUM"
    flags = {"estimated": False, "reset": False, "missing_members": 0, "samples": 1}
    who = {"level": level.value, "id": place, "phase": "ALL", "start": from_ms(start)}
    return {**who, "method": method, "revision": revision, **nothing, **zero, **flags}


class TestRowsWhoseQuarterHasLeft:
    """A step that leaps past the horizon writes rows of quarters that are no longer kept when their numbers are looked at."""

    def test_no_other_quarters_revision_is_touched(self) -> None:
        meter = Meter(roster({"a", "b"}), partitions=(0,))
        readings = [Reading(asset, START + minutes(minute), power=1000.0) for minute in range(200) for asset in "ab"]
        found = dealt(readings, meter.roster, FAR)
        shard = meter.shards[0]
        step = take_step(shard, found.parts[0], meter.roster)
        before = shard.slots.quarters["revision"].copy()
        overtake(shard, step, Earlier.of(Level.ASSET, [said(Level.ASSET, "a", START, 7)]))
        assert (shard.slots.quarters["revision"] == before).all()
        starts = [start for rows in step.rows for start in rows["start"].tolist()]
        numbers = [number for revisions in step.revisions for number in revisions.tolist()]
        assert 8 in [number for start, number in zip(starts, numbers, strict=True) if start == START]

    def test_nor_does_a_group_stumble(self) -> None:
        groups = Groups()
        ids = [asset.id for asset in groups.config.assets]
        item = news(*[row(each) for each in ids], settled=ids, until=END + 10 * QUARTER, overdue_until=END, frozen_until=END)
        found = groups.shard.step([item], groups._rosters.current())
        assert not groups.shard.quarters
        overtake_groups(groups.shard, found, Earlier.of(Level.GROUP, [said(Level.GROUP, found[0].groups[0], START, 2)]))
        assert found[0].revisions.tolist() == [3]
