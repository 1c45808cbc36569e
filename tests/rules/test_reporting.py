"""What partners are told: measurements by quarter, corrections, compliance errors, operators' messages (semantics 7)."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records import Tick
from pipelines.rules.reporting import Item, Owed, ReportingRule, ScopeState
from pipelines.rules.reporting_entries import MAX_ENTRIES, in_unit
from pipelines.rules.reporting_standing import style_for
from schemas.config import Configuration, Style
from schemas.connection import Connection, ConnectionState
from schemas.intervals import QUARTER
from schemas.oscp.v20 import MODELS, UpdateAssetMeasurements
from schemas.outbound import OutboundMessage
from schemas.telemetry import Level, Method, QuarterHour
from tests.builders import T0, configuration

WRITTEN = timedelta(minutes=16)


def row(asset: str, *, quarter: datetime = T0, at: datetime | None = None, level: Level = Level.ASSET, **changes: Any) -> QuarterHour:
    plain: dict[str, Any] = {
        "event_id": f"{asset}-{quarter.isoformat()}-{changes.get('revision', 1)}-{changes.get('phase', 'ALL')}",
        "at": at or quarter + WRITTEN,
        "level": level,
        "id": asset,
        "scope_id": "mg-1",
        "start": quarter,
        "import_wh": 1234.5678,
        "export_wh": 10.0,
        "net_wh": 1224.5678,
        "mean_w": 4898.0,
        "samples": 15,
        "coverage": 1.0,
        "method": Method.REGISTER,
        "revision": 1,
    }
    return QuarterHour.model_validate({**plain, **changes})


def group_row(**changes: Any) -> QuarterHour:
    return row("VEC-0001", level=Level.GROUP, **{"method": Method.METER, **changes})


def connection(state: ConnectionState = ConnectionState.ONLINE, *, since: datetime = T0 - QUARTER, **changes: Any) -> Connection:
    plain: dict[str, Any] = {"event_id": f"c-{since}", "at": since, "partner_id": "vector", "state": state, "since": since}
    return Connection.model_validate({**plain, "first_acknowledged_at": T0 - QUARTER, **changes})


class Reporting:
    """One scope's rule with its state and clock."""

    def __init__(self, config: Configuration | None = None, *, online: bool = True) -> None:
        self.config = config or configuration()
        self.rule = ReportingRule(lambda: self.config)
        self.state: ScopeState = self.rule.start("mg-1")
        self.now = T0 + WRITTEN
        if online:
            self.feed(connection())

    def feed(self, *items: Item | Tick) -> list[Owed]:
        return [owed for item in items for owed in self.rule.step(self.state, item, self.now)]

    def later(self, duration: timedelta = timedelta(seconds=31)) -> list[Owed]:
        self.now += duration
        return self.feed(Tick())


def only(owed: list[Owed]) -> OutboundMessage:
    (message,) = owed
    assert isinstance(message, OutboundMessage)
    return message


