"""Many Avro datums read at once: joined into one in-memory container block, read by polars, and proved one by one.

The reader sees neighbours as one stream and checks little (engine.md 3: left-over bytes and unknown union
branches pass without a word), so what comes out is believed only after every byte that gives the rows
their structure has been found where the columns say it must be.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PanicException, PolarsError

from sinks.codec import Writer

_SYNC = bytes(16)
_VARINT_STEPS = np.array([1 << 7 * n for n in range(1, 10)], dtype=np.uint64)
_NULLABLE = (["null", "double"], ["double", "null"])


@dataclass(frozen=True)
class Layout:
    """How a writer's flat records lie in bytes: (field, kind, detail) in order; kinds are those of `layout_of`.

    `batched` says that a message is an array of such records.
    """

    fields: tuple[tuple[str, str, Any], ...]
    batched: bool

    @cached_property
    def header(self) -> bytes:
        """The head of a container file for these records: enums as ints and no defaults, which the bytes do not show."""
        kinds = {"string": "string", "long": "long", "double": "double", "enum": "int"}
        fields = [{"name": name, "type": detail if kind == "nullable" else kinds[kind]} for name, kind, detail in self.fields]
        schema = json.dumps({"type": "record", "name": "Row", "fields": fields}).encode()
        entries = _text(b"avro.schema") + _text(schema) + _text(b"avro.codec") + _text(b"null")
        return b"Obj\x01" + varint(2) + entries + varint(0) + _SYNC


def layout_of(writer: Writer) -> Layout | None:
    """The layout of a writer of flat measurements or of arrays of them; None if it must be read one by one."""
    schema = json.loads(writer.text)
    batched = writer.record == "MeasurementBatch"
    if batched:
        if len(schema["fields"]) != 1:
            return None
        schema = schema["fields"][0]["type"]["items"]
    fields = [(field["name"], *_kind(field["type"])) for field in schema["fields"]]
    return None if any(kind == "" for _, kind, _ in fields) else Layout(tuple(fields), batched)


def _kind(type_: Any) -> tuple[str, Any]:
    match type_:
        case "string" | "long" | "double":
            return type_, None
        case {"type": "long"}:
            return "long", None
        case {"type": "enum", "symbols": symbols} if len(symbols) < 64:  # one byte an index
            return "enum", symbols
        case list() if type_ in _NULLABLE:
            return "nullable", type_
    return "", None


def varint(number: int) -> bytes:
    """Avro's zig-zag variable-length integer."""
    bits, out = (number << 1) ^ (number >> 63), bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at `at`, and where the next thing begins; IndexError if the bytes end before it does."""
    bits = shift = 0
    while True:
        byte = raw[at]
        at += 1
        bits |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (bits >> 1) ^ -(bits & 1), at
        shift += 7


def array_body(raw: bytes, at: int) -> tuple[int, bytes] | None:
    """The number and the bytes of the items of an Avro array in one block that ends with `raw`; None for any other form."""
    try:
        count, at = read_varint(raw, at)
        if count == 0:
            return (0, b"") if at == len(raw) else None
        if count < 0:  # then the block's length in bytes comes first
            _, at = read_varint(raw, at)
    except IndexError:
        return None
    body = raw[at:-1]
    return (abs(count), body) if raw[-1] == 0 and len(raw) > at else None


def read_block(layout: Layout, bodies: Sequence[bytes], counts: NDArray[np.int64]) -> pl.DataFrame | None:
    """The rows of `bodies`, each holding `counts` of them, or None if not every one of them is proved to be what it says."""
    total = int(counts.sum())
    body = b"".join(bodies)
    if total * len(layout.fields) > len(body):  # each field takes a byte or more; a lying count must not be believed first
        return None
    try:
        frame = pl.read_avro(BytesIO(layout.header + varint(total) + varint(len(body)) + body + _SYNC))
    except (PolarsError, PanicException, OSError, ValueError, OverflowError):
        return None
    sizes = np.fromiter(map(len, bodies), dtype=np.int64, count=len(bodies))
    return frame if _proved(layout, frame, np.frombuffer(body, np.uint8), sizes, counts) else None


def _proved(layout: Layout, frame: pl.DataFrame, body: NDArray[np.uint8], sizes: NDArray[np.int64], counts: NDArray[np.int64]) -> bool:
    """Whether each row's bytes, counted again from its columns, fill its message, and the bytes between the values are right."""
    if frame.height != counts.sum():
        return False
    widths = [_widths(frame[name], kind) for name, kind, _ in layout.fields]
    ends = np.cumsum(np.sum(widths, axis=0, dtype=np.int64))
    filled = np.concatenate((np.zeros(1, np.int64), ends))[np.cumsum(counts)]
    if not np.array_equal(filled, np.cumsum(sizes)):
        return False
    at = np.concatenate((np.zeros(1, np.int64), ends[:-1])) if frame.height else ends
    for (name, kind, detail), width in zip(layout.fields, widths, strict=True):
        if not _structured(frame[name], kind, detail, body, at, width):
            return False
        at = at + width
    return True


def _widths(column: pl.Series, kind: str) -> NDArray[np.int64]:
    match kind:
        case "string":
            lengths = column.str.len_bytes().to_numpy().astype(np.int64)
            return lengths + _varint_widths(lengths)
        case "long":
            return _varint_widths(column.to_numpy())
        case "nullable":
            return np.where(column.is_not_null().to_numpy(), 9, 1).astype(np.int64)
        case "double":
            return np.full(len(column), 8, np.int64)
    return np.ones(len(column), np.int64)


def _structured(
    column: pl.Series, kind: str, detail: Any, body: NDArray[np.uint8], at: NDArray[np.int64], width: NDArray[np.int64]
) -> bool:
    match kind:
        case "string":
            return bool((body[at + _varint_widths(column.str.len_bytes().to_numpy().astype(np.int64)) - 1] < 0x80).all())
        case "long":
            return bool((body[at + width - 1] < 0x80).all())
        case "nullable":
            value, null = 2 * detail.index("double"), 2 * detail.index("null")
            return bool((body[at] == np.where(width == 9, value, null)).all())
        case "enum":
            return bool((body[at] < 2 * len(detail)).all() and (body[at] % 2 == 0).all())
    return True


def _varint_widths(numbers: NDArray[Any]) -> NDArray[np.int64]:
    signed = numbers.astype(np.int64)
    bits = ((signed << 1) ^ (signed >> 63)).view(np.uint64)
    low, high = (int(np.searchsorted(_VARINT_STEPS, edge, side="right")) for edge in ((bits.min(), bits.max()) if len(bits) else (0, 0)))
    if low == high:  # instants near each other all take the same
        return np.full(len(bits), low + 1, np.int64)
    return np.searchsorted(_VARINT_STEPS, bits, side="right") + 1


def _text(data: bytes) -> bytes:
    return varint(len(data)) + data
