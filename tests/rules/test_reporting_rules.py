"""Rules of reporting that no other test would miss: two partners, horizons, styles, ids (semantics 7.1 to 7.5)."""

from datetime import timedelta
from typing import Any

import pytest

from pipelines.rules.reporting import Owed
from pipelines.rules.reporting_entries import in_unit
from pipelines.rules.reporting_standing import style_for
from schemas.config import Configuration, Measurements, Partner, Style
from schemas.connection import ConnectionState
from schemas.intervals import QUARTER
from schemas.oscp.v20 import Action
from schemas.outbound import OutboundMessage
from schemas.telemetry import Method
from tests.builders import T0, configuration
from tests.rules.lifecycle_world import World
from tests.rules.test_reporting import WRITTEN, Reporting, body, connection, group_row, only, profile, row, values

MS = timedelta(milliseconds=1)
ORPHANS = timedelta(minutes=6)


def asset(name: str, scope: str = "mg-1", category: str = "GENERATION", **more: Any) -> dict[str, Any]:
    return {"id": name, "scope_id": scope, "category": category, **more}


def partners(owed: list[Owed]) -> list[str]:
    return [message.partner_id for message in owed if isinstance(message, OutboundMessage)]


# Who is told


def test_two_partners_on_one_scope_are_told_each_by_its_own_profile_and_standing() -> None:
    config = configuration(
        partners=[{"id": "vector"}, {"id": "wel", "measurements": {"unit": "WH", "directions": {"STORAGE": ["EXPORT"]}}}],
        groups=[{"partner_id": p, "group_id": g, "scope_id": "mg-1"} for p, g in (("vector", "VEC-0001"), ("wel", "WEL-1"))],
    )
    reporting = Reporting(config)
    rows = [row("mg-1-pv", export_wh=7), row("mg-1-bat", import_wh=1, export_wh=2), group_row(), group_row(id="WEL-1")]
    assert partners(reporting.feed(*rows)) == ["vector"]
    owed = reporting.feed(connection(partner_id="wel"))
    assert partners(owed) == ["wel"]
    assert only(owed).group_id == "WEL-1"
    assert values(owed) == {("mg-1-pv", "EXPORT"): 7.0, ("mg-1-bat", "EXPORT"): 2.0}
    reporting.feed(connection(ConnectionState.SUSPENDED, since=T0 + QUARTER))
    following = T0 + QUARTER
    reporting.now = following + WRITTEN
    rows = [row(name, quarter=following) for name in ("mg-1-pv", "mg-1-bat")]
    assert partners(reporting.feed(*rows, group_row(quarter=following), group_row(id="WEL-1", quarter=following))) == ["wel"]


def test_after_a_deregistration_nothing_is_told_until_the_next_handshake_and_that_time_is_not_made_up() -> None:
    reporting = Reporting()
    told = []
    for number in range(5):
        quarter = T0 + number * QUARTER
        end = quarter + QUARTER
        if number == 1:
            reporting.feed(connection(ConnectionState.DEREGISTERED, since=end - MS, first_acknowledged_at=None))
        if number == 3:  # between the quarters' end and their rows: the one that ended before is not owed
            reporting.feed(connection(ConnectionState.REGISTERED, since=end + MS, first_acknowledged_at=None))
            reporting.feed(connection(since=end + 2 * MS, first_acknowledged_at=end + 2 * MS))
        reporting.now = quarter + WRITTEN
        rows = [row(name, quarter=quarter) for name in ("mg-1-pv", "mg-1-bat")]
        told.append(len(reporting.feed(*rows, group_row(quarter=quarter))))
    assert told == [1, 0, 0, 0, 1]
    assert reporting.later(timedelta(hours=1)) == []


def test_a_suspension_ends_when_it_ends_though_an_acknowledgement_is_under_way() -> None:
    """The partner shook hands while it was suspended: between the two it is as good as OFFLINE, which queues."""
    reporting = Reporting()
    reporting.feed(connection(ConnectionState.SUSPENDED, since=T0), connection(ConnectionState.ACKING, since=T0 + 2 * MS))
    assert len(reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row())) == 1
    reporting.feed(connection(ConnectionState.ONLINE, since=T0 + timedelta(hours=1)))
    reporting.feed(row("mg-1-pv", export_wh=11, revision=2, at=reporting.now))
    assert values(reporting.later()) == {("mg-1-pv", "EXPORT"): 0.011}


