"""Values to rows: every field has a column, every table gives back what was put in, no token gets in."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.adjustment import Adjustment
from schemas.capacity import CircuitCapacity, EnvelopePiece, OperatingEnvelope
from schemas.compliance import Breach, Verdict
from schemas.config import ConfigChange
from schemas.connection import Command, Connection, Event, InboundMessage
from schemas.facts import Value
from schemas.outbound import DeadLetter, Delivery, OutboundMessage
from schemas.telemetry import LateMeasurement, QuarterHour
from schemas.topics import FLOW_REPORTS, READINGS, TOPICS
from sinks.clickhouse.client import Store
from sinks.clickhouse.readings import USABLE
from sinks.clickhouse.rows import (
    LEFT_OUT,
    LIVES,
    UNARCHIVED_OF_CONNECTION,
    Place,
    columns_of,
    forecast_blocks,
    rows_of,
    without_tokens,
)
from tests.schemas.golden import example, oscp_example

UNARCHIVED = (*READINGS, FLOW_REPORTS)
NOT_COLUMNS: dict[type[Value], set[str]] = {
    ConfigChange: {"earlier"},
    Connection: set(UNARCHIVED_OF_CONNECTION),
    InboundMessage: {"credential_digest", "segment_index", "segment_count"},
    LateMeasurement: {"measurement"},
    OperatingEnvelope: {"pieces"},
}
TABLE_OF: dict[type[Value], str] = {
    QuarterHour: "quarter_hours", LateMeasurement: "late_telemetry", InboundMessage: "inbound_messages",
    OutboundMessage: "outbound_messages", Delivery: "deliveries", Connection: "connections", Event: "connection_events",
    Command: "commands", ConfigChange: "config_changes", DeadLetter: "dead_letters", OperatingEnvelope: "envelopes",
    CircuitCapacity: "circuit_capacity", Verdict: "verdicts", Breach: "breaches", Adjustment: "adjustments",
}  # fmt: skip


def inbound(body: str, action: str = "UpdateGroupCapacityForecast") -> InboundMessage:
    golden = example("derms.inbound")
    assert isinstance(golden, InboundMessage)
    return golden.model_copy(update={"body": body, "action": action})


def test_every_record_but_readings_and_flow_reports_has_a_table() -> None:
    assert {record for topic in TOPICS if topic not in UNARCHIVED for record in topic.records} == set(TABLE_OF)


@pytest.mark.parametrize("model", TABLE_OF)
def test_every_field_has_a_column(store: Store, model: type[Value]) -> None:
    """A field that is added needs a migration (and a line in rows.py)."""
    columns = {row["name"] for row in store.query(f"DESCRIBE TABLE {TABLE_OF[model]}")}
    assert set(model.model_fields) - NOT_COLUMNS.get(model, set()) <= columns
    if model is OperatingEnvelope:
        assert {f"pieces.{name}" for name in EnvelopePiece.model_fields} <= columns


@pytest.mark.parametrize("topic", [topic.name for topic in TOPICS if topic not in UNARCHIVED])
def test_golden_values_come_back_as_they_went_in(store: Store, topic: str) -> None:
    value = example(topic)
    place = Place(1, 7)
    tables: dict[str, list[dict[str, Any]]] = {}
    for table, row in rows_of(value, place):
        tables.setdefault(table, []).append(row)
    assert TABLE_OF[type(value)] in tables
    for table, rows in tables.items():
        store.insert_columns(table, columns_of(rows))
        found = store.query(f"SELECT * FROM {table}")
        assert len(found) == len(rows)
        for got, want in zip(found, rows, strict=True):
            assert {name: _as_stored(got[name]) for name in want} == {name: _as_stored(item) for name, item in want.items()}


def _as_stored(item: Any) -> Any:
    """Instants as ms, bytes as text, tuples as lists: what differs between a row and what a query gives."""
    match item:
        case datetime():
            return round(item.timestamp() * 1000)
        case bytes():
            return item.decode(errors="replace")
        case list() | tuple():
            return [_as_stored(part) for part in item]
        case _:
            return item


def test_bytes_of_dead_letters_are_kept_whatever_they_are(store: Store) -> None:
    letter = example("derms.dead-letters")
    assert isinstance(letter, DeadLetter)
    raw = bytes(range(256)) * 3
    [(table, row)] = rows_of(letter.model_copy(update={"raw": raw}), Place(1, 1))
    store.insert_columns(table, columns_of([row]))
    assert store.query("SELECT hex(raw) AS raw FROM v_dead_letters") == [{"raw": raw.hex().upper()}]


def test_instants_at_the_ends_of_time_go_in(store: Store) -> None:
    """A partner may say `until 9999`; it must not stop the line."""
    body = {
        "group_id": "g",
        "type": "CONSUMPTION",
        "forecasted_blocks": [
            {"capacity": 1.5, "phase": "ALL", "unit": "KW", "start_time": "1850-01-01T00:00:00Z", "end_time": "9999-12-31T23:59:59Z"}
        ],
    }
    rows = [row for table, row in rows_of(inbound(json.dumps(body)), Place(1, 1)) if table == "forecast_blocks"]
    store.insert_columns("forecast_blocks", columns_of(rows))
    [found] = store.query("SELECT toUnixTimestamp64Milli(start) AS s, toUnixTimestamp64Milli(end) AS e, limit_w FROM v_forecast_blocks")
    assert found == {"s": rows[0]["start"], "e": rows[0]["end"], "limit_w": 1500.0}


def test_blocks_keep_the_words_they_came_in() -> None:
    body = json.loads(oscp_example("UpdateGroupCapacityForecast"))
    rows = forecast_blocks(inbound(json.dumps(body)), Place(1, 1))
    assert [row["block"] for row in rows] == list(range(len(body["forecasted_blocks"])))
    assert [row["capacity"] for row in rows] == [block["capacity"] for block in body["forecasted_blocks"]]
    assert {row["group_id"] for row in rows} == {body["group_id"]}


def test_amperes_have_no_limit_in_watts() -> None:
    block = {"capacity": 16, "phase": "ALL", "unit": "A", "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T01:00:00Z"}
    body = {"group_id": "g", "type": "CONSUMPTION", "forecasted_blocks": [block]}
    assert forecast_blocks(inbound(json.dumps(body)), Place(1, 1))[0]["limit_w"] is None


@pytest.mark.parametrize("body", ['{"group_id": "g"', "[]", '{"part": 1}'])
def test_a_part_of_a_forecast_makes_no_blocks(body: str) -> None:
    assert forecast_blocks(inbound(body), Place(1, 1)) == []


def test_a_segment_makes_a_row_but_no_blocks() -> None:
    """Its blocks come with the message it is joined into."""
    segment = inbound(oscp_example("UpdateGroupCapacityForecast")).model_copy(update={"segment_index": 1, "segment_count": 2})
    assert [table for table, _ in rows_of(segment, Place(1, 1))] == ["inbound_messages"]


def test_other_messages_make_no_blocks() -> None:
    assert forecast_blocks(inbound("{}", "Heartbeat"), Place(1, 1)) == []


def test_no_token_is_archived() -> None:
    body = json.dumps({"token": "enc:abc", "version_url": [{"version": "2.0"}], "deep": [{"token": {"$token": "cause"}}]})
    assert json.loads(without_tokens(body)) == {"token": LEFT_OUT, "version_url": [{"version": "2.0"}], "deep": [{"token": LEFT_OUT}]}
    assert without_tokens('{"token": "abc", broken') == LEFT_OUT
    assert without_tokens('{"a":1}') == '{"a":1}'
    for table, row in rows_of(inbound(body, "Register"), Place(1, 1)):
        assert "abc" not in str(row), table
    connection = example("derms.connections")
    assert isinstance(connection, Connection)
    secret = connection.model_copy(update={"peer_token": "ciphertext", "memory": '{"token": "x"}'})
    [(_, row)] = rows_of(secret, Place(1, 1))
    assert not {"peer_token", "credentials", "memory"} & set(row)


def test_versions_rise_with_revision_then_life_then_offset() -> None:
    places = [Place(1, 0), Place(1, 5), Place(1, 2**40), Place(2, 0), Place(LIVES - 1, 2**48 - 1)]
    rising = [place.rising for place in places]
    assert rising == sorted(rising)
    assert rising[-1] < 2**63
    assert Place(LIVES - 1, 2**48 - 1).of_revision(0) < Place(1, 0).of_revision(1)


def test_backfilled_places_rise_too_and_lie_above_all_live_ones() -> None:
    places = [Place(1, 0), Place(1, 5), Place(2, 0), Place(LIVES - 1, 2**33 - 1)]
    assert sorted(places, key=lambda place: place.backfilled) == places
    assert places[-1].backfilled < USABLE
    assert Place(LIVES - 1, 2**48 - 1).rising < places[0].backfilled
    assert Place(1, 9).of_revision(2) > Place(2, 0).of_revision(1)
    assert Place(1, 0).of_revision(2**62) < 2**128


def test_instants_are_milliseconds() -> None:
    golden = example("derms.quarter-hours")
    assert isinstance(golden, QuarterHour)
    [(_, row)] = rows_of(golden.model_copy(update={"start": datetime(2026, 1, 1, tzinfo=UTC)}), Place(1, 1))
    assert row["start"] == 1767225600000
