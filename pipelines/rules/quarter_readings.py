"""Readings as a table: one packed row each, many assets at once (semantics 1.6).

A table is a numpy array of `READING`. A key stands for an asset and phase; absent values are 0 and have no
flag. Instants are ms since 1970 UTC, powers W, registers and states of charge Wh.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.void]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Records = NDArray[Any]
"""Arrays of records in compiled loops, where a row is a reference and its fields are attributes."""

POWER, IMPORT, EXPORT, STORED, ESTIMATED = 1, 2, 4, 8, 16
"""Bits of `flags`: which values a reading has, and whether they were estimated."""

BITS = (POWER, IMPORT, EXPORT, STORED)
VALUES = ("power_w", "import_wh", "export_wh", "stored_wh")
READING = np.dtype(
    [("key", np.int32), ("flags", np.uint8), ("at", np.int64), *((name, np.float64) for name in VALUES)],
    align=True,
)

_AT_BITS = 43
KEYS_LIMIT = 1 << (63 - _AT_BITS)
"""A key is less than this, so that key and instant (until 2248) order as one integer."""


def no_readings(size: int = 0) -> Table:
    """A table of `size` rows of zeros."""
    return np.zeros(size, READING)


def joined(tables: list[Table]) -> Table:
    """The tables one after the other."""
    return np.concatenate(tables) if tables else no_readings()


def position(key: NDArray[Any], at: NDArray[Any]) -> Ints:
    """Key and instant as one integer, in whose order tables are searched."""
    where: Ints = (key.astype(np.int64) << _AT_BITS) | at
    return where


def instant(where: Ints) -> Ints:
    """The instants of what `position` makes."""
    return where & ((1 << _AT_BITS) - 1)


class Ordered(NamedTuple):
    """A table by key and instant, one row an identity, and of each identity's conflicting rows its key and instant."""

    readings: Table
    conflict_key: NDArray[np.int32]
    conflict_at: Ints


def in_order(readings: Table) -> Ordered:
    """The distinct readings of a table in order of arrival: of one identity the first counts (semantics 1.6).

    A repeated row that differs from the first of its identity is a conflict; one that does not is nothing.
    """
    where = position(readings["key"], readings["at"])
    if len(where) < 2 or (where[1:] > where[:-1]).all():
        return Ordered(readings, np.zeros(0, np.int32), np.zeros(0, np.int64))
    order = np.argsort(where, kind="stable")
    readings, where = readings[order], where[order]
    again = np.concatenate((np.zeros(1, np.bool_), where[1:] == where[:-1]))
    if not again.any():
        return Ordered(readings, np.zeros(0, np.int32), np.zeros(0, np.int64))
    rows = np.flatnonzero(again)
    firsts = np.maximum.accumulate(np.where(again, 0, np.arange(len(again))))[rows]
    repeated, first = readings[rows], readings[firsts]
    differs = repeated["flags"] != first["flags"]
    for name in VALUES:
        differs |= repeated[name] != first[name]
    return Ordered(readings[~again], repeated["key"][differs].copy(), repeated["at"][differs].copy())


def last_of_key(key: NDArray[Any]) -> Ints:
    """The indexes of the last row of each key of a column in order of keys."""
    return np.flatnonzero(np.concatenate((key[1:] != key[:-1], np.ones(min(1, len(key)), np.bool_))))


def first_of_key(key: NDArray[Any]) -> Ints:
    """The indexes of the first row of each key of a column in order of keys."""
    return np.flatnonzero(np.concatenate((np.ones(min(1, len(key)), np.bool_), key[1:] != key[:-1])))
