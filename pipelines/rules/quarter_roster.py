"""What the metering engine needs of the configuration: who is measured, and whose energy groups report (semantics 1.8, 2)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from zlib import crc32

import numpy as np

from pipelines.rules.group_bindings import FOREVER, Before, Site, assets_said, groups_said, marks_of, scope_hash
from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.quarter_parts import Edition, order_of
from pipelines.rules.quarter_readings import Floats, Ints
from schemas.clock import Clock
from schemas.config import Configuration, EarlierBinding
from schemas.topology import Asset, Group

EDITIONS = 16
"""So many orders of assets that this worker does not go by are remembered: others may be a few changes behind."""


def shard_of(asset_id: str, shards: int) -> int:
    """The shard an asset's state lives in: the same on every run, for this number of shards."""
    return _hash(asset_id) % shards


def _hash(asset_id: str) -> int:
    return crc32(asset_id.encode())


@dataclass(frozen=True)
class Roster:
    """A configuration's assets by id, each scope's assets, the groups of scopes that have any, the timing in force, and what was
    bound otherwise `earlier` (`Configuration.earlier`)."""

    assets: dict[str, Asset]
    by_scope: dict[str, list[Asset]]
    groups: dict[str, list[Group]]
    timing: MeterTiming
    earlier: Mapping[str, tuple[EarlierBinding, ...]] = field(default_factory=dict)
    place: int = -1
    """The configuration's."""

    @classmethod
    def of(cls, config: Configuration, clock: Clock) -> "Roster":
        """Look the configuration through once."""
        by_scope: dict[str, list[Asset]] = {}
        groups: dict[str, list[Group]] = {}
        for asset in config.assets:
            by_scope.setdefault(asset.scope_id, []).append(asset)
        for group in config.groups:
            groups.setdefault(group.scope_id, []).append(group)
        assets, timing = {asset.id: asset for asset in config.assets}, MeterTiming.of(config.timing, clock)
        return cls(assets, by_scope, groups, timing, config.earlier, config.place)

    def max_w(self, asset_id: str) -> float | None:
        """The asset's `max_w`; None where it has none or is unknown."""
        asset = self.assets.get(asset_id)
        return asset.max_w if asset else None

    @cached_property
    def ids(self) -> list[str]:
        """All assets' ids. An asset's place among them is its row here and in `hashes` and `limits`."""
        return list(self.assets)

    @cached_property
    def edition(self) -> Edition:
        """Names this configuration and the order of its ids."""
        return Edition(self.place, order_of(self.ids))

    @cached_property
    def hashes(self) -> Ints:
        """What each asset's shard is derived from."""
        return np.array([_hash(asset_id) for asset_id in self.assets], np.int64)

    @cached_property
    def limits(self) -> Floats:
        """Each asset's `max_w`; NaN where it has none."""
        return np.array([np.nan if asset.max_w is None else asset.max_w for asset in self.assets.values()], np.float64)

    @cached_property
    def marks(self) -> Ints:
        """What stands for each asset in the news for groups."""
        return marks_of(self.assets)

    def tell_apart(self) -> None:
        """Raises ValueError where two assets have the same mark, which is not to be expected ever."""
        order = np.argsort(self.marks)
        same = np.flatnonzero(np.diff(self.marks[order]) == 0)
        if len(same):
            first, second = (self.ids[order[same[0] + each]] for each in (0, 1))
            raise ValueError(f"assets {first!r} and {second!r} cannot be told apart by their digests; one of them needs another id")

    @cached_property
    def assets_before(self) -> Before:
        """What assets were bound to before, removed ones too."""
        return self._before("assets/")

    @cached_property
    def groups_before(self) -> Before:
        """What groups were bound to before, removed ones too."""
        return self._before("groups/")

    def _before(self, kind: str) -> Before:
        return Before((key.removeprefix(kind), some) for key, some in self.earlier.items() if key.startswith(kind))

    @cached_property
    def heard_before(self) -> list[tuple[str, str, int]]:
        """Whose energy groups of other scopes than its present one reported, and up to when (ms): assets with those scopes."""
        ended: dict[str, int] = {}
        for group in self.groups_before.past:
            if group.scope is not None:
                ended[group.scope] = max(group.end, ended.get(group.scope, 0))
        ended |= dict.fromkeys(self.groups, FOREVER)
        found = [(one.name, one.scope, min(one.end, ended[one.scope])) for one in self.assets_before.past if one.scope in ended]
        left = (scope for scope in ended if scope not in self.groups)
        return found + [(asset.id, scope, ended[scope]) for scope in left for asset in self.by_scope.get(scope, ())]

    @cached_property
    def _scopes(self) -> Ints:
        """What each asset's group shard is derived from; -1 where no group is bound to its scope."""
        of_scope = {scope: scope_hash(scope) for scope in self.groups}
        return np.array([of_scope.get(asset.scope_id, -1) for asset in self.assets.values()], np.int64)

    def group_shards(self, shards: int) -> Ints:
        """For each asset the group shard that its scope's groups are in; -1 where no group is bound to the scope."""
        return np.where(self._scopes < 0, -1, self._scopes % shards)

    def scope_of(self, asset_id: str) -> str | None:
        """The asset's scope now; None if it is unknown."""
        asset = self.assets.get(asset_id)
        return asset.scope_id if asset else None

    def scope_at(self, asset_id: str, start: int) -> str | None:
        """The asset's scope in the quarter from `start` (ms); None if it had none."""
        return self.assets_before.scope_at(asset_id, start, self.scope_of(asset_id))

    def scopes_within(self, asset_id: str, first: int, until: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """The asset's scopes in a stretch of quarters (ms), each with its part of it."""
        return self.assets_before.scopes_within(asset_id, first, until, self.scope_of(asset_id))

    def site(self, scope_id: str, first: int, until: int) -> Site:
        """Who belonged to the scope in the quarters of a stretch (ms): assets and groups that left it since or are removed, too."""
        assets, groups = assets_said(self.by_scope.get(scope_id, ())), groups_said(self.groups.get(scope_id, ()))
        return Site(self.assets_before.within(scope_id, assets, first, until), self.groups_before.within(scope_id, groups, first, until))


def not_known(_place: int) -> Configuration | None:
    """Nothing is known of other configurations."""
    return None


class Rosters:
    """The roster this worker goes by, made again only when the configuration is another one; it never goes back to an older one.

    Workers take a configuration over each at a moment of its own, but no part is taken by an older one than it was made by:
    `config_at` says what another worker went by, None where that is not known (yet).
    """

    def __init__(
        self, config: Callable[[], Configuration], clock: Clock, config_at: Callable[[int], Configuration | None] = not_known
    ) -> None:
        self._config, self._clock, self._config_at = config, clock, config_at
        self._seen: tuple[Configuration, Roster] | None = None
        self._ahead = False
        """Whether it goes by what another worker took over first."""
        self._others: dict[Edition, list[str]] = {}

    def current(self) -> Roster:
        """The same object as long as the configuration is."""
        config = self._config()
        if self._seen is None or (config is not self._seen[0] and not self._has(config)):
            self._ahead = False
            return self._taken(config)
        return self._seen[1]

    def reached(self, edition: Edition) -> Roster | None:
        """The roster to go by where a part was made by that edition: the present one, or that, if it is newer; None if this worker
        has not come so far yet."""
        roster = self.current()
        if roster.place >= edition.place:
            return roster
        config = self._config_at(edition.place)
        if config is None or _order(config) != edition.order:
            return None
        self._ahead = True
        return self._taken(config)

    def ids(self, edition: Edition) -> list[str] | None:
        """The assets' ids in the order of that edition, the present one or an older one; None if that is not known."""
        roster = self.current()
        if edition == roster.edition:
            return roster.ids
        if edition not in self._others:
            config = self._config_at(edition.place)
            if config is None or _order(config) != edition.order:
                return None
            self._keep(edition, [asset.id for asset in config.assets])
        return self._others[edition]

    def _has(self, config: Configuration) -> bool:
        """Whether what this worker goes by is at least as new. One without a place is always new, and so is one whose place is smaller
        than that of one it took over of its own accord: the topic was made anew."""
        if self._seen is None:
            return False
        now = self._seen[1].place
        return config.place >= 0 and (config.place == now or (self._ahead and config.place < now))

    def _taken(self, config: Configuration) -> Roster:
        if self._seen is not None:
            self._keep(self._seen[1].edition, self._seen[1].ids)
        self._seen = (config, Roster.of(config, self._clock))
        return self._seen[1]

    def _keep(self, edition: Edition, ids: list[str]) -> None:
        self._others.pop(edition, None)
        self._others[edition] = ids
        if len(self._others) > EDITIONS:
            del self._others[next(iter(self._others))]


def _order(config: Configuration) -> str:
    """The order of its assets: another than another worker's where records are gone that it read, and rows would be other assets'."""
    return order_of(asset.id for asset in config.assets)
