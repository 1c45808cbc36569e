"""Group rows: the meter's, or the sum; when they are written; and what members' revisions do to them (semantics 2)."""

import io
import pickle
from typing import Any

import pytest

from pipelines.rules import group_shard
from pipelines.rules.group_snapshot import VERSION, dump, load
from schemas.config import Configuration
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.telemetry import Level, Method
from schemas.units import Phase
from tests.builders import T0, configuration
from tests.rules.grouping import END, START, Groups, instant, news, row, running

LATER = END + QUARTER_MS


def sum_scope(**changes: Any) -> Configuration:
    """A scope of two assets and no connection meter, bound to one group."""
    assets = [
        {"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"},
        {"id": "pv", "scope_id": "mg-1", "category": "GENERATION", **changes},
    ]
    return configuration(assets=assets)


class TestMeter:
    def test_the_meters_row_is_the_groups_and_nobody_else_is_waited_for(self) -> None:
        groups = Groups()
        values = {
            "min_w": -5.0, "max_w": 900.0, "stored_wh": 3.0, "import_register_wh": 7.0, "coverage": 0.8, "estimated": True, "reset": True,
        }  # fmt: skip
        assert groups.hear(row("mg-1-pv", import_wh=0.0, export_wh=50.0), settled=["mg-1-pv"]) == []
        (found,) = groups.hear(row("mg-1-grid", **values), settled=["mg-1-grid"])
        said = (found.level, found.id, found.scope_id, found.phase, found.method)
        assert said == (Level.GROUP, "VEC-0001", "mg-1", Phase.ALL, Method.METER)
        assert (found.import_wh, found.net_wh, found.mean_w, found.samples, found.missing_members) == (100.0, 100.0, 400.0, 15, 0)
        assert {name: getattr(found, name) for name in values} == values
        assert (found.revision, found.provisional, found.start, found.at) == (1, False, T0, T0)

    def test_no_meter_row_no_group_row(self) -> None:
        groups = Groups()
        assert groups.hear(row("mg-1-pv"), settled=["mg-1-pv", "mg-1-bat", "mg-1-grid"], overdue_until=END) == []

    def test_the_sum_of_three_phases(self) -> None:
        groups = Groups()
        phases = [row("mg-1-grid", phase=phase, import_register_wh=1.0, min_w=1.0, coverage=0.5) for phase in list(Phase)[1:]]
        assert groups.hear(*phases[:2]) == []
        (found,) = groups.hear(phases[2], settled=["mg-1-grid"])
        assert (found.import_wh, found.mean_w, found.samples, found.coverage) == (300, 1200, 45, 0.5)
        assert (found.import_register_wh, found.min_w) == (3.0, None)

    def test_a_phase_that_is_missing_lowers_the_coverage(self) -> None:
        groups = Groups()
        groups.hear(*(row("mg-1-grid", phase=phase, import_register_wh=1.0) for phase in list(Phase)[1:]), settled=["mg-1-grid"])
        later = [row("mg-1-grid", 1, phase=phase, import_register_wh=1.0) for phase in (Phase.ONE, Phase.TWO)]
        (found,) = groups.hear(*later, settled=["mg-1-grid"], until=LATER)
        assert (found.import_wh, found.coverage, found.import_register_wh) == (200.0, pytest.approx(2 / 3), None)

    def test_a_phase_is_missing_from_its_first_quarter_on_whatever_comes_first(self) -> None:
        groups = Groups()
        first, second = ([row("mg-1-grid", n, phase=phase, coverage=1.0) for phase in (Phase.ONE, Phase.TWO)] for n in (0, 1))
        (found,) = groups.hear(second[0], settled=["mg-1-grid"], until=LATER)
        assert (found.start, found.coverage) == (instant(1), 1.0)
        again = groups.hear(*first)
        assert [(one.start, one.revision, one.coverage) for one in again] == [(instant(0), 1, 1.0), (instant(1), 2, 0.5)]

    def test_a_meter_on_one_phase_only_is_copied(self) -> None:
        (found,) = Groups().hear(row("mg-1-grid", phase=Phase.TWO, min_w=1.0), settled=["mg-1-grid"])
        assert (found.phase, found.min_w, found.coverage) == (Phase.ALL, 1.0, 1.0)

    def test_phase_all_goes_before_single_phases(self) -> None:
        (found,) = Groups().hear(row("mg-1-grid", phase=Phase.ONE), row("mg-1-grid", import_wh=7.0), settled=["mg-1-grid"])
        assert found.import_wh == 7.0


