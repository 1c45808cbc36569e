"""Rows of the metering rules as messages: columns to bytes, and no other object a row (semantics 1, 2)."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Outs
from pipelines.rules.group_news import METHODS as GROUP_METHODS
from pipelines.rules.group_news import GroupRows
from pipelines.rules.quarter_hours import METHODS
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_roster import Roster
from schemas.telemetry import Level
from schemas.topics import QUARTER_HOURS
from schemas.units import to_ms
from sinks.quarter_bytes import Names, quarter_bytes


class AssetRows:
    """Writes the rows of one telemetry shard's assets. Names are made once an asset and configuration."""

    def __init__(self) -> None:
        self._roster: Roster | None = None
        self._assets: list[str] = []
        self._known = 0
        self._names = Names.of(Level.ASSET, (), ())

    def outs(self, keys: Keys, rows: NDArray[np.void], revisions: NDArray[np.int32], roster: Roster, now: int) -> Outs:
        """The messages of some rows (`quarter_hours.ROW`), stated at `now` (ms); of revision 0 are all, the provisional ones, or none."""
        self._know(keys, roster)
        asset = keys.asset[rows["key"]]
        provisional = bool(len(revisions)) and not revisions[0]
        raws = quarter_bytes(self._names, asset, keys.phase[rows["key"]], rows, revisions, methods=METHODS, at=now, provisional=provisional)
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


def group_outs(some: GroupRows, now: datetime) -> Outs:
    """The messages of some groups' rows."""
    who, phase = np.arange(len(some.groups), dtype=np.int32), np.zeros(len(some.groups), np.int8)
    names = Names.of(Level.GROUP, some.groups, some.scopes)
    provisional = not some.revisions[0]
    raws = quarter_bytes(names, who, phase, some.rows, some.revisions, methods=GROUP_METHODS, at=to_ms(now), provisional=provisional)
    return Outs(QUARTER_HOURS, some.groups, raws)