def body(owed: list[Owed]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(only(owed).body)
    MODELS[only(owed).action].model_validate(found)
    return found


def values(owed: list[Owed]) -> dict[tuple[str, str], float]:
    entries = body(owed)["measurements"]
    return {(e["asset_id"], e["energy_measurement"]["direction"]): e["energy_measurement"]["value"] for e in entries}


def test_a_quarter_becomes_one_message_with_an_entry_for_each_asset_and_direction() -> None:
    reporting = Reporting()
    assert reporting.feed(row("mg-1-pv", export_wh=500.0), row("mg-1-bat", import_wh=100, export_wh=0, stored_wh=7000.12345)) == []
    owed = reporting.feed(group_row())
    message = only(owed)
    assert (message.action, message.partner_id, message.group_id) == ("UpdateAssetMeasurements", "vector", "VEC-0001")
    assert message.expires_at == T0 + WRITTEN + timedelta(days=7)
    assert message.cause_id == group_row().event_id
    assert body(owed)["measurements"] == [
        {
            "asset_id": "mg-1-pv",
            "asset_category": "GENERATION",
            "energy_measurement": {
                "value": 0.5,
                "phase": "ALL",
                "unit": "KWH",
                "direction": "EXPORT",
                "measure_time": "2026-10-20T10:15:00.000Z",
                "initial_measure_time": "2026-10-20T10:00:00.000Z",
            },
        },
        {
            "asset_id": "mg-1-bat",
            "asset_category": "STORAGE",
            "energy_measurement": {
                "value": 0.1,
                "phase": "ALL",
                "unit": "KWH",
                "direction": "IMPORT",
                "measure_time": "2026-10-20T10:15:00.000Z",
                "initial_measure_time": "2026-10-20T10:00:00.000Z",
            },
            "instantaneous_measurement": {"value": 7000.123, "phase": "ALL", "unit": "WH", "measure_time": "2026-10-20T10:15:00.000Z"},
        },
        {
            "asset_id": "mg-1-bat",
            "asset_category": "STORAGE",
            "energy_measurement": {
                "value": 0.0,
                "phase": "ALL",
                "unit": "KWH",
                "direction": "EXPORT",
                "measure_time": "2026-10-20T10:15:00.000Z",
                "initial_measure_time": "2026-10-20T10:00:00.000Z",
            },
        },
    ]


def test_the_connection_meter_is_reported_only_where_it_is_alone_or_asked_for() -> None:
    meter = {"id": "mg-1-grid", "scope_id": "mg-1", "category": "CONSUMPTION", "connection_meter": True}
    alone = Reporting(configuration(assets=[meter]))
    assert values(alone.feed(row("mg-1-grid"), group_row())) == {("mg-1-grid", "IMPORT"): 1.234568}
    silent = Reporting(configuration(assets=[{**meter, "report": False}]))
    assert silent.feed(row("mg-1-grid"), group_row()) == []
    assert silent.later() == []


def test_an_asset_without_a_row_has_no_entry_and_an_empty_message_is_never_sent() -> None:
    reporting = Reporting()
    assert reporting.feed(row("mg-1-pv", export_wh=5), group_row()) == []
    assert list(values(reporting.later())) == [("mg-1-pv", "EXPORT")]
    lonely = Reporting()
    assert lonely.feed(group_row()) == []
    assert lonely.later() == []


def test_a_summed_group_says_how_many_members_are_missing() -> None:
    reporting = Reporting()
    owed = reporting.feed(row("mg-1-grid"), row("mg-1-pv"), group_row(method=Method.SUM, missing_members=1))
    assert list(values(owed)) == [("mg-1-pv", "EXPORT")]


def test_rows_of_other_partitions_may_come_after_the_groups_row() -> None:
    reporting = Reporting()
    assert reporting.feed(group_row(), row("mg-1-bat")) == []
    assert reporting.rule.due(reporting.state) == reporting.now + timedelta(seconds=0.5)
    owed = reporting.feed(row("mg-1-pv"))
    assert [asset for asset, _ in values(owed)] == ["mg-1-pv", "mg-1-bat", "mg-1-bat"]
    assert reporting.rule.due(reporting.state) is None


def test_what_comes_later_goes_in_a_further_message_with_the_changed_entries_only() -> None:
    reporting = Reporting()
    first = only(reporting.feed(row("mg-1-pv"), row("mg-1-bat", import_wh=1000, export_wh=0), group_row()))
    reporting.now += timedelta(minutes=20)
    assert reporting.feed(row("mg-1-bat", revision=2, at=reporting.now, import_wh=1100, export_wh=0)) == []
    correction = reporting.later()
    assert values(correction) == {("mg-1-bat", "IMPORT"): 1.1}
    reporting.feed(row("mg-1-bat", revision=3, at=reporting.now, import_wh=1000, export_wh=0))
    back = reporting.later()
    assert values(back) == {("mg-1-bat", "IMPORT"): 1.0}
    assert len({first.message_id, only(correction).message_id, only(back).message_id}) == 3


def test_a_value_that_went_and_came_back_is_told_again() -> None:
    pv = [{"id": "mg-1-pv", "scope_id": "mg-1", "category": "GENERATION"}]
    reporting = Reporting(configuration(assets=pv))
    ids = [only(reporting.feed(row("mg-1-pv", export_wh=100), group_row(method=Method.SUM))).message_id]
    for revision, wh in ((2, 200.0), (3, 100.0)):
        reporting.feed(row("mg-1-pv", export_wh=wh, revision=revision, at=reporting.now))
        ids.append(only(reporting.later()).message_id)
    assert len(set(ids)) == 3


def test_a_repeated_row_and_a_revision_that_changes_nothing_reported_say_nothing() -> None:
    reporting = Reporting()
    reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row())
    reporting.feed(row("mg-1-pv"), row("mg-1-pv", revision=2, samples=16), group_row(), group_row(revision=2))
    assert reporting.later() == []