class TestSum:
    def test_net_energies_are_summed(self) -> None:
        groups = Groups(sum_scope())
        assert groups.hear(row("load", stored_wh=2.0), settled=["load"]) == []
        pv = row("pv", import_wh=1.0, export_wh=151.0, coverage=0.5, estimated=True, stored_wh=1.0, min_w=-9.0, export_register_wh=5.0)
        (found,) = groups.hear(pv, settled=["pv"])
        assert (found.import_wh, found.export_wh, found.net_wh, found.mean_w) == (0.0, 50.0, -50.0, -200.0)
        assert (found.samples, found.coverage, found.stored_wh, found.method) == (30, 0.75, 3.0, Method.SUM)
        assert (found.min_w, found.max_w, found.import_register_wh, found.export_register_wh) == (None, None, None, None)
        assert (found.estimated, found.reset, found.missing_members) == (True, False, 0)

    def test_a_member_without_a_row_is_missing(self) -> None:
        (found,) = Groups(sum_scope()).hear(row("load"), settled=["load", "pv"])
        assert (found.missing_members, found.coverage, found.import_wh) == (1, 0.5, 100.0)

    def test_all_missing_no_row(self) -> None:
        groups = Groups(sum_scope())
        assert groups.hear(settled=["load", "pv"], overdue_until=END) == []
        assert groups.quarters() == []

    def test_the_deadline_ends_the_waiting(self) -> None:
        groups = Groups(sum_scope())
        assert groups.hear(row("load"), settled=["load"], overdue_until=END - 1) == []
        (found,) = groups.hear(overdue_until=END)
        assert (found.missing_members, found.revision) == (1, 1)
        (found,) = groups.hear(row("pv", import_wh=10.0), settled=["pv"])
        assert (found.missing_members, found.import_wh, found.revision) == (0, 110.0, 2)

    def test_the_deadline_has_to_pass_in_all_telemetry_shards_so_that_their_rows_come_first(self) -> None:
        groups = Groups(sum_scope(), shards=3)
        assert groups.hear(row("load"), settled=["load"], overdue_until=END) == []
        assert groups.hear(shard=2, overdue_until=LATER) == []
        (found,) = groups.hear(row("pv"), shard=1, overdue_until=END)
        assert (found.missing_members, found.import_wh) == (0, 200.0)

    def test_a_members_revision_gives_the_group_one(self) -> None:
        groups = Groups(sum_scope())
        (first,) = groups.hear(row("load"), row("pv"), settled=["load", "pv"])
        (second,) = groups.hear(row("pv", import_wh=150.0, revision=2))
        assert [(one.revision, one.import_wh) for one in (first, second)] == [(1, 200.0), (2, 250.0)]
        assert first.event_id != second.event_id
        assert groups.hear(row("pv", import_wh=150.0, revision=3)) == []


def test_a_scope_with_two_groups_gets_a_row_each() -> None:
    config = configuration(
        partners=[{"id": "vector"}, {"id": "other"}],
        groups=[
            {"partner_id": "vector", "group_id": "V", "scope_id": "mg-1"},
            {"partner_id": "other", "group_id": "O", "scope_id": "mg-1"},
        ],
    )
    assert {found.id for found in Groups(config).hear(row("mg-1-grid"), settled=["mg-1-grid"])} == {"V", "O"}


