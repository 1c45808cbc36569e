"""The keys of a shard: which asset and phase each stands for, and how far each has come."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_hours import DEFAULT_MAX_W
from pipelines.rules.quarter_readings import KEYS_LIMIT, Flags, Floats, Ints

PHASES = 4

COLUMNS = {
    "asset": np.int32, "phase": np.int8, "home": np.int32, "closed": np.int64, "heard": np.int64, "last_register": np.int64,
    "reached_until": np.int64, "dirty": np.bool_, "touched": np.bool_, "waits": np.bool_, "max_w": np.float64,
}  # fmt: skip


class Keys:
    """Columns by key, and the keys of each asset. A key is made when its asset and phase are first seen.

    `home` is the Kafka partition its asset was first heard on, whose watermark it goes by. Instants are ms: `closed` up
    to where its quarters are closed, -1 before its first reading; `heard` its newest reading; `last_register` its newest
    register value; `reached_until` as in `quarter_standing`. `dirty` says that closed quarters must be computed again,
    `touched` that readings came since the last provisional row, `waits` that a quarter waits for a register value.
    """

    def __init__(self) -> None:
        self.assets: list[str] = []
        self.home_of_asset: list[int] = []
        self.by_asset: NDArray[np.int32] = np.zeros((0, PHASES), np.int32)
        self.asset: NDArray[np.int32]
        self.phase: NDArray[np.int8]
        self.home: NDArray[np.int32]
        self.closed: Ints
        self.heard: Ints
        self.last_register: Ints
        self.reached_until: Ints
        self.dirty: Flags
        self.touched: Flags
        self.waits: Flags
        self.max_w: Floats
        for name, dtype in COLUMNS.items():
            setattr(self, name, np.zeros(0, dtype))

    def __len__(self) -> int:
        return len(self.asset)

    def add_asset(self, asset_id: str, partition: int) -> int:
        """A new asset's index."""
        self.assets.append(asset_id)
        self.home_of_asset.append(partition)
        if len(self.assets) > len(self.by_asset):
            self.by_asset = np.vstack((self.by_asset, np.full((max(16, len(self.by_asset)), PHASES), -1, np.int32)))
        return len(self.assets) - 1

    def of(self, asset: Ints, phase: NDArray[np.int8], max_w: Floats, row: NDArray[np.int32]) -> NDArray[np.int32]:
        """The key of each asset and phase; new ones are made. `max_w[row]` is the asset's, NaN where it has none."""
        key = self.by_asset[asset, phase]
        new = key < 0
        if new.any():
            self._make(asset[new], phase[new], max_w[row[new]])
            key = self.by_asset[asset, phase]
        return key

    def _make(self, asset: Ints, phase: NDArray[np.int8], max_w: Floats) -> None:
        _, first = np.unique(asset * PHASES + phase, return_index=True)
        asset, phase, max_w = asset[first], phase[first], max_w[first]
        size, more = len(self), len(first)
        if size + more > KEYS_LIMIT:
            raise OverflowError(f"more than {KEYS_LIMIT} assets and phases in one shard; use more shards")
        self.by_asset[asset, phase] = np.arange(size, size + more)
        new: dict[str, NDArray[Any]] = {
            "asset": asset, "phase": phase, "home": np.array(self.home_of_asset, np.int32)[asset], "closed": np.full(more, -1),
            "max_w": np.nan_to_num(max_w, nan=DEFAULT_MAX_W),
        }  # fmt: skip
        for name, dtype in COLUMNS.items():
            setattr(self, name, np.concatenate((getattr(self, name), new.get(name, np.zeros(more)).astype(dtype))))

    def bound_by(self, max_w_of: Callable[[str], float | None]) -> None:
        """The configuration changed: take each asset's `max_w` from it."""
        by_asset = np.array([max_w_of(asset) or DEFAULT_MAX_W for asset in self.assets])
        self.max_w = by_asset[self.asset] if len(self.asset) else self.max_w

    def among(self, some: NDArray[np.integer]) -> Flags:
        """True for the keys in `some`."""
        flags = np.zeros(len(self), np.bool_)
        flags[some] = True
        return flags

    def settled(self) -> Ints:
        """Up to where (ms) all keys of each asset are closed; -1 for an asset without readings."""
        until = np.full(len(self.assets), np.iinfo(np.int64).max)
        np.minimum.at(until, self.asset, self.closed)
        until[until == np.iinfo(np.int64).max] = -1
        return until

    def keep(self, keys: Flags) -> NDArray[np.int32]:
        """Drop all other keys, and assets without any. Returns the new key of each old one (-1: gone)."""
        assets = np.zeros(len(self.assets), np.bool_)
        assets[self.asset[keys]] = True
        key_now, asset_now = (np.where(some, np.cumsum(some) - 1, -1).astype(np.int32) for some in (keys, assets))
        for name in COLUMNS:
            setattr(self, name, getattr(self, name)[keys])
        self.asset = asset_now[self.asset]
        by_asset = self.by_asset[: len(self.assets)][assets]
        self.by_asset = np.where(by_asset >= 0, key_now[by_asset], -1).astype(np.int32)
        self.assets = [asset for asset, stays in zip(self.assets, assets.tolist(), strict=True) if stays]
        self.home_of_asset = [home for home, stays in zip(self.home_of_asset, assets.tolist(), strict=True) if stays]
        return key_now