def test_what_the_lifecycle_withholds_is_withheld_whatever_the_profile_says_meanwhile() -> None:
    """The profile was changed to send both; until the lifecycle says so people are shown that nothing goes, and nothing does."""
    reporting = Reporting(profile(styles=["INTERMITTENT", "CONTINUOUS"]), online=False)
    reporting.feed(connection(peer_required_measurements=["CONTINUOUS"], withheld_since=T0 - QUARTER))
    assert reporting.feed(row("mg-1-pv", export_register_wh=5), row("mg-1-bat"), group_row()) == []
    reporting.feed(connection(at=T0 + QUARTER + MS, peer_required_measurements=["CONTINUOUS"]))
    following = T0 + QUARTER
    reporting.now = following + WRITTEN
    rows = [row("mg-1-pv", quarter=following, export_register_wh=5), row("mg-1-bat", quarter=following), group_row(quarter=following)]
    assert values(reporting.feed(*rows)) == {("mg-1-pv", "EXPORT"): 0.005}


def test_what_is_written_while_measurements_are_withheld_of_a_quarter_before_is_told_when_they_go_again() -> None:
    reporting = Reporting()
    reporting.feed(row("mg-1-pv", export_wh=10), row("mg-1-bat"), group_row())
    withheld = {"peer_required_measurements": ["CONTINUOUS"], "withheld_since": reporting.now}
    reporting.feed(connection(since=T0, at=reporting.now, **withheld))
    reporting.now += timedelta(minutes=1)
    reporting.feed(row("mg-1-pv", export_wh=11, revision=2, at=reporting.now))
    for number in range(1, 20):
        quarter = T0 + number * QUARTER
        reporting.now = quarter + WRITTEN
        rows = [row(name, quarter=quarter) for name in ("mg-1-pv", "mg-1-bat")]
        assert [*reporting.feed(*rows, group_row(quarter=quarter)), *reporting.later()] == []
    assert values(reporting.feed(connection(since=T0, at=reporting.now))) == {("mg-1-pv", "EXPORT"): 0.011}
    assert reporting.later(timedelta(days=1)) == []


def test_what_is_withheld_for_longer_than_it_is_of_use_is_let_go() -> None:
    reporting = Reporting()
    reporting.feed(connection(since=T0, at=T0 + QUARTER, peer_required_measurements=["CONTINUOUS"], withheld_since=T0 + QUARTER))
    assert reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row()) == []
    assert reporting.later(timedelta(days=8)) == []
    assert reporting.rule.due(reporting.state) is None
    assert reporting.feed(connection(since=T0, at=reporting.now)) == []


REQUIRED = ([], ["INTERMITTENT"], ["CONTINUOUS"], ["CONTINUOUS", "INTERMITTENT"])


@pytest.mark.parametrize("required", REQUIRED, ids=repr)
@pytest.mark.parametrize("styles", [(Style.INTERMITTENT,), (Style.CONTINUOUS,), (Style.CONTINUOUS, Style.INTERMITTENT)], ids=repr)
def test_the_lifecycle_says_withheld_exactly_where_no_style_is_left(required: list[str], styles: tuple[Style, ...]) -> None:
    world = World(Partner(id="vector", measurements=Measurements(styles=styles))).registered()
    world.inbound(Action.HANDSHAKE, {"required_behaviour": {"measurement_configuration": required}})
    assert (world.connection.withheld_since is not None) is (style_for(required, styles) is None)


def test_a_connection_meter_in_company_is_told_if_that_is_asked_for() -> None:
    meter = asset("mg-1-grid", category="CONSUMPTION", connection_meter=True)
    for report, told in ((None, ["pv"]), (False, ["pv"]), (True, ["mg-1-grid", "pv"])):
        reporting = Reporting(configuration(assets=[{**meter, "report": report}, asset("pv")]))
        assert [name for name, _ in values(reporting.feed(row("mg-1-grid"), row("pv"), group_row()))] == told
    other = Reporting(configuration(assets=[asset("load", category="CONSUMPTION", report=False), asset("pv")]))
    assert list(values(other.feed(row("load"), row("pv"), group_row()))) == [("pv", "EXPORT")]


# What is told


@pytest.mark.parametrize(
    ("category", "told"),
    [("GENERATION", ["EXPORT"]), ("CONSUMPTION", ["IMPORT"]), ("CHARGING", ["IMPORT"]), ("STORAGE", ["IMPORT", "EXPORT"])],
)
def test_directions_of_each_category(category: str, told: list[str]) -> None:
    reporting = Reporting(configuration(assets=[asset("a", category=category)]))
    owed = reporting.feed(row("a", import_wh=1000, export_wh=2000, stored_wh=5), group_row())
    assert [direction for _, direction in values(owed)] == told
    entries = body(owed)["measurements"]
    assert {entry["asset_category"] for entry in entries} == {category}
    assert ["instantaneous_measurement" in entry for entry in entries] == [category == "STORAGE" and n == 0 for n in range(len(told))]