class TestForgetting:
    def test_what_can_not_change_any_more_leaves_the_state(self) -> None:
        groups = Groups()
        groups.hear(row("mg-1-grid"), settled=["mg-1-grid"])
        groups.hear(frozen_until=START)
        assert groups.quarters() == [0]
        groups.hear(frozen_until=END)
        assert groups.quarters() == []

    def test_a_row_from_before_does_not_begin_the_quarter_anew(self) -> None:
        groups = Groups()
        groups.hear(frozen_until=END)
        assert groups.hear(row("mg-1-grid"), settled=["mg-1-grid"]) == []

    def test_all_telemetry_shards_must_have_passed(self) -> None:
        groups = Groups(sum_scope(), shards=2)
        groups.hear(row("load"), row("pv"), settled=["load", "pv"], frozen_until=END)
        assert groups.quarters() == [0]
        groups.hear(shard=1, frozen_until=END)
        assert groups.quarters() == []

    def test_assets_that_are_bound_nowhere_any_more_leave_once_they_are_many(self) -> None:
        many = [{"id": f"a{n:03d}", "scope_id": "mg-1", "category": "STORAGE"} for n in range(200)]
        groups = Groups(configuration(assets=many))
        everyone = [one["id"] for one in many]
        groups.hear(*(row(name, phase=phase) for name in everyone for phase in (Phase.ONE, Phase.TWO)), settled=everyone)
        groups.config = configuration(assets=many[150:])
        for passed in (0, END):
            groups.hear(frozen_until=passed)
            groups.config = groups.config.model_copy()
        groups.hear()
        assert len(groups.shard.seats.marks) == 50
        rows = [row(name, 1, phase=phase, import_wh=float(n)) for n, name in enumerate(everyone[150:]) for phase in (Phase.ONE, Phase.TWO)]
        (found,) = groups.hear(*rows, settled=everyone[150:], until=LATER)
        assert (found.import_wh, found.missing_members, found.coverage) == (2450.0, 0, 1.0)


