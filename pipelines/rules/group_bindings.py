"""Who belongs to which scope in which quarter, as the configuration says it and the changes that led to it (semantics 2).

A first binding has no beginning unless `valid_from` says so; a later change takes effect at the next whole quarter, and
until then, and for revisions of the quarters before, the old binding holds. `valid_from` and `valid_to` are instants of
their own: a change of them alone holds for any quarter that can still be told. All of it follows from the changes, nothing
from when a process learns of them: a restart, at whatever time, comes to the same (1.11).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import numpy as np

from pipelines.rules.quarter_readings import Ints
from schemas.config import EarlierBinding
from schemas.intervals import QUARTER_MS
from schemas.topology import Asset, Group
from schemas.units import to_ms

FOREVER = 1 << 62
"""An instant no quarter reaches (ms)."""


def scope_hash(scope_id: str) -> int:
    """What a scope's group shard is derived from: modulo the number of shards."""
    return crc32(scope_id.encode())


def marks_of(ids: Iterable[str]) -> Ints:
    """What stands for ids in columns: 64 bits of a digest each. That two of a million share one has a chance of 1 in 37 million."""
    return np.frombuffer(b"".join(blake2b(id_.encode(), digest_size=8).digest() for id_ in ids), np.int64)


def among(known: Ints, marks: Ints) -> Ints:
    """The places of marks in `known`, which are in order; -1 for those that are not there."""
    if not len(known):
        return np.full(len(marks), -1, np.int64)
    at = np.minimum(np.searchsorted(known, marks), len(known) - 1)
    return np.where(known[at] == marks, at, -1)


class Binding(NamedTuple):
    """`name` (an asset or group) belongs to `scope` in the quarters that start within [begin, end), instants in ms.

    `meter` says that it is the scope's connection meter.
    """

    name: str
    scope: str
    meter: bool
    begin: int
    end: int


class Member(NamedTuple):
    """An asset that belongs to a scope, or did, whatever has become of it since."""

    id: str
    connection_meter: bool


class Past(NamedTuple):
    """What `name` was bound to by a change of before, in the quarters that start within [begin, end), whole ones; `scope` None: to
    nothing. Of them it belonged to the scope in those within [valid_from, valid_to)."""

    name: str
    scope: str | None
    meter: bool
    begin: int
    end: int
    valid_from: int
    valid_to: int


Said = tuple[str, str, bool, int, int]
"""What a configuration says of one: name, scope, meter, and from and until when (ms; `FOREVER`: no end)."""


def assets_said(assets: Iterable[Asset]) -> Iterator[Said]:
    """The bindings of assets, as their configuration has them."""
    for asset in assets:
        yield asset.id, asset.scope_id, asset.connection_meter, *_valid(asset.valid_from, asset.valid_to)


def groups_said(groups: Iterable[Group]) -> Iterator[Said]:
    """The bindings of groups; they have no instants of their own."""
    for group in groups:
        yield group.group_id, group.scope_id, False, 0, FOREVER


@dataclass(frozen=True, slots=True)
class Site:
    """Who belonged to one scope in some stretch of time: its assets, and the groups that reported them, both in order of their names."""

    assets: list[Binding]
    groups: list[Binding]

    def members(self, start: int) -> list[Member]:
        """The scope's assets in the quarter from `start` (ms)."""
        return [Member(one.name, one.meter) for one in self.assets if one.begin <= start < one.end]

    def reporting(self, start: int) -> list[str]:
        """The ids of the scope's groups in the quarter from `start` (ms)."""
        return [one.name for one in self.groups if one.begin <= start < one.end]


class Before:
    """What held before, of the assets or groups whose binding ever changed.

    `past` are their former bindings; `since` is when the present one of each took effect (ms).
    """

    def __init__(self, earlier: Iterable[tuple[str, Sequence[EarlierBinding]]]) -> None:
        self.past: list[Past] = []
        self.since: dict[str, int] = {}
        found: dict[str, list[EarlierBinding]] = {}
        for name, some in earlier:
            found.setdefault(name, []).extend(some)
        for name, ended in found.items():
            begin = 0
            for one in sorted(ended, key=lambda one: one.until):
                end = -(-to_ms(one.until) // QUARTER_MS) * QUARTER_MS
                if end > begin:  # what held for less than a quarter never took effect
                    self.past.append(Past(name, one.scope_id, one.connection_meter, begin, end, *_valid(one.valid_from, one.valid_to)))
                begin = max(begin, end)
            self.since[name] = begin
        self._of: dict[str, list[Past]] = {}
        self._in: dict[str | None, list[Past]] = {}
        for past in self.past:
            self._of.setdefault(past.name, []).append(past)
            self._in.setdefault(past.scope, []).append(past)

    def bindings(self, said: Iterable[Said], mine: Callable[[str], bool], gone: int) -> list[Binding]:
        """All bindings to some scopes that matter, in an order that depends on nothing but them.

        `said` is what the configuration says of these scopes, `mine` tells which they are; what held only before `gone` (ms)
        is left out.
        """
        return self._bindings(said, (one for one in self.past if one.scope is not None and mine(one.scope)), gone)

    def within(self, scope: str, said: Iterable[Said], first: int, until: int) -> list[Binding]:
        """The bindings to one scope that hold in any quarter of a stretch (ms); `said` is what the configuration says of it."""
        return [one for one in self._bindings(said, self._in.get(scope, ()), first) if max(one.begin, first) < min(one.end, until)]

    def scope_at(self, name: str, start: int, present: str | None) -> str | None:
        """What one was bound to in the quarter from `start` (ms), whether it belonged there then or not; now it is `present`."""
        return next((one.scope for one in self._of.get(name, ()) if one.begin <= start < one.end), present)

    def scopes_within(self, name: str, first: int, until: int, present: str | None) -> Iterator[tuple[str, tuple[int, int]]]:
        """The scopes one was bound to in a stretch (ms), each with its part of it; now it is `present`."""
        for one in self._of.get(name, ()):
            if one.scope is not None and max(one.begin, first) < min(one.end, until):
                yield one.scope, (max(one.begin, first), min(one.end, until))
        if present is not None and (begin := max(first, self.since.get(name, 0))) < until:
            yield present, (begin, until)

    def _bindings(self, said: Iterable[Said], past: Iterable[Past], gone: int) -> list[Binding]:
        found = [Binding(name, scope, meter, max(begin, self.since.get(name, 0)), end) for name, scope, meter, begin, end in said]
        for one in past:
            begin, end = max(one.begin, one.valid_from), min(one.end, one.valid_to)
            if one.scope is not None and begin < end and end > gone:
                found.append(Binding(one.name, one.scope, one.meter, begin, end))
        return sorted(found, key=lambda one: (one.scope, one.name, one.begin))


def _valid(begin: datetime | None, end: datetime | None) -> tuple[int, int]:
    return 0 if begin is None else to_ms(begin), FOREVER if end is None else to_ms(end)
