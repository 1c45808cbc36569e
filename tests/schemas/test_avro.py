"""The committed schema files are the models' (contract 4)."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import fastavro
import pytest
from pydantic import BaseModel

from schemas import avro
from schemas.topics import TOPICS

FOLDER = Path(avro.__file__).parent / "avsc"


def committed() -> dict[str, str]:
    return {file.name: file.read_text() for file in FOLDER.glob("*.avsc")}


def test_the_committed_schemas_are_current():
    assert committed() == avro.rendered(), "run `derms schemas render` and commit schemas/avsc"


def test_every_record_of_every_topic_has_a_file():
    assert set(committed()) == {f"{model.__name__}.avsc" for topic in TOPICS for model in topic.records}


@pytest.mark.parametrize("name", sorted(avro.rendered()))
def test_each_file_stands_alone_and_uses_what_the_contract_says(name: str):
    schema = json.loads((FOLDER / name).read_text())
    fastavro.parse_schema(schema)
    assert schema["namespace"] == "derms"
    assert f"{schema['name']}.avsc" == name
    assert '"map"' not in (FOLDER / name).read_text()


def test_a_measurement_is_as_the_contract_says():
    fields = {field["name"]: field for field in json.loads((FOLDER / "Measurement.avsc").read_text())["fields"]}
    assert list(fields) == ["asset_id", "measured_at", "power_w", "import_wh", "export_wh", "stored_wh", "phase", "quality"]
    assert fields["asset_id"]["type"] == "string"
    assert fields["measured_at"]["type"] == {"type": "long", "logicalType": "timestamp-millis"}
    for name in ("power_w", "import_wh", "export_wh", "stored_wh"):
        assert fields[name] == {"name": name, "type": ["null", "double"], "default": None}
    assert fields["phase"]["type"]["symbols"] == ["ALL", "ONE", "TWO", "THREE"]
    assert fields["phase"]["default"] == "ALL"
    assert fields["quality"]["type"]["symbols"] == ["GOOD", "ESTIMATED", "BAD"]
    assert fields["quality"]["default"] == "GOOD"


class Colour(StrEnum):
    RED = "RED"
    BLUE = "BLUE"


class Leaf(BaseModel):
    colour: Colour
    other: Colour | None = None
    amount: float | None = 2.5


class Tree(BaseModel):
    leaf: Leaf
    leaves: list[Leaf] = []
    note: str | None
    colour: Colour = Colour.BLUE
    raw: bytes
    alive: bool = True
    rings: int = 0


def test_named_types_are_written_out_once_and_defaults_are_avros():
    colour = {"type": "enum", "name": "Colour", "namespace": "derms", "symbols": ["RED", "BLUE"]}
    leaf = {
        "type": "record",
        "name": "Leaf",
        "namespace": "derms",
        "fields": [
            {"name": "colour", "type": colour},
            {"name": "other", "type": ["null", "derms.Colour"], "default": None},
            {"name": "amount", "type": ["double", "null"], "default": 2.5},
        ],
    }
    assert avro.schema_of(Tree)["fields"] == [
        {"name": "leaf", "type": leaf},
        {"name": "leaves", "type": {"type": "array", "items": "derms.Leaf"}, "default": []},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "colour", "type": "derms.Colour", "default": "BLUE"},
        {"name": "raw", "type": "bytes"},
        {"name": "alive", "type": "boolean", "default": True},
        {"name": "rings", "type": "long", "default": 0},
    ]


class Unwritable(BaseModel):
    anything: dict[str, Any]


class Ambiguous(BaseModel):
    either: int | str


@pytest.mark.parametrize("model", [Unwritable, Ambiguous])
def test_what_has_no_avro_counterpart_is_refused(model: type[BaseModel]):
    with pytest.raises(TypeError):
        avro.schema_of(model)
