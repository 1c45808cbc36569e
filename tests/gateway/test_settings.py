import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.settings import clock_of, environment_of, load
from schemas.clock import ScaledClock, SystemClock
from sinks.errors import Misconfigured

SECRET = base64.b64encode(bytes(range(32))).decode()


def test_defaults_need_nothing() -> None:
    settings = load({})
    assert settings.gateway.operations_host == "127.0.0.1"
    assert isinstance(clock_of(settings), SystemClock)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DERMS_KAFKA__BOOTSTRP": "x"}, "DERMS_KAFKA__BOOTSTRP"),
        ({"DERMS_GATEWAY__OSCP_PORT": "many"}, "for example 8480"),
        ({"DERMS_GATEWAY__OSCP_PORT": "70000"}, "DERMS_GATEWAY__OSCP_PORT"),
        ({"DERMS_SECRET": base64.b64encode(b"short").decode()}, "must be 32 bytes in base64, this is 5"),
        ({"DERMS_SECRET": "%"}, "DERMS_SECRET: is not base64"),
        ({"DERMS_SECRET_FILE": "no-such-file"}, "DERMS_SECRET_FILE: No such file"),
        ({"DERMS_NONSENSE": "1"}, "DERMS_NONSENSE: is not a setting"),
        ({"DERMS_CLOCK__SPEED": "0"}, "DERMS_CLOCK__SPEED"),
    ],
)
def test_a_wrong_setting_is_named_in_full_with_its_problem(environment: dict[str, str], words: str) -> None:
    with pytest.raises(Misconfigured, match=words.replace("(", r"\(")):
        load(environment)


def test_a_wrong_secret_is_not_repeated_in_the_error() -> None:
    with pytest.raises(Misconfigured) as caught:
        load({"DERMS_SECRET": "c2VjcmV0LXdvcmRz"})
    assert "c2VjcmV0" not in str(caught.value)


def test_every_secret_may_come_from_a_file(tmp_path: Path) -> None:
    names = ("DERMS_SECRET", "DERMS_KAFKA__SASL_PASSWORD", "DERMS_CLICKHOUSE__PASSWORD", "DERMS_CIRCUITS__TOKEN", "DERMS_OPERATOR_TOKEN")
    environment = {}
    for name in names:
        path = tmp_path / name
        path.write_text(SECRET + "\n")
        environment[f"{name}_FILE"] = str(path)
    settings = load(environment)
    found_in = (
        settings.secret,
        settings.kafka.sasl_password,
        settings.clickhouse.password,
        settings.circuits.token,
        settings.operator_token,
    )
    for found in found_in:
        assert found is not None
        assert found.get_secret_value() == SECRET


def test_settings_survive_the_way_to_a_child_process() -> None:
    settings = load(
        {
            "DERMS_KAFKA__BOOTSTRAP": "broker:9092",
            "DERMS_SECRET": SECRET,
            "DERMS_CLOCK__ORIGIN": "2007-06-09T13:00:00Z",
            "DERMS_CLOCK__STARTED": "2026-11-22T00:00:00.123Z",
            "DERMS_CLOCK__SPEED": "240",
            "DERMS_CLOCK__FLOOR": "PT3S",
            "DERMS_DATA": "some/where",
        }
    )
    assert load(environment_of(settings)) == settings


def test_a_scaled_clock_is_shared_by_its_three_values() -> None:
    settings = load(
        {"DERMS_CLOCK__ORIGIN": "2007-06-09T13:00:00Z", "DERMS_CLOCK__STARTED": "2026-11-22T00:00:00Z", "DERMS_CLOCK__SPEED": "240"}
    )
    clock = clock_of(settings)
    assert isinstance(clock, ScaledClock)
    assert clock.wall_at(datetime(2007, 6, 9, 14, tzinfo=UTC)) == datetime(2026, 11, 22, 0, 0, 15, tzinfo=UTC)
    assert clock.allowance(timedelta(minutes=1)) == timedelta(minutes=8)