def test_provisional_rows_and_unknown_groups_say_nothing() -> None:
    reporting = Reporting()
    reporting.feed(row("mg-1-pv", revision=0, provisional=True), group_row(revision=0, provisional=True), group_row(id="OTHER"))
    assert reporting.state.quarters == {}


def test_an_old_quarter_is_told_without_its_first_message() -> None:
    reporting = Reporting()
    reporting.now = T0 + timedelta(days=3)
    reporting.feed(row("mg-1-bat", at=reporting.now, revision=2, import_wh=42, export_wh=0))
    assert values(reporting.later()) == {("mg-1-bat", "IMPORT"): 0.042, ("mg-1-bat", "EXPORT"): 0.0}


def test_a_late_first_row_waits_for_the_groups_row_but_not_for_ever() -> None:
    reporting = Reporting()
    reporting.now = T0 + timedelta(days=3)
    reporting.feed(row("mg-1-pv", at=reporting.now))
    assert reporting.later(timedelta(minutes=5)) == []
    assert list(values(reporting.later(timedelta(minutes=2)))) == [("mg-1-pv", "EXPORT")]


def test_what_is_beyond_the_report_horizon_is_left() -> None:
    reporting = Reporting()
    reporting.now = T0 + timedelta(days=8)
    reporting.feed(row("mg-1-pv", at=reporting.now, revision=2))
    assert reporting.later() == []


def test_only_quarters_that_end_after_the_first_handshake_are_reported() -> None:
    reporting = Reporting(online=False)
    reporting.feed(connection(since=T0 + QUARTER, first_acknowledged_at=T0 + QUARTER))
    assert reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row()) == []
    following = T0 + QUARTER
    reporting.now += QUARTER
    owed = reporting.feed(*(row(a, quarter=following) for a in ("mg-1-pv", "mg-1-bat")), group_row(quarter=following))
    assert len(values(owed)) == 3


def test_rows_wait_for_news_of_the_handshake() -> None:
    reporting = Reporting(online=False)
    assert reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row()) == []
    assert reporting.later() == []
    assert len(values(reporting.feed(connection()))) == 3


def test_a_group_bound_later_takes_the_connection_as_it_is() -> None:
    reporting = Reporting(online=False)
    reporting.rule = ReportingRule(lambda: reporting.config, connection_of=lambda _: connection())
    assert len(values(reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row()))) == 3


@pytest.mark.parametrize("state", [ConnectionState.SUSPENDED, ConnectionState.DEREGISTERED])
def test_quarters_of_a_suspended_time_are_not_made_up(state: ConnectionState) -> None:
    reporting = Reporting()
    reporting.feed(connection(state, since=T0 + timedelta(minutes=5)), connection(since=T0 + timedelta(minutes=20)))
    told = []
    for number in range(-1, 3):
        quarter = T0 + number * QUARTER
        reporting.now = quarter + WRITTEN
        told.append(len(reporting.feed(*(row(a, quarter=quarter) for a in ("mg-1-pv", "mg-1-bat")), group_row(quarter=quarter))))
    assert told == [1, 0, 1, 1]


def test_offline_keeps_reporting() -> None:
    reporting = Reporting()
    reporting.feed(connection(ConnectionState.OFFLINE, since=T0))
    assert len(reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row())) == 1


def test_measurements_are_withheld_from_a_partner_that_excludes_what_we_can_send() -> None:
    reporting = Reporting()
    reporting.feed(connection(since=T0, peer_required_measurements=["CONTINUOUS"], withheld_since=T0))
    assert reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row()) == []
    reporting.feed(connection(since=T0, at=T0 + timedelta(minutes=20), peer_required_measurements=["INTERMITTENT"]))
    assert reporting.later() == []
    following = T0 + QUARTER
    owed = reporting.feed(*(row(a, quarter=following) for a in ("mg-1-pv", "mg-1-bat")), group_row(quarter=following))
    assert len(values(owed)) == 3


