"""Values to bytes and back: Avro in single-object encoding (contract 4).

`C3 01`, the 8-byte little-endian CRC-64-AVRO fingerprint of the writer schema's Parsing Canonical Form,
the datum. Every version ever released stays readable: what an earlier writer wrote comes out as the newest model.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from typing import Any, NamedTuple

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import fingerprint, to_parsing_canonical_form
from pydantic import ValidationError

from schemas.avro import SUFFIX, records, schema_of
from schemas.capacity import OperatingEnvelope
from schemas.errors import Undecodable
from schemas.facts import Value
from schemas.topics import Topic
from sinks.avro_walk import Walk, walk_of
from sinks.envelope_bytes import datum_of

MARKER = b"\xc3\x01"
HEADER_LENGTH = len(MARKER) + 8

_BROKEN = (
    EOFError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, MemoryError, struct.error, SchemaResolutionError,
)  # fmt: skip
"""What fastavro raises on bytes that are not a datum of the schema."""


class Writer(NamedTuple):
    """A schema values were written with: the record's name, the parsed schema, its JSON text, the walk over its data."""

    record: str
    schema: Any
    text: str
    walk: Walk


def fingerprint_of_schema(schema: dict[str, Any]) -> bytes:
    """The 8 bytes that name a schema in the encoding. Fields' defaults and logical types are no part of it."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _writer(record: str, schema: dict[str, Any]) -> Writer:
    parsed: Any = fastavro.parse_schema(schema)
    return Writer(record, parsed, json.dumps(schema), walk_of(parsed, parsed["__named_schemas"]))


def earlier_writers(folder: Traversable) -> Iterator[Writer]:
    """The writers of `<Name>.<n>.avsc` files in a folder; none where there is no folder."""
    if folder.is_dir():
        for file in sorted(folder.iterdir(), key=lambda each: each.name):
            if file.name.endswith(SUFFIX):
                yield _writer(file.name.split(".")[0], json.loads(file.read_text(encoding="utf-8")))


_MODELS: dict[str, type[Value]] = records()
_NEWEST: dict[str, Writer] = {name: _writer(name, schema_of(model)) for name, model in _MODELS.items()}
_FINGERPRINTS: dict[str, bytes] = {name: fingerprint_of_schema(writer.schema) for name, writer in _NEWEST.items()}
_HEADERS: dict[type[Value], bytes] = {_MODELS[name]: MARKER + print_ for name, print_ in _FINGERPRINTS.items()}

WRITERS: Mapping[bytes, Writer] = {
    **{fingerprint_of_schema(writer.schema): writer for writer in earlier_writers(files("schemas") / "avsc" / "earlier")},
    **{_FINGERPRINTS[name]: writer for name, writer in _NEWEST.items()},
}
"""Every schema that can be read, by fingerprint."""


def fingerprint_of(record: str | type[Value]) -> bytes:
    """The fingerprint of a record's newest schema, by name or model; KeyError for what is on no topic."""
    return _FINGERPRINTS[record if isinstance(record, str) else record.__name__]


def encode(value: Value) -> bytes:
    """The bytes of a value in its newest schema; KeyError if it is the record of no topic. Does not block."""
    if isinstance(value, OperatingEnvelope):
        return _HEADERS[OperatingEnvelope] + datum_of(value)
    stream = BytesIO()
    stream.write(_HEADERS[type(value)])
    fastavro.schemaless_writer(stream, _NEWEST[type(value).__name__].schema, value.model_dump())
    return stream.getvalue()


def decode(raw: bytes, topic: Topic | None = None) -> Value:
    """The value of some bytes, whichever version wrote them, as its newest model. Does not block.

    Raises `Undecodable`, with words that never hold the bytes, for anything else: another marker, an unknown
    fingerprint, a record that is not `topic`'s, too few or too many bytes, or a value the model refuses.
    """
    writer = writer_of(raw)
    model = _MODELS.get(writer.record)
    if model is None or (topic is not None and model not in topic.records):
        raise Undecodable(f"a {writer.record} does not belong on {topic.name if topic else 'any topic'}")
    try:
        return model.model_validate(_datum(raw, writer))
    except ValidationError as error:
        raise Undecodable(f"{writer.record}: {_words(error)}") from None


def writer_of(raw: bytes) -> Writer:
    """Who wrote these bytes, by their header alone; `Undecodable` if it is none we know."""
    if len(raw) < HEADER_LENGTH:
        raise Undecodable(f"{len(raw)} bytes are too few for Avro single-object encoding, whose header alone has {HEADER_LENGTH}")
    if not raw.startswith(MARKER):
        raise Undecodable("no Avro single-object encoding: the first two bytes are not C3 01")
    print_ = bytes(raw[len(MARKER) : HEADER_LENGTH])
    writer = WRITERS.get(print_)
    if writer is None:
        raise Undecodable(f"unknown schema fingerprint {print_.hex()}")
    return writer


def _datum(raw: bytes, writer: Writer) -> Any:
    newest = _NEWEST[writer.record]
    stream = BytesIO(raw)
    stream.seek(HEADER_LENGTH)
    try:
        datum = fastavro.schemaless_reader(stream, writer.schema, None if writer is newest else newest.schema)
        writer.walk(raw, HEADER_LENGTH)
    except _BROKEN as error:
        raise Undecodable(f"{writer.record}: the datum does not fit its schema ({type(error).__name__})") from None
    if (rest := len(raw) - stream.tell()) != 0:
        raise Undecodable(f"{writer.record}: {rest} bytes are left over after the datum")
    return datum


def _words(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'whole'}: {one['msg']}" for one in error.errors(include_input=False, include_url=False)
    )
