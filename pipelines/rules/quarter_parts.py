"""What a shard is given of polls: its readings, and the progress of all partitions (semantics 1.9, engine.md 1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.append_times import Clocks
from pipelines.rules.quarter_readings import Ints, Table, no_readings


class Edition(NamedTuple):
    """A configuration by its place (a larger one is newer; -1 for one without), and a digest of its assets' ids in their order."""

    place: int
    order: str


def order_of(ids: Iterable[str]) -> str:
    """The digest of ids in their order."""
    return blake2b("\n".join(ids).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Silence:
    """A partition all of which had been read at `since`; nothing has come until `now` (ms)."""

    partition: int
    since: int
    now: int


@dataclass(frozen=True, slots=True)
class Part:
    """One shard's part of a poll. The `key` of its `readings` is the asset's row in the roster of that `edition` (`Rosters.ids`).

    Instants are ms. `before` is the newest instant among the earlier readings of the poll in the reading's partition (all shards'),
    `newest` each partition's newest instant in the poll (by partition, 0: none), `clocks` by what clock its messages are judged; `now`
    is the poll's own, for what is no matter of content. Readings are good ones: bad ones never get this far.
    """

    shard: int
    shards: int
    edition: Edition
    now: int
    partitions: tuple[int, ...]
    newest: Ints
    clocks: Clocks
    silences: tuple[Silence, ...] = ()
    readings: Table = field(default_factory=no_readings)
    phase: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    partition: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    offset: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    before: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


def joined_parts(parts: Sequence[Part]) -> Part:
    """One shard's parts of several polls as that of one: polls of one edition, no two of which have readings of one partition,
    and none has readings of a partition of whose silence an earlier one says."""
    first = parts[0]
    if len(parts) == 1:
        return first
    newest = np.zeros(max(len(part.newest) for part in parts), np.int64)
    for part in parts:
        newest[: len(part.newest)] = np.maximum(newest[: len(part.newest)], part.newest)
    some = [part for part in parts if len(part.readings)] or [first]

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in some])

    return Part(
        first.shard, first.shards, first.edition, max(part.now for part in parts),
        tuple(sorted(set(chain.from_iterable(part.partitions for part in parts)))),
        newest, Clocks.joined([part.clocks for part in parts]), tuple(chain.from_iterable(part.silences for part in parts)),
        column("readings"), column("phase"), column("partition"), column("offset"), column("before"),
    )  # fmt: skip
