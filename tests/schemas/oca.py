"""The Open Charge Alliance's JSON Schemas as judges. Keyed by file name: two `$id`s do not match theirs."""

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

FOLDER = Path(__file__).parents[1] / "data" / "oscp-2.0-schemas"
BASE = "http://www.openchargealliance.org/schemas/oscp/2.0/"

SCHEMAS: dict[str, Any] = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
REGISTRY: Registry[Any] = Registry().with_resources(
    [(f"{BASE}{name}.json", Resource.from_contents(schema, default_specification=DRAFT7)) for name, schema in SCHEMAS.items()]
)


def schema_name(action: str) -> str:
    """`UpdateGroupMeasurements` -> `update-group-measurements`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", action).lower()


def complaints(name: str, instance: Any) -> list[str]:
    """What the schema of that file name says against an instance; empty when it is valid."""
    return [error.message for error in Draft7Validator(SCHEMAS[name], registry=REGISTRY).iter_errors(instance)]