def test_a_profile_may_ask_for_net_and_for_nothing() -> None:
    reporting = Reporting(profile(directions={"GENERATION": [], "STORAGE": ["NET"]}))
    owed = reporting.feed(row("mg-1-pv"), row("mg-1-bat", import_wh=1, export_wh=3), group_row())
    assert values(owed) == {("mg-1-bat", "NET"): -0.002}
    silent = Reporting(profile(directions={"GENERATION": [], "STORAGE": []}))
    assert [*silent.feed(row("mg-1-pv"), row("mg-1-bat"), group_row()), *silent.later()] == []


def test_a_direction_named_twice_is_told_once() -> None:
    reporting = Reporting(profile(directions={"STORAGE": ["EXPORT", "EXPORT"]}))
    entries = body(reporting.feed(row("mg-1-pv"), row("mg-1-bat", stored_wh=5), group_row()))["measurements"]
    assert [entry["asset_id"] for entry in entries] == ["mg-1-pv", "mg-1-bat"]


def test_the_state_of_charge_is_on_the_first_entry_of_whatever_direction() -> None:
    both = {"styles": ["INTERMITTENT", "CONTINUOUS"], "directions": {"STORAGE": ["EXPORT", "IMPORT"]}}
    reporting = Reporting(profile(**both), online=False)
    reporting.feed(connection(peer_required_measurements=["CONTINUOUS"]))
    owed = reporting.feed(row("mg-1-pv", export_register_wh=1), row("mg-1-bat", import_register_wh=4, stored_wh=5), group_row())
    pv, battery = body(owed)["measurements"]
    assert "instantaneous_measurement" not in pv
    assert (battery["energy_measurement"]["direction"], battery["instantaneous_measurement"]["value"]) == ("IMPORT", 5.0)


def test_a_state_of_charge_that_alone_changed_is_told_with_the_first_entry_alone() -> None:
    reporting = Reporting()
    reporting.feed(row("mg-1-pv"), row("mg-1-bat", stored_wh=5), group_row())
    reporting.feed(row("mg-1-bat", stored_wh=6, revision=2, at=reporting.now))
    (entry,) = body(reporting.later())["measurements"]
    assert (entry["energy_measurement"]["direction"], entry["instantaneous_measurement"]["value"]) == ("IMPORT", 6.0)


def test_continuous_is_the_register_at_the_quarters_end_in_the_groups_messages_too() -> None:
    reporting = Reporting(profile(styles=["CONTINUOUS", "INTERMITTENT"], messages=["ASSET", "GROUP"], unit="WH"), online=False)
    reporting.feed(connection(peer_required_measurements=["CONTINUOUS"]))
    registers = {"import_register_wh": 5000.1234, "export_register_wh": 1000.0}
    assets, group = reporting.feed(row("mg-1-pv", **registers), row("mg-1-bat", **registers), group_row(**registers))
    energies = [entry["energy_measurement"] for entry in body([assets])["measurements"]]
    assert [(each["direction"], each["value"]) for each in energies] == [("EXPORT", 1000.0), ("IMPORT", 5000.123), ("EXPORT", 1000.0)]
    (net,) = body([group])["measurements"]
    assert (net["direction"], net["value"]) == ("NET", 4000.123)
    for each in [*energies, net]:
        assert (each["measure_time"], "initial_measure_time" in each) == ("2026-10-20T10:15:00.000Z", False)
    following = T0 + QUARTER
    reporting.now = following + WRITTEN
    without = reporting.feed(*(row(name, quarter=following) for name in ("mg-1-pv", "mg-1-bat")), group_row(quarter=following))
    assert [*without, *reporting.later()] == []  # no registers: nothing, and no energies in their place


@pytest.mark.parametrize(
    ("wh", "in_wh", "in_kwh"),
    [
        (0.00051, 0.001, 0.000001),
        (0.00049, 0.0, 0.0),
        (-0.0004, 0.0, 0.0),
        (-0.0006, -0.001, -0.000001),
        (1234.5674999, 1234.567, 1.234567),
        (1234.5675001, 1234.568, 1.234568),
        (123456789.0004, 123456789.0, 123456.789),
    ],
)
def test_values_are_rounded_to_a_thousandth_of_a_watt_hour(wh: float, in_wh: float, in_kwh: float) -> None:
    found = in_unit(wh, "WH"), in_unit(wh, "KWH")
    assert [repr(value) for value in found] == [repr(in_wh), repr(in_kwh)]


