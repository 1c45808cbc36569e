"""Readings posted as JSON: keyed by asset, all or none, and what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Role
from gateway.guard import MAX_BODY, MAX_TELEMETRY_BODY
from schemas.telemetry import Measurement, MeasurementBatch
from schemas.topics import TELEMETRY
from tests.gateway.operations_world import World, problem


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def reading(**changes: Any) -> dict[str, Any]:
    return {"asset_id": "house-main", "measured_at": "2007-06-09T18:26:00Z", "power_w": 1432, **changes}


def test_readings_go_to_the_broker_before_the_answer_one_asset_one_key(world: World) -> None:
    readings = [reading(), reading(asset_id="house-kitchen", power_w=None, import_wh=5.5), reading(measured_at="2007-06-09T18:27:00Z")]
    answer = world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, json={"measurements": [_present(each) for each in readings]})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 3})
    assert [(topic, key) for topic, key, _ in world.appender.appended] == [
        (TELEMETRY.name, "house-main"),
        (TELEMETRY.name, "house-kitchen"),
    ]
    batch, single = world.appender.values(TELEMETRY)
    assert isinstance(batch, MeasurementBatch)
    assert [one.measured_at.minute for one in batch.measurements] == [26, 27]
    assert isinstance(single, Measurement)
    assert single.import_wh == 5.5


def _present(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if value is not None}


def test_many_readings_of_one_asset_go_in_parts_in_order(world: World) -> None:
    readings = [reading(measured_at=f"2007-06-09T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z") for number in range(2500)]
    assert world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, json={"measurements": readings}).status_code == 202
    batches = world.appender.values(TELEMETRY)
    assert [len(batch.measurements) for batch in batches] == [1000, 1000, 500]
    instants = [one.measured_at for batch in batches for one in batch.measurements]
    assert instants == sorted(instants)


@pytest.mark.parametrize(
    ("entry", "path", "rule"),
    [
        ({"asset_id": "a", "measured_at": "2007-06-09T18:26:00Z"}, "measurements[1]", "at least one of power_w"),
        (reading(measured_at="2007-06-09T18:26:00"), "measurements[1].measured_at", "timezone"),
        (reading(measured_at=1181413560), "measurements[1].measured_at", "datetime"),
        (reading(measured_at="yesterday"), "measurements[1].measured_at", "datetime"),
        (reading(power_w="12"), "measurements[1].power_w", "number"),
        (reading(power_w=True), "measurements[1].power_w", "number"),
        (reading(quality="SO-SO"), "measurements[1].quality", "GOOD"),
        (reading(phase="FOUR"), "measurements[1].phase", "ALL"),
        (reading(watts=3), "measurements[1].watts", "not permitted"),
        (reading(asset_id=""), "measurements[1].asset_id", "1 to 200"),
        (reading(asset_id="x" * 201), "measurements[1].asset_id", "1 to 200"),
        (7, "measurements[1]", "object"),
    ],
)
def test_a_bad_entry_refuses_all_and_is_named(world: World, entry: Any, path: str, rule: str) -> None:
    answer = world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, json={"measurements": [reading(), entry]})
    (error,) = problem(answer, 400)["errors"]
    assert error["path"] == path
    assert rule in error["message"]
    assert world.appender.appended == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b'{"measurements": []}', "at least one"),
        (b'{"readings": []}', "measurements"),
        (b'{"measurements": [{"asset_id": "a", "measured_at": "2007-06-09T18:26:00Z", "power_w": NaN}]}', "measurements[0].power_w"),
        (b'{"measurements": [{"asset_id": "a", "measured_at": "2007-06-09T18:26:00Z", "power_w": 1e999}]}', "measurements[0].power_w"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_bad_body_is_named(world: World, body: bytes, words: str) -> None:
    answer = world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, content=body, headers={"Content-Type": "application/json"})
    assert words in json.dumps(problem(answer, 400))
    assert world.appender.appended == []


def test_what_is_no_json_or_too_large_is_refused(world: World) -> None:
    form = world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, content=b"{}", headers={"Content-Type": "text/plain"})
    problem(form, 415)
    json_type = {"Content-Type": "application/json"}
    problem(world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, content=b" " * (MAX_TELEMETRY_BODY + 1), headers=json_type), 413)
    problem(world.ask("PUT", "/api/v1/config", Role.ADMIN, content=b" " * (MAX_BODY + 1), headers=json_type), 413)

    async def pieces() -> Any:
        for _ in range(MAX_BODY // 65536 + 2):
            yield b" " * 65536

    problem(world.ask("PUT", "/api/v1/config", Role.ADMIN, content=pieces(), headers=json_type), 413)


def test_a_broker_that_does_not_answer_is_said(world: World) -> None:
    world.appender.away = True
    answer = world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, json={"measurements": [reading()]})
    assert answer.headers["retry-after"] == "2"
    problem(answer, 503)
