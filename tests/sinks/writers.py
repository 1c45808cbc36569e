"""Avro telemetry for tests of the decoder: earlier writers, arrays in any form, and a plain reading of one payload."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import fastavro
import pytest

from schemas.errors import Undecodable
from schemas.telemetry import Measurement, MeasurementBatch, Quality
from schemas.topics import TELEMETRY
from schemas.units import Phase, to_ms
from sinks import codec, columns
from sinks.avro_walk import walk_of
from sinks.codec import HEADER_LENGTH, MARKER, WRITERS, Writer, decode, fingerprint_of_schema, writer_of
from sinks.column_layouts import layout_of, table_of
from sinks.columns import VALUES, Readings

INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
EARLIER = {
    "type": "record",
    "name": "Measurement",
    "namespace": "derms",
    "fields": [
        {"name": "measured_at", "type": INSTANT},
        {"name": "asset_id", "type": "string"},
        {"name": "power_w", "type": "double"},
        {"name": "import_wh", "type": ["double", "null"]},
        {"name": "quality", "type": {"type": "enum", "name": "Quality", "symbols": ["BAD", "GOOD"]}},
    ],
}
"""From before some fields, in another order, with other branches and symbols."""
EARLIEST = {
    "type": "record",
    "name": "Measurement",
    "namespace": "derms",
    "fields": [
        {"name": "site", "type": "string"},
        {"name": "sequence", "type": "long"},
        {"name": "checked", "type": ["null", "boolean"], "default": None},
        {"name": "asset_id", "type": "string"},
        {"name": "volts", "type": "double"},
        {"name": "measured_at", "type": INSTANT},
        {"name": "stored_wh", "type": ["null", "double"], "default": None},
        {"name": "import_wh", "type": ["null", "double"], "default": None},
        {"name": "note", "type": ["string", "null"]},
    ],
}
"""With fields nobody reads any more."""
NESTED = {
    "type": "record",
    "name": "Measurement",
    "namespace": "derms",
    "fields": [
        {"name": "asset_id", "type": "string"},
        {"name": "measured_at", "type": INSTANT},
        {"name": "power_w", "type": "long"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
"""Not flat, and with a whole number where a reading has a float."""


def writer(schema: dict[str, Any]) -> Writer:
    """As the codec has them."""
    parsed = fastavro.parse_schema(schema)
    return Writer(schema["name"], parsed, json.dumps(schema), walk_of(parsed, parsed["__named_schemas"]))


def batch_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of arrays of such records."""
    field = {"name": "measurements", "type": {"type": "array", "items": schema}}
    return {"type": "record", "name": "MeasurementBatch", "namespace": "derms", "fields": [field]}


WRITTEN_EARLIER = {fingerprint_of_schema(schema): writer(schema) for one in (EARLIER, EARLIEST, NESTED) for schema in (one, batch_of(one))}


@contextmanager
def known_writers() -> Iterator[None]:
    """The codec and the columns know the writers above."""
    found = {print_: layout_of(writer) for print_, writer in WRITTEN_EARLIER.items()}
    assert [layout is None for layout in found.values()] == [False, False, False, False, True, True]
    layouts = {print_: layout for print_, layout in found.items() if layout is not None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "WRITERS", {**WRITERS, **WRITTEN_EARLIER})
        patch.setattr(columns, "_TABLE", table_of({**columns._LAYOUTS, **layouts}))
        patch.setattr(columns, "_HEADS", columns._HEADS | {MARKER + print_ for print_ in WRITTEN_EARLIER})
        yield


def head_of(schema: dict[str, Any]) -> bytes:
    return MARKER + fingerprint_of_schema(schema)


def item(schema: dict[str, Any], datum: dict[str, Any]) -> bytes:
    """A record without a header."""
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), datum)
    return body.getvalue()


def varint(number: int) -> bytes:
    """Avro's zig-zag variable-length integer."""
    bits, out = (number << 1) ^ (number >> 63), bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def array(blocks: list[tuple[list[bytes], bool]]) -> bytes:
    """An Avro array of those blocks of items; the flag says that a block's length in bytes is given."""
    out = b""
    for items, sized in blocks:
        body = b"".join(items)
        out += varint(-len(items)) + varint(len(body)) + body if sized else varint(len(items)) + body
    return out + b"\0"


Row = tuple[str, int, int, str, str, tuple[bytes | None, ...]]


def rows(readings: Readings) -> list[Row]:
    """Columns as (id, instant, payload, phase, quality, the bits of the values)."""
    values = [(bit, getattr(readings, name)) for name, bit in VALUES.items()]
    return [
        (
            readings.ids[readings.asset[row]], int(readings.measured_at[row]), int(readings.payload[row]),
            list(Phase)[readings.phase[row]].value, list(Quality)[readings.quality[row]].value,
            tuple(column[row].tobytes() if readings.present[row] & bit else None for bit, column in values),
        )
        for row in range(len(readings))
    ]  # fmt: skip


def alone(payload: bytes, index: int) -> tuple[list[Row], str]:
    """What one payload means, read by itself: its readings, or why it has none.

    Both, where only the model refuses it, for a reading without a value or of an instant no calendar has: the columns have
    such readings, unless the payload's form makes them ask the model.
    """
    try:
        value = decode(payload, TELEMETRY)
    except Undecodable as error:
        if " at least one of " in str(error) or "(OverflowError)" in str(error):
            found = _plain(payload)
            if found is not None:
                return [_row(index, one) for one in found], str(error)
        return [], str(error)
    found = value.measurements if isinstance(value, MeasurementBatch) else [value] if isinstance(value, Measurement) else []
    return [_row(index, one.model_dump() | {"measured_at": to_ms(one.measured_at)}) for one in found], ""


def _row(index: int, one: dict[str, Any]) -> Row:
    values = tuple(None if one.get(name) is None else struct.pack("<d", one[name]) for name in VALUES)
    return (one["asset_id"], one["measured_at"], index, str(one.get("phase", "ALL")), str(one.get("quality", "GOOD")), values)


def _plain(payload: bytes) -> list[dict[str, Any]] | None:
    """The records with instants as numbers, without any model."""
    found = writer_of(payload)
    text = json.loads(found.text.replace(', "logicalType": "timestamp-millis"', ""))
    body = BytesIO(payload[HEADER_LENGTH:])
    try:
        datum = fastavro.schemaless_reader(body, fastavro.parse_schema(text), None)
        found.walk(payload, HEADER_LENGTH)
    except (EOFError, ValueError, LookupError, TypeError):
        return None
    if body.read():
        return None
    return datum["measurements"] if found.record == "MeasurementBatch" else [datum]
