"""Group rows: the meter's, or the sum; when they are written; and what members' revisions do to them (semantics 2)."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from pipelines.records import Tick
from pipelines.rules.groups import GroupRule, MemberNews, ScopeState
from pipelines.rules.quarter_roster import Rosters, shard_of
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.telemetry import Level, Method, QuarterHour
from schemas.units import Phase, to_ms
from tests.builders import T0, configuration

START = to_ms(T0)
END = START + QUARTER_MS


def sum_scope(**changes: Any) -> Configuration:
    """A scope of two assets and no connection meter, bound to one group."""
    assets = [
        {"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"},
        {"id": "pv", "scope_id": "mg-1", "category": "GENERATION", **changes},
    ]
    return configuration(assets=assets)


def row(asset_id: str, quarter: int = 0, **values: Any) -> QuarterHour:
    """An asset's row with 100 Wh imported unless said otherwise."""
    wh = {"import_wh": 100.0, "export_wh": 0.0, **values}
    plain: dict[str, Any] = {
        "event_id": "e", "at": T0, "level": Level.ASSET, "id": asset_id, "scope_id": "mg-1", "start": T0 + quarter * QUARTER,
        "net_wh": wh["import_wh"] - wh["export_wh"], "mean_w": 4 * (wh["import_wh"] - wh["export_wh"]), "samples": 15, "coverage": 1.0,
        "method": Method.POWER, "revision": 1,
    }  # fmt: skip
    return QuarterHour.model_validate({**plain, **wh})


class Group:
    """One scope's rule, fed with news as one shard would send them."""

    def __init__(self, config: Configuration | None = None) -> None:
        self.config = config or configuration()
        self.rule = GroupRule(Rosters(lambda: self.config, FrozenClock(T0)))
        self.state: ScopeState = self.rule.start("mg-1")

    def hear(self, *rows: QuarterHour, settled: Iterable[str] = (), until: int = END, shards: int = 1, **news: Any) -> list[QuarterHour]:
        item = MemberNews("mg-1", news.pop("shard", 0), shards, list(rows), dict.fromkeys(settled, until), **news)
        return list(self.rule.step(self.state, item, T0 + QUARTER))


class TestMeter:
    def test_the_meters_row_is_the_groups_and_nobody_else_is_waited_for(self) -> None:
        group = Group()
        values = {
            "min_w": -5.0, "max_w": 900.0, "stored_wh": 3.0, "import_register_wh": 7.0, "coverage": 0.8, "estimated": True, "reset": True,
        }  # fmt: skip
        assert group.hear(row("mg-1-pv", import_wh=0.0, export_wh=50.0), settled=["mg-1-pv"]) == []
        (found,) = group.hear(row("mg-1-grid", **values), settled=["mg-1-grid"])
        assert (found.level, found.id, found.scope_id, found.phase, found.method) == (
            Level.GROUP,
            "VEC-0001",
            "mg-1",
            Phase.ALL,
            Method.METER,
        )
        assert (found.import_wh, found.net_wh, found.mean_w, found.samples, found.missing_members) == (100.0, 100.0, 400.0, 15, 0)
        assert {name: getattr(found, name) for name in values} == values
        assert (found.revision, found.provisional, found.start) == (1, False, T0)

    def test_no_meter_row_no_group_row(self) -> None:
        group = Group()
        assert group.hear(row("mg-1-pv"), settled=["mg-1-pv", "mg-1-bat", "mg-1-grid"], overdue_until=END) == []

    def test_the_sum_of_three_phases(self) -> None:
        group = Group()
        phases = [row("mg-1-grid", phase=phase, import_register_wh=1.0, min_w=1.0, coverage=0.5) for phase in list(Phase)[1:]]
        assert group.hear(*phases[:2]) == []
        (found,) = group.hear(phases[2], settled=["mg-1-grid"])
        assert (found.import_wh, found.mean_w, found.samples, found.coverage, found.import_register_wh, found.min_w) == (
            300,
            1200,
            45,
            0.5,
            3.0,
            None,
        )

    def test_a_phase_that_is_missing_lowers_the_coverage(self) -> None:
        group = Group()
        group.hear(*(row("mg-1-grid", phase=phase, import_register_wh=1.0) for phase in list(Phase)[1:]), settled=["mg-1-grid"])
        later = [row("mg-1-grid", 1, phase=phase, import_register_wh=1.0) for phase in (Phase.ONE, Phase.TWO)]
        (found,) = group.hear(*later, settled=["mg-1-grid"], until=END + QUARTER_MS)
        assert (found.import_wh, found.coverage, found.import_register_wh) == (200.0, pytest.approx(2 / 3), None)

    def test_a_meter_on_one_phase_only_is_copied(self) -> None:
        (found,) = Group().hear(row("mg-1-grid", phase=Phase.TWO, min_w=1.0), settled=["mg-1-grid"])
        assert (found.phase, found.min_w, found.coverage) == (Phase.ALL, 1.0, 1.0)

    def test_phase_all_goes_before_single_phases(self) -> None:
        (found,) = Group().hear(row("mg-1-grid", phase=Phase.ONE), row("mg-1-grid", import_wh=7.0), settled=["mg-1-grid"])
        assert found.import_wh == 7.0


