"""Rows of the metering rules as messages: columns to bytes, and no other object a row (semantics 1, 2)."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Outs
from pipelines.rules.group_bindings import Past
from pipelines.rules.group_news import METHODS as GROUP_METHODS
from pipelines.rules.group_news import GroupRows
from pipelines.rules.quarter_hours import METHODS
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_readings import Ints, position
from pipelines.rules.quarter_roster import Roster
from schemas.telemetry import Level
from schemas.topics import QUARTER_HOURS
from schemas.units import to_ms
from sinks.quarter_bytes import Names, quarter_bytes


class AssetRows:
    """Writes the rows of one telemetry shard's assets. Names are made once an asset and configuration, and once more for each
    scope an asset was bound to before: rows of quarters from then carry that."""

    def __init__(self) -> None:
        self._roster: Roster | None = None
        self._assets: list[str] = []
        self._known = 0
        self._names = self._all = Names.of(Level.ASSET, (), ())
        self._formerly = _Formerly({}, [])

    def outs(self, keys: Keys, rows: NDArray[np.void], revisions: NDArray[np.int32], roster: Roster, now: int) -> Outs:
        """The messages of some rows (`quarter_hours.ROW`), stated at `now` (ms); of revision 0 are all, the provisional ones, or none."""
        self._know(keys, roster)
        asset = keys.asset[rows["key"]]
        provisional = bool(len(revisions)) and not revisions[0]
        who, names = asset, self._names
        if len(self._formerly):
            who, names = self._formerly.who(asset, rows["start"], self._known), self._all
        raws = quarter_bytes(names, who, keys.phase[rows["key"]], rows, revisions, methods=METHODS, at=now, provisional=provisional)
        ids = keys.assets
        return Outs(QUARTER_HOURS, [ids[index] for index in asset.tolist()], raws)

    def _know(self, keys: Keys, roster: Roster) -> None:
        if roster is not self._roster or self._assets is not keys.assets:
            self._roster, self._assets, self._known = roster, keys.assets, 0
            self._names = Names.of(Level.ASSET, (), ())
        if self._known < len(keys.assets):
            more = keys.assets[self._known :]
            self._names += Names.of(Level.ASSET, more, [roster.scope_of(asset) for asset in more])
            self._known = len(keys.assets)
            past = roster.assets_before.past
            here = {asset: index for index, asset in enumerate(keys.assets)} if past else {}
            self._formerly = _Formerly(here, [one for one in past if one.name in here])
            self._all = self._names + self._formerly.names


class _Formerly:
    """The scopes that assets were bound to before, as names beside those of the present ones: columns in order of asset and begin.

    `here` is where each asset stands in the shard.
    """

    def __init__(self, here: dict[str, int], past: list[Past]) -> None:
        self.names = Names.of(Level.ASSET, [one.name for one in past], [one.scope for one in past])
        asset = np.array([here[one.name] for one in past], np.int64)
        self._begin, self._end = (np.array(column, np.int64) for column in ([one.begin for one in past], [one.end for one in past]))
        self._order = np.lexsort((self._begin, asset))
        self._place = position(asset, self._begin)[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def who(self, asset: NDArray[np.int32], start: Ints, present: int) -> NDArray[np.int32]:
        """Whose name each row has: the asset's (of `present` ones), or behind them the one of its scope in that quarter."""
        at = np.searchsorted(self._place, position(asset, start), side="right") - 1
        former = self._order[np.maximum(at, 0)]
        same = (at >= 0) & (position(asset, self._begin[former]) == self._place[np.maximum(at, 0)])
        return np.where(same & (start < self._end[former]), present + former, asset).astype(np.int32)


def group_outs(some: GroupRows, now: datetime) -> Outs:
    """The messages of some groups' rows."""
    who, phase = np.arange(len(some.groups), dtype=np.int32), np.zeros(len(some.groups), np.int8)
    names = Names.of(Level.GROUP, some.groups, some.scopes)
    provisional = not some.revisions[0]
    raws = quarter_bytes(names, who, phase, some.rows, some.revisions, methods=GROUP_METHODS, at=to_ms(now), provisional=provisional)
    return Outs(QUARTER_HOURS, some.groups, raws)
