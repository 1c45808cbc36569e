"""Quarter-hour rows as Avro, from columns: the same bytes as `sinks.codec.encode` of the model, without a model a row.

The fields' order is `QuarterHour`'s; a test compares the two for any row. The `event_id` is the UUIDv5 of all bytes after
`cause_id`: of what a row says, its revision, and how it came, but not of when it was stated. So a replay makes the same id.
The loop is compiled (numba) and lets other threads run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.telemetry import Level, Method, Origin, QuarterHour
from sinks.codec import MARKER, fingerprint_of
from sinks.quarter_ids import ID_SIZE, write_id

_HEADER: NDArray[np.uint8] = np.frombuffer(MARKER + fingerprint_of(QuarterHour), np.uint8)
_NUMBERS = (
    "import_wh", "export_wh", "net_wh", "mean_w", "min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh",
    "coverage", "last_minute_w",
)  # fmt: skip
_ALWAYS = 4
"""So many of the numbers are never null."""
_COVERAGE, _LAST_MINUTE = 9, 10
_FIXED = 256
"""More than all of a row takes beside its names: 11 doubles, 6 long integers of at most 10 bytes, id, header, flags."""


@dataclass(frozen=True, slots=True)
class Names:
    """Whom rows are about: of each asset or group the bytes of level, id and scope. Rows refer to them by place."""

    packed: NDArray[np.uint8]
    ends: NDArray[np.int64]
    """Where each one's bytes end; the first entry is 0."""

    @classmethod
    def of(cls, level: Level, ids: Sequence[str], scopes: Sequence[str | None]) -> "Names":
        """The names of assets or groups, in this order."""
        first = _enum(Level, level)
        parts = [
            first + _text(id_) + (b"\x00" if scope is None else b"\x02" + _text(scope)) for id_, scope in zip(ids, scopes, strict=True)
        ]
        ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), np.uint8), ends)

    def __add__(self, more: "Names") -> "Names":
        return Names(np.concatenate((self.packed, more.packed)), np.concatenate((self.ends, self.ends[-1] + more.ends[1:])))


def quarter_bytes(
    names: Names,
    who: NDArray[np.int32],
    phase: NDArray[np.int8],
    rows: NDArray[np.void],
    revision: NDArray[np.int32],
    *,
    methods: Sequence[Method],
    at: int,
    provisional: bool = False,
    origin: Origin = Origin.LIVE,
) -> list[bytes]:
    """The single-object bytes of each row, in order. Does not block.

    `who` indexes `names`, `phase` the phases in their order, `rows["method"]` indexes `methods`. `rows` has a column for each number
    of a `QuarterHour` but `net_wh` (NaN where it is null), and `start` in ms, `samples`, `estimated`, `reset`; it may
    have `missing_members`. `at` is ms. `last_minute_w` is told of provisional rows only.
    """
    size = len(rows)
    if not size:
        return []
    numbers = np.empty((size, len(_NUMBERS)), np.float64)
    for column, name in enumerate(_NUMBERS):
        numbers[:, column] = rows["import_wh"] - rows["export_wh"] if name == "net_wh" else rows[name]
    numbers += 0.0  # there is no negative zero watt-hours
    if not provisional:
        numbers[:, _LAST_MINUTE] = np.nan
    method = np.array([_place(Method, each) for each in methods], np.uint8)[rows["method"]]
    missing = rows["missing_members"].astype(np.int64) if "missing_members" in (rows.dtype.names or ()) else np.zeros(size, np.int64)
    flags = (rows["estimated"] + 2 * rows["reset"]).astype(np.uint8)
    lengths = names.ends[who + 1] - names.ends[who]
    raw, ends = np.empty(int(lengths.sum()) + size * _FIXED, np.uint8), np.empty(size + 1, np.int64)
    _write(
        raw, ends, _HEADER, names.packed, names.ends, who, phase, rows["start"].copy(), numbers, numbers.view(np.uint8),
        rows["samples"].astype(np.int64), method, missing, flags, revision.astype(np.int64), at, provisional, _place(Origin, origin),
        np.empty(int(lengths.max()) + _FIXED + 128, np.uint8),
    )  # fmt: skip
    whole, cuts = raw[: ends[-1]].tobytes(), ends.tolist()
    return [whole[first:end] for first, end in pairwise(cuts)]