@pytest.mark.parametrize(
    ("required", "styles", "sent"),
    [
        ([], ["INTERMITTENT"], "INTERMITTENT"),
        (["INTERMITTENT"], ["INTERMITTENT"], "INTERMITTENT"),
        (["CONTINUOUS", "INTERMITTENT"], ["INTERMITTENT"], "INTERMITTENT"),
        (["CONTINUOUS"], ["INTERMITTENT"], None),
        ([], ["CONTINUOUS", "INTERMITTENT"], "INTERMITTENT"),
        (["CONTINUOUS", "INTERMITTENT"], ["CONTINUOUS", "INTERMITTENT"], "INTERMITTENT"),
        (["CONTINUOUS"], ["CONTINUOUS", "INTERMITTENT"], "CONTINUOUS"),
    ],
)
def test_the_style_follows_the_table(required: list[str], styles: list[str], sent: str | None) -> None:
    assert style_for(required, [Style(style) for style in styles]) == sent


def profile(**measurements: Any) -> Configuration:
    return configuration(partners=[{"id": "vector", "measurements": measurements}])


def test_continuous_sends_registers_without_a_beginning_and_nothing_without_a_register() -> None:
    reporting = Reporting(profile(styles=["CONTINUOUS", "INTERMITTENT"]), online=False)
    reporting.feed(connection(peer_required_measurements=["CONTINUOUS"]))
    owed = reporting.feed(row("mg-1-pv", export_register_wh=123456.7), row("mg-1-bat"), group_row())
    (entry,) = body(owed)["measurements"]
    assert entry["energy_measurement"]["value"] == 123.4567
    assert "initial_measure_time" not in entry["energy_measurement"]


def test_group_messages_by_profile() -> None:
    reporting = Reporting(profile(messages=["GROUP"], unit="WH", directions={"group": ["NET", "IMPORT", "EXPORT"]}))
    assert reporting.feed(group_row(import_wh=3.00049, export_wh=5.0)) == []
    owed = reporting.later()
    assert only(owed).action == "UpdateGroupMeasurements"
    entries = body(owed)["measurements"]
    assert [(entry["direction"], entry["value"], entry["unit"]) for entry in entries] == [
        ("NET", -2.0, "WH"),
        ("IMPORT", 3.0, "WH"),
        ("EXPORT", 5.0, "WH"),
    ]
    reporting.feed(group_row(revision=2, at=reporting.now, import_wh=3.0, export_wh=6.0))
    assert [entry["direction"] for entry in body(reporting.later())["measurements"]] == ["NET", "EXPORT"]


def test_both_messages_by_profile() -> None:
    reporting = Reporting(profile(messages=["ASSET", "GROUP"]))
    owed = reporting.feed(row("mg-1-pv"), row("mg-1-bat"), group_row())
    assert [message.action for message in owed if isinstance(message, OutboundMessage)] == [
        "UpdateAssetMeasurements",
        "UpdateGroupMeasurements",
    ]


def test_an_asset_metered_by_phases_is_told_as_their_sum() -> None:
    reporting = Reporting(configuration(assets=[{"id": "pv", "scope_id": "mg-1", "category": "GENERATION"}]))
    phases = [row("pv", phase=phase, export_wh=wh) for phase, wh in (("ONE", 10), ("TWO", 20), ("THREE", 30))]
    assert reporting.feed(*phases, group_row(method=Method.SUM)) == []
    assert values(reporting.later()) == {("pv", "EXPORT"): 0.06}
    reporting.feed(row("pv", phase="TWO", export_wh=21, revision=2, at=reporting.now))
    assert values(reporting.later()) == {("pv", "EXPORT"): 0.061}


def test_rows_that_the_groups_sum_vouches_for_are_waited_for_in_one_message() -> None:
    """At a quarter's end of thousands of groups the partitions are read seconds apart."""
    reporting = Reporting()
    assert reporting.feed(row("mg-1-pv", export_wh=500.0), group_row(method=Method.SUM)) == []
    assert reporting.later(timedelta(seconds=10)) == []
    owed = reporting.feed(row("mg-1-bat"), row("mg-1-grid"))
    assert {asset for asset, _ in values(owed)} == {"mg-1-pv", "mg-1-bat"}
    assert reporting.later() == []


def test_what_the_sum_vouches_for_is_not_waited_for_beyond_patience() -> None:
    reporting = Reporting()
    reporting.feed(row("mg-1-pv", export_wh=500.0), group_row(method=Method.SUM))
    assert values(reporting.later()) == {("mg-1-pv", "EXPORT"): 0.5}


