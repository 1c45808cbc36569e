"""Who belongs to which scope in which quarter, as the configuration changes under a running flow (semantics 2).

A first binding has no beginning unless `valid_from` says so; a later change takes effect at the next whole quarter, and
until then, and for revisions of the quarters before, the old binding holds. `valid_from` and `valid_to` are instants of
their own: a change of them alone holds for any quarter that can still be told.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import numpy as np

from pipelines.rules.quarter_readings import Ints
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

    `meter` says that it is the scope's connection meter; `floor` is when this binding took effect.
    """

    name: str
    scope: str
    meter: bool
    floor: int
    begin: int
    end: int


Said = tuple[str, str, bool, int, int]
"""What a configuration says of one: name, scope, meter, and from and until when (ms; `FOREVER`: no end)."""


def assets_said(assets: Iterable[Asset]) -> Iterator[Said]:
    """The bindings of assets, as their configuration has them."""
    for asset in assets:
        begin = 0 if asset.valid_from is None else to_ms(asset.valid_from)
        end = FOREVER if asset.valid_to is None else to_ms(asset.valid_to)
        yield asset.id, asset.scope_id, asset.connection_meter, begin, end


def groups_said(groups: Iterable[Group]) -> Iterator[Said]:
    """The bindings of groups; they have no instants of their own."""
    for group in groups:
        yield group.group_id, group.scope_id, False, 0, FOREVER


class Bindings:
    """The bindings to some scopes: those in force, and those that held before and still matter."""

    def __init__(self) -> None:
        self.current: dict[str, Binding] = {}
        self.past: list[Binding] = []
        self.known: Ints | None = None
        """The marks, in order, of all that had a binding to any scope when a configuration was last followed; None before."""

    def follow(self, said: Iterable[Said], known: Ints, now: int, gone: int) -> None:
        """A configuration is in force at the clock's `now` (ms): `said` is what it says of these scopes, `known` are the
        marks, in order, of all it binds to any scope. What held only before `gone` is forgotten."""
        effect = -(-now // QUARTER_MS) * QUARTER_MS
        before, self.current = self.current, {}
        for name, scope, meter, begin, end in said:
            old = before.get(name)
            if old is not None and (old.scope, old.meter) == (scope, meter):
                floor = old.floor
                del before[name]
            else:
                floor = effect if old is not None or self._was_bound(name) else 0
            self.current[name] = Binding(name, scope, meter, floor, max(begin, floor), end)
        ended = [old._replace(end=min(old.end, effect)) for old in before.values()]
        self.past = [one for one in (*self.past, *ended) if one.begin < one.end and one.end > gone]
        self.known = known

    def _was_bound(self, name: str) -> bool:
        return self.known is not None and bool(among(self.known, marks_of([name]))[0] >= 0)

    def all(self) -> list[Binding]:
        """All bindings that matter, in an order that depends on nothing but them."""
        return sorted((*self.past, *self.current.values()), key=lambda one: (one.scope, one.name, one.begin))
