"""What we take and refuse on the wire, against the Open Charge Alliance's schemas (oscp-2.0 notes, Appendix A)."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.oscp.v20 import MODELS, PATHS, Action, Handshake, Heartbeat, MeasurementConfiguration, RequiredBehaviour
from tests.schemas.golden import oscp_example
from tests.schemas.oca import complaints, schema_name

FORECAST = "UpdateGroupCapacityForecast"
ADJUST = "AdjustGroupCapacityForecast"
BLOCK = json.loads(oscp_example(FORECAST))["forecasted_blocks"][0]
ENERGY = json.loads(oscp_example("UpdateGroupMeasurements"))["measurements"][0]
ASSET = json.loads(oscp_example("UpdateAssetMeasurements"))["measurements"][0]
MOMENT = json.loads(oscp_example("UpdateAssetMeasurements"))["measurements"][1]["instantaneous_measurement"]


def without(part: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != name}


def requires(*configurations: Any, **more: Any) -> dict[str, Any]:
    return {"required_behaviour": {"measurement_configuration": list(configurations), **more}}


def forecast(**changes: Any) -> dict[str, Any]:
    return {"group_id": "g", "type": "CONSUMPTION", "forecasted_blocks": [BLOCK], **changes}


def blocks(**changes: Any) -> dict[str, Any]:
    return forecast(forecasted_blocks=[{**BLOCK, **changes}])


def energies(**changes: Any) -> dict[str, Any]:
    return {"group_id": "g", "measurements": [{**ENERGY, **changes}]}


def assets(*entries: Any) -> dict[str, Any]:
    return {"group_id": "g", "measurements": list(entries)}


def register(**changes: Any) -> dict[str, Any]:
    return {"token": "t", "version_url": [{"version": "2.0", "base_url": "https://cp.example"}], **changes}


BOTH_SAY: list[tuple[str, Any, bool]] = [
    ("Handshake", {}, True),
    ("HandshakeAcknowledge", {}, True),
    ("Handshake", {"required_behaviour": {}}, False),
    ("HandshakeAcknowledge", {"required_behaviour": {}}, False),
    ("Handshake", {"required_behaviour": None}, False),
    ("Handshake", requires(), True),
    ("Handshake", requires("CONTINUOUS", "INTERMITTENT"), True),
    ("Handshake", requires("CONTINUOUS", "CONTINUOUS"), False),
    ("Handshake", requires("SOMETIMES"), False),
    ("Handshake", requires(heartbeat_interval=60), True),
    ("Handshake", requires(heartbeat_interval=1.5), True),
    ("Handshake", requires(heartbeat_interval="60"), False),
    ("Handshake", requires(heartbeat_interval=True), False),
    ("Handshake", requires(heartbeat_interval=None), False),
    ("Handshake", {"measurement_configuration": ["CONTINUOUS"]}, True),
    ("Handshake", requires(something="else"), True),
    ("Heartbeat", {}, False),
    ("Heartbeat", {"offline_mode_at": "2026-10-20T10:00:00Z"}, True),
    ("Heartbeat", {"offline_mode_at": 1792490400}, False),
    ("Heartbeat", {"offline_mode_at": None}, False),
    ("Register", register(), True),
    ("Register", register(version_url=[]), False),
    ("Register", without(register(), "version_url"), False),
    ("Register", without(register(), "token"), False),
    ("Register", register(token=5), False),
    ("Register", register(version_url=[{"version": 2.0, "base_url": "https://cp.example"}]), False),
    ("Register", register(surprise=None), True),
    (FORECAST, forecast(), True),
    (FORECAST, forecast(forecasted_blocks=[]), False),
    (FORECAST, blocks(capacity=0), True),
    (FORECAST, blocks(capacity=-1), False),
    (FORECAST, blocks(capacity="10"), False),
    (FORECAST, blocks(unit="EUR"), False),
    (FORECAST, blocks(phase="FOUR"), False),
    (FORECAST, forecast(type="consumption"), False),
    (FORECAST, forecast(type="OPTIMUM"), True),
    (FORECAST, forecast(extra={"any": None}), True),
    (FORECAST, blocks(extra=1), True),
    (FORECAST, forecast(group_id=7), False),
    *((FORECAST, forecast(forecasted_blocks=[without(BLOCK, name)]), False) for name in BLOCK),
    *((FORECAST, without(forecast(), name), False) for name in forecast()),
    (ADJUST, forecast(), True),
    (ADJUST, forecast(forecasted_blocks=[]), False),
    ("UpdateGroupMeasurements", energies(), True),
    ("UpdateGroupMeasurements", {"group_id": "g", "measurements": []}, False),
    ("UpdateGroupMeasurements", energies(value=-3), True),
    ("UpdateGroupMeasurements", energies(value="3"), False),
    ("UpdateGroupMeasurements", energies(unit="KW"), False),
    ("UpdateGroupMeasurements", energies(energy_type="FLEXIBLE"), True),
    ("UpdateGroupMeasurements", energies(energy_type="SOME"), False),
    ("UpdateGroupMeasurements", energies(direction="BOTH"), False),
    ("UpdateGroupMeasurements", {"group_id": "g", "measurements": [without(ENERGY, "initial_measure_time")]}, True),
    ("UpdateGroupMeasurements", {"group_id": "g", "measurements": [without(ENERGY, "measure_time")]}, False),
    ("UpdateAssetMeasurements", assets(ASSET), True),
    ("UpdateAssetMeasurements", assets(), False),
    ("UpdateAssetMeasurements", assets({**ASSET, "asset_category": "PV"}), False),
    ("UpdateAssetMeasurements", assets(without(ASSET, "asset_id")), False),
    ("UpdateAssetMeasurements", assets({**without(ASSET, "energy_measurement"), "instantaneous_measurement": MOMENT}), True),
    ("UpdateAssetMeasurements", assets({**ASSET, "instantaneous_measurement": without(MOMENT, "unit")}), False),
    ("GroupCapacityComplianceError", {"message": "too much"}, True),
    ("GroupCapacityComplianceError", {"message": "too much", "forecasted_blocks": [BLOCK]}, True),
    ("GroupCapacityComplianceError", {"message": "too much", "forecasted_blocks": []}, False),
    ("GroupCapacityComplianceError", {"forecasted_blocks": [BLOCK]}, False),
]
WE_ARE_STRICTER: list[tuple[str, Any, str, str]] = [
    ("Handshake", requires(heartbeat_interval=0), "required_behaviour.heartbeat_interval", "greater than or equal to 1"),
    ("Handshake", requires(heartbeat_interval=-1.5), "required_behaviour.heartbeat_interval", "greater than or equal to 1"),
    ("Handshake", {"heartbeat_interval": 0.5}, "required_behaviour.heartbeat_interval", "greater than or equal to 1"),
    ("HandshakeAcknowledge", requires(heartbeat_interval=0), "required_behaviour.heartbeat_interval", "greater than or equal to 1"),
    ("Heartbeat", {"offline_mode_at": "nonsense"}, "offline_mode_at", "RFC 3339"),
    ("Heartbeat", {"offline_mode_at": "1792490400"}, "offline_mode_at", "RFC 3339"),
    ("Heartbeat", {"offline_mode_at": "2026-10-20T10:00:00"}, "offline_mode_at", "RFC 3339"),
    ("Heartbeat", {"offline_mode_at": "2026-10-20T25:00:00Z"}, "offline_mode_at", "valid datetime"),
    ("Heartbeat", {"offline_mode_at": "0001-01-01T00:00:00+14:00"}, "offline_mode_at", "years 1 to 9999"),
    ("Register", register(token=""), "token", "at least 1 character"),
    ("Register", register(version_url=[{"version": "2.0", "base_url": "x"}]), "version_url[0].base_url", "URL"),
    ("Register", register(version_url=[{"version": "2.0", "base_url": "ftp://cp.example"}]), "version_url[0].base_url", "URL"),
    (FORECAST, blocks(start_time=BLOCK["end_time"], end_time=BLOCK["start_time"]), "forecasted_blocks[0]", "after start_time"),
    (FORECAST, blocks(end_time=BLOCK["start_time"]), "forecasted_blocks[0]", "after start_time"),
    (FORECAST, forecast(forecasted_blocks=[BLOCK, {**BLOCK, "start_time": "soon"}]), "forecasted_blocks[1].start_time", "RFC 3339"),
    (ADJUST, blocks(end_time=BLOCK["start_time"]), "forecasted_blocks[0]", "after start_time"),
    ("UpdateGroupMeasurements", energies(measure_time="now"), "measurements[0].measure_time", "RFC 3339"),
    ("UpdateAssetMeasurements", assets(without(ASSET, "energy_measurement")), "measurements[0]", "asset needs"),
    ("GroupCapacityComplianceError", {"message": ""}, "message", "at least 1 character"),
]


@pytest.mark.parametrize(("action", "body", "valid"), BOTH_SAY)
def test_we_judge_as_the_schemas_do(action: str, body: Any, valid: bool):
    assert (complaints(schema_name(action), body) == []) is valid
    text = json.dumps(body)
    if valid:
        MODELS[action].model_validate_json(text)
        MODELS[action].model_validate(body)
    else:
        with pytest.raises(ValidationError):
            MODELS[action].model_validate_json(text)
        with pytest.raises(ValidationError):
            MODELS[action].model_validate(body)


@pytest.mark.parametrize(("action", "body", "path", "words"), WE_ARE_STRICTER)
def test_we_refuse_what_the_schemas_let_through_and_meaning_forbids(action: str, body: Any, path: str, words: str):
    assert complaints(schema_name(action), body) == []
    with pytest.raises(ValidationError, match=words):
        MODELS[action].model_validate_json(json.dumps(body))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none_are_refused(number: str):
    text = json.dumps(blocks(capacity="?")).replace('"?"', number)
    with pytest.raises(ValidationError):
        MODELS[FORECAST].model_validate_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-10-20T10:00:00Z",
        "2026-10-20T10:00:00.000Z",
        "2026-10-20T10:00:00.0009999Z",
        "2026-10-20T23:00:00.000+13:00",
        "2026-10-20T18:00:00+0800",
        "2026-10-20 10:00:00z",
        "2026-10-20T10:00+00:00",
    ],
)
def test_times_are_read_liberally_and_written_strictly(text: str):
    beat = Heartbeat.model_validate_json(json.dumps({"offline_mode_at": text}))
    assert beat.offline_mode_at == datetime(2026, 10, 20, 10, tzinfo=UTC)
    assert beat.wire() == '{"offline_mode_at":"2026-10-20T10:00:00.000Z"}'


def test_a_flat_handshake_means_the_nested_one():
    nested = RequiredBehaviour(heartbeat_interval=60, measurement_configuration=[MeasurementConfiguration.CONTINUOUS])
    assert (
        Handshake.model_validate_json('{"heartbeat_interval":60,"measurement_configuration":["CONTINUOUS"]}').required_behaviour == nested
    )
    assert Handshake.model_validate_json('{"heartbeat_interval":60}').required_behaviour == RequiredBehaviour(
        heartbeat_interval=60, measurement_configuration=[]
    )
    assert Handshake.model_validate_json("{}").required_behaviour is None
    assert json.loads(Handshake(required_behaviour=nested).wire()) == requires("CONTINUOUS", heartbeat_interval=60)


def test_every_action_has_its_path_and_model():
    assert set(PATHS) == set(MODELS) == set(Action)
    assert PATHS["HandshakeAcknowledge"] == "/handshake_acknowledge"
    assert PATHS["UpdateGroupCapacityForecast"] == "/update_group_capacity_forecast"
    assert {schema_name(action) for action in Action} <= {
        "register", "handshake", "handshake-acknowledge", "heartbeat", "update-group-capacity-forecast", "adjust-group-capacity-forecast",
        "group-capacity-compliance-error", "update-group-measurements", "update-asset-measurements",
    }  # fmt: skip


def test_the_error_body():
    assert complaints("error", {}) == []
    assert complaints("error", {"message": 1}) != []