def _place(of: Any, value: Any) -> int:
    return list(of).index(value)


def _enum(of: Any, value: Any) -> bytes:
    return bytes((2 * _place(of, value),))


def _text(value: str) -> bytes:
    raw = value.encode()
    size, head = 2 * len(raw), bytearray()
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(head) + bytes((size,)) + raw


@njit(cache=True, nogil=True)
def _long(raw: NDArray[np.uint8], at: int, value: int) -> int:
    """Write Avro's variable-length zig-zag integer; where it ends."""
    bits = (value << 1) ^ (value >> 63)
    while bits >= 0x80:
        raw[at] = (bits & 0x7F) | 0x80
        bits >>= 7
        at += 1
    raw[at] = bits
    return at + 1


@njit(cache=True, nogil=True)
def _double(raw: NDArray[np.uint8], at: int, row: int, column: int, octets: NDArray[np.uint8]) -> int:
    for i in range(8):
        raw[at + i] = octets[row, 8 * column + i]
    return at + 8


@njit(cache=True, nogil=True)
def _maybe(raw: NDArray[np.uint8], at: int, row: int, column: int, numbers: NDArray[np.float64], octets: NDArray[np.uint8]) -> int:
    """A number that may be null."""
    if np.isnan(numbers[row, column]):
        raw[at] = 0
        return at + 1
    raw[at] = 2
    return _double(raw, at + 1, row, column, octets)


@njit(cache=True, nogil=True)
def _write(
    raw: NDArray[np.uint8], ends: NDArray[np.int64], header: NDArray[np.uint8], packed: NDArray[np.uint8], names: NDArray[np.int64],
    who: NDArray[np.int32], phase: NDArray[np.int8], start: NDArray[np.int64], numbers: NDArray[np.float64], octets: NDArray[np.uint8],
    samples: NDArray[np.int64], method: NDArray[np.uint8], missing: NDArray[np.int64], flags: NDArray[np.uint8],
    revision: NDArray[np.int64], stated: int, provisional: bool, origin: int, scratch: NDArray[np.uint8],
) -> None:  # fmt: skip
    """All rows, one after the other, in the order of the model's fields."""
    state, words = np.empty(5, np.int64), np.empty(80, np.int64)
    at = 0
    ends[0] = 0
    for row in range(len(who)):
        for byte in header:
            raw[at] = byte
            at += 1
        raw[at] = 2 * ID_SIZE
        identity = at + 1
        at = _long(raw, identity + ID_SIZE, stated)
        raw[at] = 0  # cause_id
        at += 1
        body = at
        for i in range(names[who[row]], names[who[row] + 1]):
            raw[at] = packed[i]
            at += 1
        raw[at] = 2 * phase[row]
        at = _long(raw, at + 1, start[row])
        for column in range(_ALWAYS):
            at = _double(raw, at, row, column, octets)
        for column in range(_ALWAYS, _COVERAGE):
            at = _maybe(raw, at, row, column, numbers, octets)
        at = _long(raw, at, samples[row])
        at = _double(raw, at, row, _COVERAGE, octets)
        raw[at] = 2 * method[row]
        at = _long(raw, at + 1, missing[row])
        raw[at], raw[at + 1] = flags[row] & 1, flags[row] >> 1
        at = _long(raw, at + 2, revision[row])
        raw[at] = provisional
        at = _maybe(raw, at + 1, row, _LAST_MINUTE, numbers, octets)
        raw[at] = 2 * origin
        at += 1
        write_id(raw, body, at, identity, scratch, state, words)
        ends[row + 1] = at
