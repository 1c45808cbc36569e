"""Finds the ids of many readings at once, by their bytes: for each its place among the known ones, without an object for any.

The loops are compiled; what `sinks.column_kernel` says of its own holds for them too.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from sinks.column_kernel import Bytes, Ints, Places, Words, loop, part
from sinks.payloads import PAD

_ONE, _32 = np.uint64(1), np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)
T = TypeVar("T", np.uint64, np.int32)
_SEED = np.frombuffer(os.urandom(8), np.uint64)


class Table(NamedTuple):
    """Ids by their bytes, with open addressing. A slot is 0, or 32 bits of an id's hash and its place in `text` plus 1.

    There each id has a word with its place among the ids and its size, and then its bytes, filled up with zeros.
    `seed` makes the hashes this process' own: nobody can make ids that collide.
    """

    slots: Words
    text: Words
    seed: Words


class Ids(Sequence[str]):
    """Known ids and others behind them, without copying the known ones for each poll."""

    def __init__(self, known: list[str], others: list[str]) -> None:
        self._known, self._others = known, others

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice) or place < 0:
            return [*self._known, *self._others][place]
        return self._known[place] if place < len(self._known) else self._others[place - len(self._known)]

    def __len__(self) -> int:
        return len(self._known) + len(self._others)


class KnownIds:
    """A fixed set of distinct ids, in an order of their own. What is found has been compared with the id, byte by byte."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = list(ids)
        raw = [id_.encode() for id_ in self.ids]
        sizes = np.fromiter(map(len, raw), np.int64, len(raw))
        words = int((1 + (sizes + 7) // 8).sum())
        self._table = Table(_slots(len(raw), np.uint64), np.zeros(words, np.uint64), _SEED)
        fill(self._table, joined(raw), sizes)

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each id, for the few that come as strings."""
        return {id_: place for place, id_ in enumerate(self.ids)}

    def find(self, raw: Bytes, at: Ints, size: Places, asset: Places) -> list[str]:
        """Put the place of each id, `size` bytes of UTF-8 from `at` in the `joined` bytes, into `asset`.

        Ids that are not known get places behind the known ones, in order of appearance; those are the result.
        """
        unknown = find_known(self._table, raw, at, size, asset)
        if not unknown:
            return []
        firsts = np.empty(unknown, np.int64)
        count = find_others(_slots(unknown, np.int32), _SEED, raw, at, size, asset, len(self.ids), firsts)
        text, begin = raw.tobytes(), at[firsts[:count]]
        ends = begin + size[firsts[:count]]
        return [text[first:end].decode() for first, end in zip(begin.tolist(), ends.tolist(), strict=True)]


def joined(raw: Iterable[bytes]) -> Bytes:
    """The bytes one behind the other, with the padding the loops need."""
    return np.frombuffer(b"".join([*raw, bytes(PAD)]), np.uint8)


def _slots(ids: int, kind: type[T]) -> NDArray[T]:
    """At least twice as many as ids: a power of two."""
    return np.zeros(1 << (2 * int(ids)).bit_length(), kind)


@loop
def hash_of(seed: Words, raw: Bytes, at: int, size: int) -> np.uint64:
    """A hash of some bytes."""
    found = seed[0] ^ np.uint64(size)
    end = at + size
    while at < end:
        found = (found ^ part(raw, at, end)) * _MIX
        found ^= found >> _32
        at += 8
    return np.uint64(found)


@loop
def fill(table: Table, raw: Bytes, sizes: Ints) -> None:
    """Put distinct ids into an empty table."""
    slots, text, mask = table.slots, table.text, np.uint64(len(table.slots) - 1)
    at = used = 0
    for place in range(len(sizes)):
        key = hash_of(table.seed, raw, at, sizes[place])
        slot = key & mask
        while slots[slot] != 0:
            slot = (slot + _ONE) & mask
        slots[slot] = (key >> _32) << _32 | np.uint64(used + 1)
        text[used] = np.uint64(place) << _32 | np.uint64(sizes[place])
        used += 1
        end = at + sizes[place]
        while at < end:
            text[used] = part(raw, at, end)
            at, used = at + 8, used + 1
        at = end


@loop
def find_known(table: Table, raw: Bytes, at: Ints, size: Places, asset: Places) -> int:
    """The place of each id in the table, -1 for one it does not have; says how many those are."""
    unknown = 0
    for row in range(len(asset)):
        asset[row] = place_of(table.slots, table.text, table.seed, raw, at[row], size[row])
        unknown += asset[row] < 0
    return unknown


@loop
def place_of(slots: Words, text: Words, seed: Words, raw: Bytes, at: int, size: int) -> int:
    """The place of one id in the table, -1 if it does not have it."""
    mask, end = np.uint64(len(slots) - 1), at + size
    key = hash_of(seed, raw, at, size)
    slot = key & mask
    while slots[slot] != 0:
        if slots[slot] >> _32 == key >> _32:
            found, here = np.int64(slots[slot] & _LOW32) - 1, at
            entry = text[found]
            if entry & _LOW32 == np.uint64(size):
                while here < end and text[found + 1] == part(raw, here, end):
                    here, found = here + 8, found + 1
                if here >= end:
                    return int(entry >> _32)
        slot = (slot + _ONE) & mask
    return -1


@loop
def find_others(slots: Places, seed: Words, raw: Bytes, at: Ints, size: Places, asset: Places, behind: int, firsts: Ints) -> int:
    """Give ids without a place those from `behind`; says how many ids they are, `firsts` the first row of each."""
    mask, count = np.uint64(len(slots) - 1), 0
    for row in range(len(asset)):
        if asset[row] >= 0:
            continue
        slot = hash_of(seed, raw, at[row], size[row]) & mask
        while slots[slot] != 0 and not same(raw, at[row], size[row], at[firsts[slots[slot] - 1]], size[firsts[slots[slot] - 1]]):
            slot = (slot + _ONE) & mask
        if slots[slot] == 0:
            firsts[count] = row
            count += 1
            slots[slot] = count
        asset[row] = behind + slots[slot] - 1
    return count


@loop
def same(raw: Bytes, at: int, size: int, other: int, other_size: int) -> bool:
    """Whether the bytes at two places are the same."""
    end, further = at + size, other + size
    if size != other_size:
        return False
    while at < end and part(raw, at, end) == part(raw, other, further):
        at, other = at + 8, other + 8
    return at >= end
