"""The keys of a lane: which asset and phase each stands for, and how far each has come."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_hours import DEFAULT_MAX_W
from pipelines.rules.quarter_readings import KEYS_LIMIT, Flags, Floats, Ints

PHASES = 4


class Keys:
    """Columns by key, and the keys of each asset. A key is made when its asset and phase are first seen, and stays.

    `closed` is up to where (ms) its quarters are closed, -1 before its first reading; `last_register` its newest
    register value's instant; `reached_until` as in `quarter_standing`; `dirty` says that closed quarters must be
    computed again, `touched` that readings came since the last provisional row.
    """

    def __init__(self) -> None:
        self.assets: list[str] = []
        self.by_asset: NDArray[np.int32] = np.zeros((0, PHASES), np.int32)
        self.asset: NDArray[np.int32] = np.zeros(0, np.int32)
        self.phase: NDArray[np.int8] = np.zeros(0, np.int8)
        self.closed: Ints = np.zeros(0, np.int64)
        self.last_register: Ints = np.zeros(0, np.int64)
        self.reached_until: Ints = np.zeros(0, np.int64)
        self.dirty: Flags = np.zeros(0, np.bool_)
        self.touched: Flags = np.zeros(0, np.bool_)
        self.max_w: Floats = np.zeros(0)

    def add_asset(self, asset_id: str) -> int:
        """A new asset's index."""
        self.assets.append(asset_id)
        if len(self.assets) > len(self.by_asset):
            self.by_asset = np.vstack((self.by_asset, np.full((max(16, len(self.by_asset)), PHASES), -1, np.int32)))
        return len(self.assets) - 1

    def of(self, asset: Ints, phase: NDArray[np.int8], max_w: Floats) -> NDArray[np.int32]:
        """The key of each asset and phase; new ones are made, `max_w` is by row (NaN where the asset has none)."""
        key = self.by_asset[asset, phase]
        if (key < 0).any():
            self._make(asset[key < 0], phase[key < 0], max_w[key < 0])
            key = self.by_asset[asset, phase]
        return key

    def _make(self, asset: Ints, phase: NDArray[np.int8], max_w: Floats) -> None:
        _, first = np.unique(asset * PHASES + phase, return_index=True)
        asset, phase, max_w = asset[first], phase[first], max_w[first]
        size, more = len(self.asset), len(first)
        if size + more > KEYS_LIMIT:
            raise OverflowError(f"more than {KEYS_LIMIT} assets and phases in one shard of a partition; use more shards")
        self.by_asset[asset, phase] = np.arange(size, size + more)
        self.asset = np.concatenate((self.asset, asset.astype(np.int32)))
        self.phase = np.concatenate((self.phase, phase))
        self.closed = np.concatenate((self.closed, np.full(more, -1, np.int64)))
        self.last_register = np.concatenate((self.last_register, np.zeros(more, np.int64)))
        self.reached_until = np.concatenate((self.reached_until, np.zeros(more, np.int64)))
        self.dirty = np.concatenate((self.dirty, np.zeros(more, np.bool_)))
        self.touched = np.concatenate((self.touched, np.zeros(more, np.bool_)))
        self.max_w = np.concatenate((self.max_w, np.nan_to_num(max_w, nan=DEFAULT_MAX_W)))

    def begin(self, key: NDArray[np.int32], start: Ints) -> None:
        """Their first readings came: quarters from the least `start` of each on are open."""
        self.closed[key] = np.iinfo(np.int64).max
        np.minimum.at(self.closed, key, start)

    def bound_by(self, max_w_of: Callable[[str], float | None]) -> None:
        """The configuration changed: take each asset's `max_w` from it."""
        by_asset = np.array([max_w_of(asset) or DEFAULT_MAX_W for asset in self.assets])
        self.max_w = by_asset[self.asset] if len(self.asset) else self.max_w

    def among(self, some: NDArray[np.integer]) -> Flags:
        """True for the keys in `some`."""
        flags = np.zeros(len(self.closed), np.bool_)
        flags[some] = True
        return flags

    def settled(self) -> Ints:
        """Up to where (ms) all keys of each asset are closed; -1 for an asset without readings."""
        until = np.full(len(self.assets), np.iinfo(np.int64).max)
        np.minimum.at(until, self.asset, self.closed)
        until[until == np.iinfo(np.int64).max] = -1
        return until
