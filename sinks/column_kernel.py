"""The decoder's compiled loop: bytes to columns, one datum after another (engine.md 3).

Compiled by numba at the first use and cached beside this file. Written so that it means the same when it is not compiled,
which is how the tests watch every index; and without allocating anything, so that no array has to be counted (`_nrt`):
counting cost four times what the work does.

The rules of the walk: a payload is good if it is a known schema's datum to its last byte. No byte is looked at before
it is known to lie inside the payload - but for `part`, which may look `PAD` bytes (`sinks.payloads`) past the end of an
id, hence the padding behind all. What is legal Avro but never written so (a branch or symbol index of several bytes, a
number of more than ten) is refused here: whoever asks reads those payloads in another way.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Codes = NDArray[np.int8]

HEAD = 10
STRING, INSTANT, VALUE, ENUM, LONG, FIXED, NO_VALUE, NO_ENUM = range(8)
"""What a step of a layout does: read the id, the instant, a value, a symbol; step over a long or over some bytes, as
`STRING` does without a target; note that the schema has no such value, no such symbol."""
KIND, TARGET, NULL, SOME, FIRST, COUNT = range(6)
"""A step's columns: what it does; which column it is for (-1: none); the byte that says null and the one that says that
there is something (-1: it is not nullable); the first of its symbols' codes and how many they are, or the bytes to step over."""

_NAN = np.uint64(0x7FF8000000000000)
_HIGH_BITS = np.uint64(0x8080808080808080)
_LOW7 = np.uint64(0x7F)
_ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX, _SEVEN = (np.uint64(n) for n in range(1, 8))
_8, _16, _24, _32, _40, _48, _56, _63 = (np.uint64(n) for n in (8, 16, 24, 32, 40, 48, 56, 63))

loop = njit(cache=True, nogil=True, _nrt=False)
"""Compiled. Numba renews what it cached of a function only when that function's own file changes: so a loop may call none of
another file, but for `part`, which has no reason ever to change."""


class Layouts(NamedTuple):
    """The schemas that can be walked: their fingerprints, whether a payload is an array of records, each one's steps."""

    prints: Words
    batched: NDArray[np.bool_]
    first: Words
    steps: Ints
    codes: Codes


class Columns(NamedTuple):
    """Where readings go. `values` holds the bits of floats; `id_at` and `id_size` say where the id of a reading lies."""

    id_at: Ints
    id_size: Places
    measured_at: Ints
    values: Words
    present: Bytes
    enums: Codes
    payload: Places


@loop
def byte(raw: Bytes, at: int) -> int:
    """One byte. Indexes are unsigned in here, for signed ones could count from the end and cost a look each."""
    return int(raw[np.uint64(at)])


@loop
def word(raw: Bytes, at: int) -> np.uint64:
    """Eight bytes as a number; compiled, one load."""
    a = np.uint64(at)
    return np.uint64(
        np.uint64(raw[a]) | np.uint64(raw[a + _ONE]) << _8 | np.uint64(raw[a + _TWO]) << _16 | np.uint64(raw[a + _THREE]) << _24
        | np.uint64(raw[a + _FOUR]) << _32 | np.uint64(raw[a + _FIVE]) << _40 | np.uint64(raw[a + _SIX]) << _48
        | np.uint64(raw[a + _SEVEN]) << _56
    )  # fmt: skip


@loop
def part(raw: Bytes, at: int, end: int) -> np.uint64:
    """The at most eight bytes from `at` to `end` as a number."""
    if end - at >= 8:
        return word(raw, at)
    return np.uint64(word(raw, at) & ((_ONE << np.uint64(8 * (end - at))) - _ONE))


@loop
def is_text(raw: Bytes, at: int, end: int) -> bool:
    """Whether the bytes are UTF-8; ASCII, as most ids are, is seen eight bytes at a time."""
    while at < end and not part(raw, at, end) & _HIGH_BITS:
        at += 8
    return at >= end or is_utf8(raw, at, end)


@loop
def is_utf8(raw: Bytes, at: int, end: int) -> bool:
    """Whether the bytes are UTF-8: no overlong forms, no surrogates, nothing past U+10FFFF."""
    while at < end:
        lead = byte(raw, at)
        at += 1
        if lead < 0x80:
            continue
        more = 1 if 0xC2 <= lead <= 0xDF else 2 if 0xE0 <= lead <= 0xEF else 3 if 0xF0 <= lead <= 0xF4 else 0
        if more == 0 or end - at < more:
            return False
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        if not low <= byte(raw, at) <= high:
            return False
        for rest in range(at + 1, at + more):
            if not 0x80 <= byte(raw, rest) <= 0xBF:
                return False
        at += more
    return True


