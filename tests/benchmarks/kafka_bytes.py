"""Kafka's record batches (format 2, lz4), made in bulk.

A client library costs about a microsecond of one core for each message; a benchmark that gives every variant its own
copy of millions of messages in every round cannot wait for that. Batches are made once and appended as often as needed.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import cache

import lz4.frame  # type: ignore[import-untyped]  # comes with the history store's client
import numpy as np
from numba import njit
from numpy.typing import NDArray

PARTITIONS = 16
"""As the product's telemetry and quarter hours have (contract 4); the peers' topics have the same."""

_HEADER = struct.Struct(">qiibI")
_CHECKED = struct.Struct(">hiqqqhii")
_LZ4 = 3


def varint(value: int) -> bytes:
    """A zig-zag variable-length integer, as Avro and Kafka both write it."""
    bits = (value << 1) ^ (value >> 63)
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def partitions_of(keys: NDArray[np.bytes_], count: int = PARTITIONS) -> NDArray[np.int64]:
    """Where murmur2, Java's and our producers' partitioner, puts keys of one length (a multiple of 4)."""
    width = keys.dtype.itemsize
    if width % 4:
        raise ValueError("keys must have a multiple of 4 bytes")
    m = np.uint32(0x5BD1E995)
    h = np.full(len(keys), 0x9747B28C ^ width, np.uint32)
    for k in keys.view("<u4").reshape(len(keys), -1).T.copy():
        k *= m
        k ^= k >> np.uint32(24)
        k *= m
        h = h * m ^ k
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return (h & np.uint32(0x7FFFFFFF)).astype(np.int64) % count


def _crc_table() -> NDArray[np.uint32]:
    table = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table[0, byte] = value
    for row in range(1, 8):
        table[row] = table[row - 1] >> np.uint32(8) ^ table[0, table[row - 1] & np.uint32(0xFF)]
    return table


_TABLE = _crc_table()


@njit(cache=True, nogil=True)
def _crc(table: NDArray[np.uint32], data: NDArray[np.uint8]) -> np.uint32:
    crc = np.uint32(0xFFFFFFFF)
    whole = len(data) // 8 * 8
    for at in range(0, whole, 8):
        low = crc ^ (np.uint32(data[at]) | np.uint32(data[at + 1]) << 8 | np.uint32(data[at + 2]) << 16 | np.uint32(data[at + 3]) << 24)
        crc = np.uint32(
            table[7, low & 0xFF] ^ table[6, low >> 8 & 0xFF] ^ table[5, low >> 16 & 0xFF] ^ table[4, low >> 24]
            ^ table[3, data[at + 4]] ^ table[2, data[at + 5]] ^ table[1, data[at + 6]] ^ table[0, data[at + 7]]
        )  # fmt: skip
    for at in range(whole, len(data)):
        crc = np.uint32(crc >> 8 ^ table[0, (crc ^ data[at]) & 0xFF])
    return crc ^ np.uint32(0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """The checksum of record batches."""
    return int(_crc(_TABLE, np.frombuffer(data, np.uint8)))


def record_batch(records: bytes, count: int) -> bytes:
    """A batch of `count` records as the broker takes it. Time stamps are the broker's (LogAppendTime)."""
    packed: bytes = lz4.frame.compress(records, block_size=lz4.frame.BLOCKSIZE_MAX64KB, block_linked=False, store_size=False)
    checked = _CHECKED.pack(_LZ4, count - 1, 0, 0, -1, -1, -1, count) + packed
    return _HEADER.pack(0, len(checked) + 9, -1, 2, crc32c(checked)) + checked


def batches_of(keys: Sequence[bytes], values: Sequence[bytes], at_once: int) -> Iterator[bytes]:
    """Record batches of `at_once` messages."""
    for first in range(0, len(keys), at_once):
        records = []
        for delta, (key, value) in enumerate(zip(keys[first : first + at_once], values[first : first + at_once], strict=True)):
            body = b"".join((b"\0\0", varint(delta), varint(len(key)), key, varint(len(value)), value, b"\0"))
            records.append(varint(len(body)) + body)
        yield record_batch(b"".join(records), len(records))


def uniform_batches(keys: NDArray[np.bytes_], values: NDArray[np.uint8], at_once: int) -> Iterator[bytes]:
    """The same, by columns, where all keys are of one length and all values, too."""
    if not 64 < at_once <= 8192:
        raise ValueError("a batch holds 65 to 8192 messages: then its deltas take one byte or two")
    near, far = (_records(keys, values, at_once, some) for some in (range(64), range(64, at_once)))
    for first in range(0, len(keys), at_once):
        count, index = min(at_once, len(keys) - first), first // at_once
        yield record_batch(near[index][: min(count, 64)].tobytes() + far[index][: max(count - 64, 0)].tobytes(), count)


def _records(keys: NDArray[np.bytes_], values: NDArray[np.uint8], at_once: int, deltas: range) -> list[NDArray[np.void]]:
    """For each batch, its records with these deltas (all of which take the same number of bytes)."""
    key_length, value_length = (varint(size) for size in (keys.dtype.itemsize, values.shape[1]))
    delta = _varints(deltas)
    size = 2 + delta.shape[1] + len(key_length) + keys.dtype.itemsize + len(value_length) + values.shape[1] + 1
    length = varint(size)
    parts = [("length", len(length)), ("zeros", 2), ("delta", delta.shape[1]), ("key_length", len(key_length))]
    parts += [("key", keys.dtype.itemsize), ("value_length", len(value_length)), ("value", values.shape[1]), ("headers", 1)]
    dtype = np.dtype([(name, "u1", width) for name, width in parts])
    head = {"length": length, "key_length": key_length, "value_length": value_length}
    found = []
    for first in range(0, len(keys), at_once):
        chosen = slice(first + deltas.start, min(first + deltas.stop, len(keys)))
        count = max(0, chosen.stop - chosen.start)
        out = np.zeros(count, dtype)
        if count:
            for name, fixed in head.items():
                out[name] = np.frombuffer(fixed, np.uint8)
            out["delta"] = delta[:count]
            out["key"] = keys[chosen].view(np.uint8).reshape(count, -1)
            out["value"] = values[chosen]
        found.append(out)
    return found


@cache
def _varints(numbers: range) -> NDArray[np.uint8]:
    return np.array([list(varint(each)) for each in numbers], np.uint8)
