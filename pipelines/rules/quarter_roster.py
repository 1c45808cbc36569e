"""What the metering engine needs of the configuration: who is measured, and whose energy groups report (semantics 1.8, 2)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from zlib import crc32

import numpy as np

from pipelines.rules.editions import edition_of
from pipelines.rules.group_bindings import FOREVER, Before, Site, assets_said, groups_said, marks_of, scope_hash
from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.quarter_readings import Floats, Ints
from schemas.clock import Clock
from schemas.config import Configuration, EarlierBinding
from schemas.topology import Asset, Group

EDITIONS = 16
"""So many past orders of assets are remembered: other workers may be a few changes behind."""


def shard_of(asset_id: str, shards: int) -> int:
    """The shard an asset's state lives in: the same on every run, for this number of shards."""
    return _hash(asset_id) % shards


def _hash(asset_id: str) -> int:
    return crc32(asset_id.encode())


@dataclass(frozen=True)
class Roster:
    """A configuration's assets by id (and in that order), each scope's assets, the groups of scopes that have any, the timing in
    force, and what was bound otherwise `earlier` (`Configuration.earlier`)."""

    assets: dict[str, Asset]
    by_scope: dict[str, list[Asset]]
    groups: dict[str, list[Group]]
    timing: MeterTiming
    earlier: Mapping[str, tuple[EarlierBinding, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Configuration, clock: Clock) -> "Roster":
        """Look the configuration through once."""
        groups: dict[str, list[Group]] = {}
        for group in config.groups:
            groups.setdefault(group.scope_id, []).append(group)
        return cls({}, {}, groups, MeterTiming.of(config.timing, clock), config.earlier).with_assets(config.assets)

    def with_assets(self, assets: Iterable[Asset]) -> "Roster":
        """The same with other assets."""
        by_scope: dict[str, list[Asset]] = {}
        by_id = {asset.id: asset for asset in sorted(assets, key=attrgetter("id"))}
        for asset in by_id.values():
            by_scope.setdefault(asset.scope_id, []).append(asset)
        return Roster(by_id, by_scope, self.groups, self.timing, self.earlier)

    def max_w(self, asset_id: str) -> float | None:
        """The asset's `max_w`; None where it has none or is unknown."""
        asset = self.assets.get(asset_id)
        return asset.max_w if asset else None

    @cached_property
    def ids(self) -> list[str]:
        """All assets' ids. An asset's place among them is its row here and in `hashes` and `limits`."""
        return list(self.assets)

    @cached_property
    def edition(self) -> str:
        """Names this order of ids: workers that have the same configuration have the same rows."""
        return edition_of(self.assets)

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


def unheard_of(_edition: str) -> list[Asset] | None:
    """Nothing is known of other editions."""
    return None


class Rosters:
    """The roster of the present configuration, made again only when that is another one; and the last few before it.

    `assets_then` says which assets there were when they had an edition (`Editions`), for those this worker never went by itself.
    """

    def __init__(
        self, config: Callable[[], Configuration], clock: Clock, assets_then: Callable[[str], list[Asset] | None] = unheard_of
    ) -> None:
        self._config, self._clock, self._assets_then = config, clock, assets_then
        self._seen: tuple[Configuration, Roster] | None = None
        self._editions: dict[str, Roster] = {}

    def current(self) -> Roster:
        """The same object as long as the configuration is."""
        config = self._config()
        if self._seen is None or self._seen[0] is not config:
            self._seen = (config, self._kept(Roster.of(config, self._clock)))
        return self._seen[1]

    def of(self, edition: str) -> Roster | None:
        """The newest roster of that edition; None if this worker has not (yet) seen the configuration it belongs to."""
        roster = self.current()
        if edition not in self._editions and (assets := self._assets_then(edition)) is not None:
            self._kept(roster.with_assets(assets))
        return self._editions.get(edition)

    def _kept(self, roster: Roster) -> Roster:
        self._editions.pop(roster.edition, None)
        self._editions[roster.edition] = roster
        if len(self._editions) > EDITIONS:
            del self._editions[next(iter(self._editions))]
        return roster