@loop
def varint(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """A zig-zag number and where the next thing begins; -1 there if it does not end in time or has more than 64 bits."""
    bits, shift = np.uint64(0), np.uint64(0)
    while at < end:
        seven = np.uint64(byte(raw, at))
        at += 1
        if shift == _63 and seven > _ONE:
            break
        bits |= (seven & _LOW7) << shift
        if seven <= _LOW7:
            return int(np.int64(bits >> _ONE) ^ -np.int64(bits & _ONE)), at
        shift += _SEVEN
    return 0, -1


@loop
def datum(layouts: Layouts, which: int, raw: Bytes, at: int, end: int, out: Columns, row: np.uint64) -> int:
    """Read one record into a row. Says where the next one begins, -1 if this one is bad."""
    steps, present = layouts.steps, 0
    for step in range(layouts.first[which], layouts.first[which + 1]):
        kind, target = steps[step, KIND], steps[step, TARGET]
        if steps[step, NULL] >= 0:
            if at >= end:
                return -1
            branch = byte(raw, at)
            at += 1
            if branch == steps[step, NULL]:
                if kind == VALUE:
                    out.values[np.uint64(target), row] = _NAN
                continue
            if branch != steps[step, SOME]:
                return -1
        if kind == VALUE:
            if end - at < 8:
                return -1
            out.values[np.uint64(target), row] = word(raw, at)
            present |= 1 << target
            at += 8
        elif kind == ENUM:
            if at >= end:
                return -1
            symbol = byte(raw, at)
            at += 1
            if symbol & 1 or symbol >= 2 * steps[step, COUNT]:
                return -1
            out.enums[np.uint64(target), row] = layouts.codes[steps[step, FIRST] + (symbol >> 1)]
        elif kind == STRING:
            size, at = varint(raw, at, end)
            if at < 0 or size < 0 or size > end - at or not is_text(raw, at, at + size):
                return -1
            if target >= 0:
                out.id_at[row], out.id_size[row] = at, size
            at += size
        elif kind == INSTANT:
            out.measured_at[row], at = varint(raw, at, end)
            if at < 0:
                return -1
        elif kind == NO_VALUE:
            out.values[np.uint64(target), row] = _NAN
        elif kind == NO_ENUM:
            out.enums[np.uint64(target), row] = layouts.codes[steps[step, FIRST]]
        elif kind == LONG:
            _, at = varint(raw, at, end)
            if at < 0:
                return -1
        else:
            if end - at < steps[step, COUNT]:
                return -1
            at += steps[step, COUNT]
    out.present[row] = present
    return at


@loop
def block(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """How many items the next block of an array has (0: it is over) and where they begin; -1 there if that is bad."""
    count, at = varint(raw, at, end)
    if count < 0 and at >= 0:  # then the block's length in bytes comes first
        count = -count
        _, at = varint(raw, at, end)
    if at < 0 or count < 0 or count > end - at:  # the lowest number has no opposite; an item takes a byte or more
        return 0, -1
    return count, at


@loop
def writer_of(prints: Words, raw: Bytes, at: int, end: int, last: int) -> int:
    """Which schema a payload's header names, -1 for none of these; `last` is tried first."""
    if end - at < HEAD or byte(raw, at) != 0xC3 or byte(raw, at + 1) != 0x01:
        return -1
    named = word(raw, at + 2)
    if prints[last] == named:
        return last
    for which in range(len(prints)):
        if prints[which] == named:
            return which
    return -1


@loop
def walk(
    layouts: Layouts, raw: Bytes, sizes: Ints, index: int, at: int, row: int, refused: int, out: Columns, refusals: Places
) -> tuple[int, int, int, int]:
    """Read the payloads from number `index`, which begins at `at`, into rows from `row`, until the columns are full.

    Says the number and the begin of the first payload not read, how many rows there are, and how many payloads were
    refused; `refusals` names those. Such a payload leaves no row.
    """
    which, room = 0, len(out.payload)
    while index < len(sizes):
        end, begun, here = at + sizes[index], row, -1
        found = writer_of(layouts.prints, raw, at, end, which)
        if found >= 0:
            which, here, left = found, at + HEAD, 1
            if layouts.batched[which]:
                left, here = block(raw, here, end)
            while here >= 0 and left > 0:
                if row == room:
                    return index, at, begun, refused
                out.payload[row] = index
                here = datum(layouts, which, raw, here, end, out, np.uint64(row))
                row, left = row + 1, left - 1
                if layouts.batched[which] and left == 0 and here >= 0:
                    left, here = block(raw, here, end)
        if here != end:
            refusals[refused] = index
            row, refused = begun, refused + 1
        index, at = index + 1, end
    return index, at, row, refused
