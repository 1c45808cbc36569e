"""Golden examples and round trips: every value on every topic, every OSCP message (contract 4)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.avro import records
from schemas.facts import Value
from schemas.oscp.v20 import MODELS, Action, Wire
from schemas.telemetry import Measurement, MeasurementBatch
from schemas.topics import BY_NAME
from sinks.codec import decode, encode
from tests.schemas.golden import EXAMPLES, NAMES, example, example_bytes, oscp_example
from tests.schemas.oca import complaints, schema_name
from tests.schemas.strategies import law, models


def test_there_is_one_example_of_everything_and_nothing_else():
    assert {file.stem for file in EXAMPLES.glob("*.json")} == {file.stem for file in EXAMPLES.glob("*.hex")} == set(NAMES)
    assert {file.stem for file in (EXAMPLES / "oscp").glob("*.json")} == set(Action)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_has_exactly_its_golden_bytes(name: str):
    value = example(name)
    assert encode(value).hex() == example_bytes(name).hex()
    topic = BY_NAME.get(name) or BY_NAME[name.removesuffix(f".{NAMES[name].__name__}")]  # a topic's second record adds its name
    assert decode(example_bytes(name), topic) == value


@pytest.mark.parametrize("model", records().values(), ids=records().keys())
@law
@given(data=st.data())
def test_any_value_survives_the_topic(model: type[Value], data: st.DataObject):
    value = data.draw(models(model))
    assert decode(encode(value)) == value


@pytest.mark.parametrize("action", Action)
def test_the_oscp_example_is_valid_and_comes_back_as_it_was(action: Action):
    text = oscp_example(action)
    assert complaints(schema_name(action), json.loads(text)) == []
    assert json.loads(MODELS[action].model_validate_json(text).wire()) == json.loads(text)


@pytest.mark.parametrize("action", Action)
@law
@given(data=st.data())
def test_any_oscp_message_is_valid_on_the_wire_and_comes_back(action: Action, data: st.DataObject):
    message: Wire = data.draw(models(MODELS[action]))
    text = message.wire()
    assert complaints(schema_name(action), json.loads(text)) == []
    assert MODELS[action].model_validate_json(text) == message


def test_readings_posted_as_json_are_the_same_values():
    text = '{"measurements":[{"asset_id":"mg-1-pv","measured_at":"2026-10-20T23:00:05+13:00","power_w":-4200.5,"export_wh":1234567.25}]}'
    assert MeasurementBatch.model_validate_json(text).measurements == [example("derms.telemetry")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"asset_id":"a","measured_at":"2026-10-20T10:00:00Z"}', "at least one"),
        ('{"asset_id":"a","measured_at":"2026-10-20T10:00:00","power_w":1}', "timezone"),
        ('{"asset_id":"a","measured_at":"0001-01-01T00:00:00+12:00","power_w":1}', "years 1 to 9999"),
        ('{"asset_id":"a","measured_at":"2026-10-20T10:00:00Z","power_w":1,"power_kw":1}', "Extra inputs"),
        ('{"asset_id":"a","measured_at":"2026-10-20T10:00:00Z","power_w":1,"phase":"FOUR"}', "'ALL'"),
    ],
)
def test_a_posted_reading_that_says_nothing_or_nonsense_is_refused(text: str, words: str):
    with pytest.raises(ValueError, match=words):
        Measurement.model_validate_json(text)
