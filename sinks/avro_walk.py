"""Walks over an Avro datum to see what fastavro does not: enum and union indexes that are negative.

fastavro counts those from the end, so that bytes which mean nothing would come out as the last symbol. The walk goes over every
value of every control topic, so a schema is made into functions once.
"""

from collections.abc import Callable, Mapping
from typing import Any

Walk = Callable[[bytes, int], int]
"""From where a datum begins to where it ends. Raises IndexError for a negative index or length, or where the bytes end before it does."""


def walk_of(kind: Any, named: Mapping[str, Any]) -> Walk:
    """The walk over data of a parsed schema; `named` has its named types."""
    match kind:
        case "null":
            return lambda raw, at: at
        case "boolean":
            return lambda raw, at: at + 1
        case "double":
            return lambda raw, at: at + 8
        case "string" | "bytes":
            return _text
        case "long":
            return lambda raw, at: _long(raw, at)[1]
        case str():
            return walk_of(named[kind], named)
        case list():
            return _union([walk_of(each, named) for each in kind])
        case {"type": "record"}:
            return _record([walk_of(field["type"], named) for field in kind["fields"]])
        case {"type": "enum"}:
            return lambda raw, at: _index(raw, at)[1]
        case {"type": "array"}:
            return _array(walk_of(kind["items"], named))
        case _:
            return walk_of(kind["type"], named)


def _text(raw: bytes, at: int) -> int:
    size, at = _index(raw, at)
    return at + size


def _union(branches: list[Walk]) -> Walk:
    def walk(raw: bytes, at: int) -> int:
        index, at = _index(raw, at)
        return branches[index](raw, at)

    return walk


def _record(fields: list[Walk]) -> Walk:
    def walk(raw: bytes, at: int) -> int:
        for field in fields:
            at = field(raw, at)
        return at

    return walk


def _array(item: Walk) -> Walk:
    def walk(raw: bytes, at: int) -> int:
        while True:
            count, at = _long(raw, at)
            if count == 0:
                return at
            if count < 0:  # then the block's length in bytes comes first
                _, at = _long(raw, at)
            for _ in range(abs(count)):
                at = item(raw, at)

    return walk


def _index(raw: bytes, at: int) -> tuple[int, int]:
    byte = raw[at]
    if byte < 0x80 and not byte & 1:
        return byte >> 1, at + 1
    index, at = _long(raw, at)
    if index < 0:
        raise IndexError("negative")
    return index, at


def _long(raw: bytes, at: int) -> tuple[int, int]:
    """Avro's variable-length zig-zag integer, and where it ends."""
    bits = shift = 0
    while True:
        byte = raw[at]
        at += 1
        bits |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (bits >> 1) ^ -(bits & 1), at
        shift += 7
