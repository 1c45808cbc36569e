"""What the metering engine needs of the configuration: who is measured, and whose energy groups report (semantics 1.8, 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

from schemas.config import Configuration
from schemas.topology import Asset, Group, bound


def shard_of(asset_id: str, shards: int) -> int:
    """The shard an asset's state lives in: the same on every run, for this number of shards."""
    return crc32(asset_id.encode()) % shards


@dataclass(frozen=True)
class Roster:
    """A configuration's assets by id, each scope's assets, and the groups of scopes that have any."""

    assets: dict[str, Asset]
    by_scope: dict[str, tuple[Asset, ...]]
    groups: dict[str, tuple[Group, ...]]

    @classmethod
    def of(cls, config: Configuration) -> "Roster":
        """Look the configuration through once."""
        by_scope: dict[str, tuple[Asset, ...]] = {}
        groups: dict[str, tuple[Group, ...]] = {}
        for asset in config.assets:
            by_scope[asset.scope_id] = (*by_scope.get(asset.scope_id, ()), asset)
        for group in config.groups:
            groups[group.scope_id] = (*groups.get(group.scope_id, ()), group)
        return cls({asset.id: asset for asset in config.assets}, by_scope, groups)

    def max_w(self, asset_id: str) -> float | None:
        """The asset's `max_w`; None where it has none or is unknown."""
        asset = self.assets.get(asset_id)
        return asset.max_w if asset else None

    def scope_of(self, asset_id: str) -> str | None:
        """The asset's scope; None if it is unknown."""
        asset = self.assets.get(asset_id)
        return asset.scope_id if asset else None

    def reporting_scope(self, asset_id: str) -> str | None:
        """The asset's scope if a group is bound to it, else None."""
        scope = self.scope_of(asset_id)
        return scope if scope in self.groups else None

    def members(self, scope_id: str, quarter: datetime) -> tuple[Asset, ...]:
        """The assets bound to the scope in the quarter that starts then."""
        return tuple(asset for asset in self.by_scope.get(scope_id, ()) if bound(asset, quarter))


class Rosters:
    """The roster of the present configuration, made again only when that is another one."""

    def __init__(self, config: Callable[[], Configuration]) -> None:
        self._config = config
        self._seen: Configuration | None = None
        self._roster = Roster({}, {}, {})

    def current(self) -> Roster:
        """The same object as long as the configuration is."""
        config = self._config()
        if config is not self._seen:
            self._seen, self._roster = config, Roster.of(config)
        return self._roster