def test_an_asset_metered_by_phases_waits_no_longer_than_its_phases_need() -> None:
    reporting = Reporting(configuration(assets=[{"id": "pv", "scope_id": "mg-1", "category": "GENERATION"}]))
    reporting.feed(group_row(method=Method.SUM), *(row("pv", phase=phase, export_wh=wh) for phase, wh in (("ONE", 10), ("TWO", 20))))
    assert values(reporting.later(timedelta(seconds=1))) == {("pv", "EXPORT"): 0.03}


def test_more_than_a_thousand_entries_go_in_further_messages() -> None:
    assets = [{"id": f"pv-{n}", "scope_id": "mg-1", "category": "GENERATION"} for n in range(MAX_ENTRIES + 1)]
    reporting = Reporting(configuration(assets=assets))
    owed = reporting.feed(*(row(str(asset["id"])) for asset in assets), group_row())
    sizes = [len(json.loads(message.body)["measurements"]) for message in owed if isinstance(message, OutboundMessage)]
    assert sizes == [MAX_ENTRIES, 1]


def test_quarters_are_forgotten_in_time() -> None:
    reporting = Reporting()
    for number in range(100):
        quarter = T0 + number * QUARTER
        reporting.now = quarter + WRITTEN
        reporting.feed(row("mg-1-pv", quarter=quarter), row("mg-1-bat", quarter=quarter), group_row(quarter=quarter))
    assert len(reporting.state.quarters) < 12


ORDERS = st.permutations(["grid", "pv", "bat", "group", "late"])


@given(ORDERS)
def test_any_order_of_arrival_makes_the_same_messages(order: list[str]) -> None:
    late = T0 + WRITTEN + timedelta(minutes=2)
    rows: dict[str, QuarterHour] = {
        "grid": row("mg-1-grid"),
        "pv": row("mg-1-pv"),
        "bat": row("mg-1-bat", at=late),
        "group": group_row(),
        "late": row("mg-1-pv", revision=2, export_wh=99, at=late + timedelta(minutes=1)),
    }
    reporting = Reporting()
    reporting.now = late + timedelta(hours=1)  # a replay: all rows are old
    owed: list[Owed] = []
    for name in order:
        owed += reporting.feed(rows[name])
    for _ in range(4):
        owed += reporting.later()
    assert [list(values([message])) for message in owed] == [
        [("mg-1-pv", "EXPORT")],
        [("mg-1-bat", "IMPORT"), ("mg-1-bat", "EXPORT")],
        [("mg-1-pv", "EXPORT")],
    ]
    assert [message.message_id for message in owed if isinstance(message, OutboundMessage)] == EXPECTED_IDS()


def _expected_ids() -> Callable[[], list[str]]:
    known: list[str] = []

    def ids() -> list[str]:
        if not known:
            reporting = Reporting()
            late = T0 + WRITTEN + timedelta(minutes=2)
            owed = reporting.feed(row("mg-1-grid"), row("mg-1-pv"), group_row())
            owed += reporting.later(timedelta(minutes=2))
            owed += reporting.feed(row("mg-1-bat", at=late))
            owed += reporting.later(timedelta(minutes=1))
            owed += reporting.feed(row("mg-1-pv", revision=2, export_wh=99, at=late + timedelta(minutes=1)))
            owed += reporting.later(timedelta(minutes=1))
            known.extend(message.message_id for message in owed if isinstance(message, OutboundMessage))
        return known

    return ids


EXPECTED_IDS = _expected_ids()


@given(st.floats(min_value=-1e9, max_value=1e9))
def test_rounding_keeps_a_milliwatt_hour(wh: float) -> None:
    assert abs(in_unit(wh, "KWH") * 1000 - wh) <= 0.0005 + abs(wh) * 1e-12
    assert abs(in_unit(wh, "WH") - wh) <= 0.0005
    assert str(in_unit(wh, "WH")) != "-0.0"


def test_what_is_reported_reads_back_as_the_wire_model() -> None:
    owed = Reporting().feed(row("mg-1-pv"), row("mg-1-bat", stored_wh=1), group_row())
    message = UpdateAssetMeasurements.model_validate_json(only(owed).body)
    assert json.loads(message.wire()) == json.loads(only(owed).body)