class TestSum:
    def test_net_energies_are_summed(self) -> None:
        group = Group(sum_scope())
        assert group.hear(row("load", stored_wh=2.0), settled=["load"]) == []
        pv = row("pv", import_wh=1.0, export_wh=151.0, coverage=0.5, estimated=True, stored_wh=1.0, min_w=-9.0, export_register_wh=5.0)
        (found,) = group.hear(pv, settled=["pv"])
        assert (found.import_wh, found.export_wh, found.net_wh, found.mean_w) == (0.0, 50.0, -50.0, -200.0)
        assert (found.samples, found.coverage, found.stored_wh, found.method) == (30, 0.75, 3.0, Method.SUM)
        assert (found.min_w, found.max_w, found.import_register_wh, found.export_register_wh) == (None, None, None, None)
        assert (found.estimated, found.reset, found.missing_members) == (True, False, 0)

    def test_a_member_without_a_row_is_missing(self) -> None:
        (found,) = Group(sum_scope()).hear(row("load"), settled=["load", "pv"])
        assert (found.missing_members, found.coverage, found.import_wh) == (1, 0.5, 100.0)

    def test_all_missing_no_row(self) -> None:
        group = Group(sum_scope())
        assert group.hear(settled=["load", "pv"]) == []
        assert group.state["quarters"] == {}

    def test_the_deadline_ends_the_waiting(self) -> None:
        group = Group(sum_scope())
        assert group.hear(row("load"), settled=["load"], overdue_until=END - 1) == []
        (found,) = group.hear(overdue_until=END)
        assert (found.missing_members, found.revision) == (1, 1)
        (found,) = group.hear(row("pv", import_wh=10.0), settled=["pv"])
        assert (found.missing_members, found.import_wh, found.revision) == (0, 110.0, 2)

    def test_a_members_revision_gives_the_group_one(self) -> None:
        group = Group(sum_scope())
        (first,) = group.hear(row("load"), row("pv"), settled=["load", "pv"])
        (second,) = group.hear(row("pv", import_wh=150.0, revision=2))
        assert [(one.revision, one.import_wh) for one in (first, second)] == [(1, 200.0), (2, 250.0)]
        assert first.event_id != second.event_id
        assert group.hear(row("pv", import_wh=150.0, revision=3)) == []

    def test_membership_is_that_of_the_quarter(self) -> None:
        group = Group(sum_scope(valid_from=T0 + QUARTER))
        (first,) = group.hear(row("load"), row("pv"), settled=["load"])
        assert (first.import_wh, first.missing_members) == (100.0, 0)
        both = group.hear(row("load", 1), row("pv", 1), settled=["load", "pv"], until=END + QUARTER_MS)
        assert [one.import_wh for one in both] == [200.0]


def test_a_scope_with_two_groups_gets_a_row_each() -> None:
    config = configuration(
        partners=[{"id": "vector"}, {"id": "other"}],
        groups=[
            {"partner_id": "vector", "group_id": "V", "scope_id": "mg-1"},
            {"partner_id": "other", "group_id": "O", "scope_id": "mg-1"},
        ],
    )
    assert [found.id for found in Group(config).hear(row("mg-1-grid"), settled=["mg-1-grid"])] == ["V", "O"]


class TestForgetting:
    def test_what_can_not_change_any_more_leaves_the_state(self) -> None:
        group = Group()
        group.hear(row("mg-1-grid"), settled=["mg-1-grid"])
        group.hear(frozen_until=START)
        assert list(group.state["quarters"]) == [START]
        group.hear(frozen_until=END)
        assert group.state["quarters"] == {}

    def test_a_row_from_before_does_not_begin_the_quarter_anew(self) -> None:
        group = Group()
        group.hear(frozen_until=END)
        assert group.hear(row("mg-1-grid"), settled=["mg-1-grid"]) == []

    def test_all_shards_with_members_must_have_passed(self) -> None:
        group = Group(sum_scope())
        shards = next(n for n in range(2, 50) if shard_of("load", n) != shard_of("pv", n))
        group.hear(row("load"), settled=["load", "pv"], shards=shards, shard=shard_of("load", shards), frozen_until=END)
        assert list(group.state["quarters"]) == [START]
        group.hear(shards=shards, shard=shard_of("pv", shards), frozen_until=END)
        assert group.state["quarters"] == {}


class TestProvisional:
    @staticmethod
    def running(asset_id: str, **values: Any) -> QuarterHour:
        return row(asset_id, revision=0, provisional=True, **values)

    def test_a_round_is_one_row_once_all_shards_have_told(self) -> None:
        group = Group(sum_scope())
        shards = next(n for n in range(2, 50) if shard_of("load", n) != shard_of("pv", n))
        load, pv = shard_of("load", shards), shard_of("pv", shards)
        assert group.hear(shards=shards, shard=load, running=[self.running("load", last_minute_w=300.0)], tick=1) == []
        (found,) = group.hear(shards=shards, shard=pv, running=[self.running("pv", last_minute_w=-100.0, import_wh=20.0)], tick=1)
        assert (found.revision, found.provisional, found.last_minute_w, found.import_wh) == (0, True, 200.0, 120.0)
        assert group.hear(shards=shards, shard=pv, tick=2) == []
        assert len(group.hear(shards=shards, shard=load, tick=2)) == 1

    def test_the_final_row_ends_it(self) -> None:
        group = Group()
        assert len(group.hear(running=[self.running("mg-1-grid", last_minute_w=5.0)], tick=1)) == 1
        (final,) = group.hear(row("mg-1-grid"), settled=["mg-1-grid"])
        assert (final.provisional, final.last_minute_w) == (False, None)
        assert group.hear(tick=2) == []


def test_ticks_say_nothing_and_there_is_no_timer() -> None:
    group = Group()
    assert list(group.rule.step(group.state, Tick(), T0)) == []
    assert group.rule.due(group.state) is None


def test_the_same_row_has_the_same_id_on_every_run() -> None:
    ids = {Group().hear(row("mg-1-grid"), settled=["mg-1-grid"])[0].event_id for _ in range(2)}
    assert len(ids) == 1
    assert timedelta(milliseconds=QUARTER_MS) == QUARTER