class TestFarBehind:
    """One telemetry shard's partition is days behind, or stands still: it holds up what can change, but not what is kept."""

    DAYS = 3 * 96

    @pytest.fixture(autouse=True)
    def _no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As where the scopes have many members."""
        monkeypatch.setattr(group_shard, "MOST_ROWS", 0)

    def test_where_they_take_little_more_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(group_shard, "MOST_ROWS", 2 * 150)
        assert self.caught_up().quarters() == list(range(self.DAYS - 150, self.DAYS))
        monkeypatch.setattr(group_shard, "MOST_QUARTERS", 120)
        assert self.caught_up().quarters() == list(range(self.DAYS - 120, self.DAYS))

    def caught_up(self) -> Groups:
        """`load` is up to date, `pv` speaks of the first quarter only; nothing can be forgotten for it."""
        groups = Groups(sum_scope(), shards=2)
        groups.hear(row("pv"), shard=1, settled=["pv"])
        for quarter in range(self.DAYS):
            end = END + quarter * QUARTER_MS
            groups.hear(row("load", quarter), settled=["load"], until=end, overdue_until=end)
            groups.hear(shard=1, overdue_until=end)
        return groups

    def test_quarters_are_bounded(self) -> None:
        kept = self.caught_up().quarters()
        assert kept == list(range(self.DAYS - 100, self.DAYS))

    def test_its_rows_within_what_is_kept_revise_the_groups(self) -> None:
        groups = self.caught_up()
        (found,) = groups.hear(row("pv", self.DAYS - 50), shard=1, settled=["pv"], until=END)
        assert (found.start, found.import_wh, found.revision, found.missing_members) == (instant(self.DAYS - 50), 200.0, 2, 0)
        assert groups.shard.passed == {}

    def test_those_from_before_are_told_of_and_never_make_a_row_of_less(self) -> None:
        groups = self.caught_up()
        for _ in range(2):
            assert groups.hear(row("pv", 1), row("pv", 2), live=[running("pv", 3)], shard=1, settled=["pv"], until=LATER) == []
            assert groups.shard.passed == {("mg-1", START + number * QUARTER_MS): 1 for number in (1, 2)}
            groups.restart()
        groups.hear(row("load", self.DAYS))
        assert groups.shard.passed == {}

    def test_rows_of_scopes_without_a_group_then_are_nobodys_loss(self) -> None:
        groups = Groups(sum_scope(valid_from=instant(2)))
        groups.hear(frozen_until=END + 3 * QUARTER_MS)
        groups.hear(row("pv", 1), row("pv", 2), row("stranger", 2))
        assert groups.shard.passed == {("mg-1", START + 2 * QUARTER_MS): 1}

    def test_what_is_not_overdue_yet_stays(self) -> None:
        groups = Groups(sum_scope(), shards=2)
        for quarter in range(self.DAYS):
            groups.hear(row("load", quarter), settled=["load"], until=END + quarter * QUARTER_MS)
        assert len(groups.quarters()) == self.DAYS

    def test_where_all_but_one_are_far_behind_nothing_is_lost(self) -> None:
        """A backlog of days in all partitions but one that had little."""
        groups = Groups(sum_scope(), shards=2)
        ahead = END + self.DAYS * QUARTER_MS
        for shard in (0, 1):
            groups.hear(row("other", self.DAYS), shard=shard, overdue_until=ahead)
        for quarter in range(200):
            end = END + quarter * QUARTER_MS
            found = groups.hear(row("load", quarter), row("pv", quarter), settled=["load", "pv"], until=end, frozen_until=end - QUARTER_MS)
            groups.hear(shard=1, frozen_until=end - QUARTER_MS)
            assert [(one.start, one.import_wh, one.missing_members) for one in found] == [(instant(quarter), 200.0, 0)]
        assert len(groups.quarters()) == 2


class TestProvisional:
    def test_a_round_is_one_row_once_all_telemetry_shards_have_told(self) -> None:
        groups = Groups(sum_scope(), shards=2)
        assert groups.hear(live=[running("load", last_minute_w=300.0)], tick=1) == []
        (found,) = groups.hear(shard=1, live=[running("pv", last_minute_w=-100.0, import_wh=20.0)], tick=1)
        assert (found.revision, found.provisional, found.last_minute_w, found.import_wh) == (0, True, 200.0, 120.0)
        assert groups.hear(shard=1, tick=2) == []
        assert len(groups.hear(tick=2)) == 1

    def test_a_members_final_row_goes_before_its_provisional_one(self) -> None:
        groups = Groups(sum_scope())
        groups.hear(live=[running("load", import_wh=1.0), running("pv", import_wh=5.0, last_minute_w=1.0)], tick=1)
        (found,) = groups.hear(row("load", import_wh=2.0, last_minute_w=8.0), settled=["load"], tick=2)
        assert (found.provisional, found.import_wh, found.last_minute_w) == (True, 7.0, 1.0)

    def test_the_final_row_ends_it(self) -> None:
        groups = Groups()
        assert len(groups.hear(live=[running("mg-1-grid", last_minute_w=5.0)], tick=1)) == 1
        (final,) = groups.hear(row("mg-1-grid"), settled=["mg-1-grid"])
        assert (final.provisional, final.last_minute_w) == (False, None)
        assert groups.hear(tick=2) == []
        assert not len(groups.shard.quarters[START].running.marks)

    def test_others_rows_are_no_reason_for_one(self) -> None:
        groups = Groups()
        assert groups.hear(live=[running("mg-1-pv")], tick=1) == []


class TestBindings:
    """Members as they were in the quarter, and changes that take effect at the next whole one."""

    def test_membership_is_that_of_the_quarter(self) -> None:
        groups = Groups(sum_scope(valid_from=instant(1)))
        (first,) = groups.hear(row("load"), row("pv"), settled=["load"])
        assert (first.import_wh, first.missing_members) == (100.0, 0)
        both = groups.hear(row("load", 1), row("pv", 1), settled=["load", "pv"], until=LATER)
        assert [one.import_wh for one in both] == [200.0]

    def test_a_member_that_leaves_counts_up_to_the_end_of_its_quarter(self) -> None:
        groups = Groups(sum_scope())
        groups.clock.set(instant(0.5))
        groups.hear()
        groups.config = configuration(assets=[{"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"}])
        groups.hear()
        groups.restart()
        (found,) = groups.hear(row("load"), row("pv"), settled=["load", "pv"])
        assert (found.import_wh, found.missing_members) == (200.0, 0)
        (found,) = groups.hear(row("load", 1), row("pv", 1), settled=["load", "pv"], until=LATER)
        assert (found.import_wh, found.missing_members) == (100.0, 0)
        (found,) = groups.hear(row("pv", import_wh=0.5, revision=2))
        assert (found.start, found.import_wh, found.revision) == (T0, 100.5, 2)

    def test_a_member_from_another_scope_counts_from_the_next_quarter(self) -> None:
        def config(scope: str) -> Configuration:
            assets = [
                {"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"},
                {"id": "pv", "scope_id": scope, "category": "GENERATION"},
            ]
            return configuration(scopes=[{"id": "mg-1"}, {"id": "elsewhere"}], circuits=[], assets=assets)

        groups = Groups(config("elsewhere"), shards=2)
        groups.clock.set(instant(0.5))
        groups.hear_all()
        groups.config = config("mg-1")
        assert [one.import_wh for one in groups.hear(row("load"), row("pv"), settled=["load", "pv"])] == [100.0]
        assert [one.import_wh for one in groups.hear(row("load", 1), row("pv", 1), settled=["load", "pv"], until=LATER)] == [200.0]

    def test_what_comes_back_counts_from_then_on(self) -> None:
        groups = Groups(sum_scope())
        for at, config in ((0.5, configuration(assets=sum_scope().model_dump()["assets"][:1])), (1.5, sum_scope())):
            groups.clock.set(instant(at))
            groups.config = config
        rows = [row(name, n) for n in (0, 1, 2) for name in ("load", "pv")]
        found = groups.hear(*rows, settled=["load", "pv"], until=END + 2 * QUARTER_MS)
        assert [(one.import_wh, one.missing_members) for one in found] == [(200.0, 0), (100.0, 0), (200.0, 0)]

    def test_an_asset_that_changes_twice_before_anybody_looks_counts_where_it_was(self) -> None:
        def config(scope: str) -> Configuration:
            assets = [
                {"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"},
                {"id": "pv", "scope_id": scope, "category": "GENERATION"},
            ]
            return configuration(scopes=[{"id": "mg-1"}, {"id": "b"}, {"id": "c"}], circuits=[], assets=assets)

        groups = Groups(config("b"))
        for at, scope in ((0.5, "mg-1"), (1.5, "c")):
            groups.clock.set(instant(at))
            groups.config = config(scope)
        groups.clock.set(instant(9))
        rows = [row(name, n) for n in (0, 1, 2) for name in ("load", "pv")]
        found = groups.hear(*rows, settled=["load", "pv"], until=END + 2 * QUARTER_MS)
        assert [one.import_wh for one in found] == [100.0, 200.0, 100.0]

    def test_a_first_binding_has_no_beginning(self) -> None:
        groups = Groups(configuration(assets=[{"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"}]))
        groups.clock.set(instant(0.5))
        assert len(groups.hear(row("load"), settled=["load"])) == 1
        groups.config = sum_scope()
        assert groups.hear() == []  # it is waited for
        (found,) = groups.hear(row("pv"), settled=["pv"])
        assert (found.import_wh, found.revision) == (200.0, 2)

    def test_another_meter_takes_over_at_the_next_quarter(self) -> None:
        def config(meter: str) -> Configuration:
            assets = [
                {"id": name, "scope_id": "mg-1", "category": "CONSUMPTION", "connection_meter": name == meter} for name in ("load", "pv")
            ]
            return configuration(assets=assets)

        groups = Groups(config("load"))
        groups.clock.set(instant(0.5))
        groups.hear()
        groups.config = config("pv")
        rows = [row(name, n, import_wh=wh) for n in (0, 1) for name, wh in (("load", 1.0), ("pv", 2.0))]
        found = groups.hear(*rows, settled=["load", "pv"], until=LATER)
        assert [(one.start, one.method, one.import_wh) for one in found] == [
            (instant(0), Method.METER, 1.0),
            (instant(1), Method.METER, 2.0),
        ]

    def test_an_end_that_is_set_is_an_instant_of_its_own(self) -> None:
        groups = Groups(sum_scope())
        groups.clock.set(instant(1.5))
        groups.hear(row("load"), row("pv"), settled=["load", "pv"])
        groups.config = sum_scope(valid_to=instant(0))
        (found,) = groups.hear()
        assert (found.start, found.revision, found.import_wh, found.missing_members) == (T0, 2, 100.0, 0)

    def test_a_group_that_goes_to_another_scope_keeps_its_quarter(self) -> None:
        def config(scope: str) -> Configuration:
            assets = [{"id": name, "scope_id": name, "category": "CONSUMPTION"} for name in ("here", "there")]
            groups = [{"partner_id": "vector", "group_id": "V", "scope_id": scope}]
            return configuration(scopes=[{"id": "here"}, {"id": "there"}], circuits=[], assets=assets, groups=groups)

        groups = Groups(config("here"))
        groups.clock.set(instant(0.5))
        groups.hear()
        groups.config = config("there")
        rows = [row(name, n, import_wh=wh) for n in (0, 1) for name, wh in (("here", 1.0), ("there", 2.0))]
        found = groups.hear(*rows, settled=["here", "there"], until=LATER)
        assert [(one.start, one.scope_id, one.import_wh) for one in found] == [(instant(0), "here", 1.0), (instant(1), "there", 2.0)]


def test_the_same_row_has_the_same_id_on_every_run() -> None:
    ids = {Groups().hear(row("mg-1-grid"), settled=["mg-1-grid"])[0].event_id for _ in range(2)}
    assert len(ids) == 1


class TestSnapshot:
    def test_state_of_another_version_is_refused_with_the_cure(self) -> None:
        groups = Groups()
        groups.hear(row("mg-1-grid"))
        state = pickle.loads(dump(groups.shard))
        with pytest.raises(ValueError, match=rf"version 99, .*version {VERSION}; move the store away"):
            load(pickle.dumps(state | {"version": 99}))

    def test_one_that_has_bindings_too_is_read_without_them(self) -> None:
        groups = Groups()
        groups.hear(row("mg-1-grid"))
        before = pickle.loads(dump(groups.shard)) | {"version": 2, "assets": (None, [("mg-1-grid",)], []), "groups": (None, [], [])}
        groups.shard = load(pickle.dumps(before))
        (found,) = groups.hear(settled=["mg-1-grid"])
        assert found.import_wh == 100.0

    def test_state_of_before_there_were_versions_is_refused(self) -> None:
        before = {"quarters": {}, "settled": {}, "phases": {}, "overdue": 0, "frozen": {}, "gone": 0, "ticks": {}, "ticked": 0}
        with pytest.raises(ValueError, match="groups of version 1"):
            load(pickle.dumps(before))

    def test_it_holds_arrays_and_plain_types_only(self) -> None:
        groups = Groups()
        groups.hear(row("mg-1-grid"), live=[running("mg-1-pv", 1)], settled=["mg-1-grid"], tick=1)
        allowed = {"numpy.dtype", "numpy.ndarray", "numpy._core.multiarray._reconstruct", "numpy._core.numeric._frombuffer"}

        class Reader(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                assert f"{module}.{name}" in allowed
                return super().find_class(module, name)

        assert Reader(io.BytesIO(dump(groups.shard))).load()["version"] == VERSION


def test_news_of_an_asset_nobody_knows_is_kept_for_when_it_is_known() -> None:
    groups = Groups(configuration(assets=[{"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"}]))
    assert groups.take(news(row("pv"), settled=["pv"])) == []
    groups.config = sum_scope()
    (found,) = groups.hear(row("load"), settled=["load"])
    assert found.import_wh == 200.0


def test_news_that_come_together_are_summed_once_whoever_is_waited_for() -> None:
    """Where nobody is waited for any more, as in a backlog, each shard's rows alone would be a revision of the group."""
    late = {"until": LATER, "overdue_until": LATER}
    parts = [
        news(row(each), row(each, 1), settled=[each], shard=shard, shards=2, **late) for shard, each in enumerate(("load", "pv"))
    ]  # fmt: skip
    together, apart = Groups(sum_scope(), shards=2), Groups(sum_scope(), shards=2)
    found = together.take(*parts)
    assert [(one.start, one.import_wh, one.missing_members, one.revision) for one in found] == [
        (T0, 200.0, 0, 1), (T0 + QUARTER, 200.0, 0, 1)
    ]  # fmt: skip
    last = {one.start: one for part in parts for one in apart.take(part)}
    assert [(one.start, one.import_wh, one.missing_members) for one in last.values()] == [(T0, 200.0, 0), (T0 + QUARTER, 200.0, 0)]
