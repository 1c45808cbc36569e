"""The golden examples beside the schemas: what producers' and consumers' tests both speak of.

`schemas/examples/<topic>.json` is the value, `<topic>.hex` its exact bytes; a topic's second record adds its
name (`derms.telemetry.MeasurementBatch`). `schemas/examples/oscp/<Action>.json` is the message on the wire.
"""

import json
from pathlib import Path

from schemas.avro import rendered
from schemas.facts import Value
from schemas.topics import TOPICS
from sinks.codec import encode

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
NAMES: dict[str, type[Value]] = {
    (topic.name if model is topic.records[0] else f"{topic.name}.{model.__name__}"): model for topic in TOPICS for model in topic.records
}


def example(name: str) -> Value:
    """The golden value of a topic."""
    return NAMES[name].model_validate_json((EXAMPLES / f"{name}.json").read_bytes())


def example_bytes(name: str) -> bytes:
    """The golden value's bytes on the topic."""
    return bytes.fromhex((EXAMPLES / f"{name}.hex").read_text())


def oscp_example(action: str) -> str:
    """The golden OSCP message of an action, as JSON text."""
    return (EXAMPLES / "oscp" / f"{action}.json").read_text()


def rewrite() -> None:
    """Render the schema files and the golden bytes again, after a model has changed on purpose (schemas/README.md)."""
    for file, text in rendered().items():
        (EXAMPLES.parent / "avsc" / file).write_text(text)
    for name in NAMES:
        value = example(name)
        (EXAMPLES / f"{name}.json").write_text(json.dumps(value.model_dump(mode="json"), indent=2) + "\n")
        (EXAMPLES / f"{name}.hex").write_text(encode(value).hex() + "\n")


if __name__ == "__main__":
    rewrite()