@pytest.mark.parametrize("thousandths", [0.5, 1.5, 2.5, 1234567.5, -0.5, -1.5])
def test_a_half_goes_one_way_or_the_other_and_no_further(thousandths: float) -> None:
    wh = thousandths / 1000
    for value in (in_unit(wh, "WH"), in_unit(wh, "KWH") * 1000):
        assert abs(value - wh) == pytest.approx(0.0005, rel=1e-4)
        assert repr(value) != "-0.0"


# What comes later


@pytest.mark.parametrize("horizon", ["P7D", "P1D", "P20D"])
def test_the_report_horizon_is_kept_to_the_millisecond(horizon: str) -> None:
    days = timedelta(days=int(horizon[1:-1]))
    for late, told in ((timedelta(0), 1), (MS, 0)):
        reporting = Reporting(profile(report_horizon=horizon))
        reporting.now = T0 + QUARTER + days + late
        reporting.feed(row("mg-1-pv", at=reporting.now, revision=2, export_wh=3))
        assert len(reporting.later()) == told


def test_of_several_revisions_written_together_the_last_one_is_told() -> None:
    reporting = Reporting()
    reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row())
    at = reporting.now
    reporting.feed(row("mg-1-pv", revision=3, at=at, export_wh=30), row("mg-1-pv", revision=2, at=at, export_wh=20))
    assert values(reporting.later()) == {("mg-1-pv", "EXPORT"): 0.03}


def test_a_repair_of_a_day_tells_each_quarter_what_changed_in_it() -> None:
    reporting = Reporting()
    reporting.now = T0 + timedelta(days=6)
    for number in range(96):
        quarter = T0 + number * QUARTER
        rows = [row("mg-1-pv", quarter=quarter, export_wh=number, revision=2, at=reporting.now)]
        reporting.feed(*rows, group_row(quarter=quarter, revision=2, at=reporting.now))
    owed = reporting.later()
    assert len(owed) == 96
    assert sum(sum(values([message]).values()) for message in owed) == pytest.approx(sum(range(96)) / 1000)


def test_a_repair_of_one_phase_tells_the_sum_though_the_quarter_was_forgotten() -> None:
    """The repair says the other phases again beside it (`repair_rows`)."""
    reporting = Reporting(configuration(assets=[asset("pv")]))
    reporting.now = at = T0 + timedelta(days=1)
    revised = {"ONE": (1, 10), "TWO": (2, 21), "THREE": (1, 30)}
    reporting.feed(*(row("pv", phase=phase, export_wh=wh, revision=number, at=at) for phase, (number, wh) in revised.items()))
    assert values(reporting.later()) == {("pv", "EXPORT"): 0.061}


def test_an_asset_of_which_both_is_known_is_told_as_its_whole_after_a_change_of_a_phase() -> None:
    reporting = Reporting(configuration(assets=[asset("pv")]))
    both = [row("pv", export_wh=100), *(row("pv", phase=phase, export_wh=wh) for phase, wh in (("ONE", 10), ("TWO", 20)))]
    assert values([*reporting.feed(*both, group_row(method=Method.SUM)), *reporting.later()]) == {("pv", "EXPORT"): 0.1}
    reporting.feed(row("pv", phase="TWO", export_wh=21, revision=2, at=reporting.now))
    assert reporting.later() == []


# Ids


def test_ids_follow_from_partner_action_quarter_and_what_is_said() -> None:
    def id_of(config: Configuration | None = None, quarter: int = 0, **changes: Any) -> str:
        reporting = Reporting(config)
        start = T0 + quarter * QUARTER
        reporting.now = start + WRITTEN
        owed = reporting.feed(row("mg-1-pv", quarter=start, **changes), row("mg-1-bat", quarter=start), group_row(quarter=start))
        return only(owed).message_id

    same = {id_of(), id_of(), id_of(samples=3, event_id="another")}
    assert len(same) == 1
    other = [id_of(quarter=1), id_of(export_wh=11.0), id_of(revision=2), id_of(profile(unit="WH"))]
    assert len({*same, *other}) == 5
    other_partner = configuration(
        partners=[{"id": "vector"}, {"id": "wel"}],
        groups=[{"partner_id": p, "group_id": g, "scope_id": "mg-1"} for p, g in (("vector", "VEC-0001"), ("wel", "WEL-1"))],
    )
    reporting = Reporting(other_partner)
    reporting.feed(connection(partner_id="wel"))
    owed = reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row(), group_row(id="WEL-1"))
    assert len({message.message_id for message in owed if isinstance(message, OutboundMessage)}) == 2
