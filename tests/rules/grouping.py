"""Feeds a group shard without an engine: members' rows as models in, the group's rows as models out, through their bytes."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pipelines.quarter_rows import group_outs
from pipelines.rules.group_bindings import marks_of, scope_hash
from pipelines.rules.group_news import GroupNews, Members
from pipelines.rules.group_shard import GroupShard
from pipelines.rules.group_snapshot import dump, load
from pipelines.rules.quarter_hours import CONTENT, METHODS, ROW
from pipelines.rules.quarter_roster import Rosters
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.telemetry import Level, Method, QuarterHour
from schemas.units import Phase, from_ms, to_ms
from tests.builders import T0, Applied, configuration
from tests.outs import each

START = to_ms(T0)
END = START + QUARTER_MS
PHASES = tuple(Phase)


def row(asset_id: str, quarter: int = 0, **values: Any) -> QuarterHour:
    """An asset's row with 100 Wh imported unless said otherwise."""
    wh = {"import_wh": 100.0, "export_wh": 0.0, **values}
    plain: dict[str, Any] = {
        "event_id": "e", "at": T0, "level": Level.ASSET, "id": asset_id, "scope_id": "mg-1", "start": T0 + quarter * QUARTER,
        "net_wh": wh["import_wh"] - wh["export_wh"], "mean_w": 4 * (wh["import_wh"] - wh["export_wh"]), "samples": 15, "coverage": 1.0,
        "method": Method.POWER, "revision": 1,
    }  # fmt: skip
    return QuarterHour.model_validate({**plain, **wh})


def running(asset_id: str, quarter: int = 0, **values: Any) -> QuarterHour:
    """A provisional row."""
    return row(asset_id, quarter, revision=0, provisional=True, **values)


def members(rows: Iterable[QuarterHour]) -> Members:
    """Rows as a telemetry shard would send them."""
    rows = list(rows)
    table = np.zeros(len(rows), ROW)
    for index, one in enumerate(rows):
        for name in (*CONTENT, "last_minute_w"):
            value = getattr(one, name)
            table[name][index] = np.nan if value is None else value
        for name in ("samples", "estimated", "reset"):
            table[name][index] = getattr(one, name)
        table["start"][index], table["method"][index] = to_ms(one.start), METHODS.index(one.method)
    return Members(table, marks_of(one.id for one in rows), np.array([PHASES.index(one.phase) for one in rows], np.int8))


def news(
    *rows: QuarterHour, live: Iterable[QuarterHour] = (), settled: Iterable[str] = (), until: int = END, shard: int = 0, shards: int = 1,
    **times: int,
) -> GroupNews:  # fmt: skip
    """News of one telemetry shard."""
    settled = list(settled)
    ends = np.full(len(settled), until, np.int64)
    return GroupNews(shard, shards, members(rows), members(live), marks_of(settled), ends, **times)


class Groups:
    """The group shard of one scope; `restart` goes through the bytes of a snapshot."""

    def __init__(self, config: Configuration | None = None, shards: int = 1, scope: str = "mg-1") -> None:
        self.shards, self.clock, self._applied = shards, FrozenClock(T0), Applied()
        self.config = config or configuration()
        self._rosters = Rosters(lambda: self.config, self.clock)
        self.shard = GroupShard(scope_hash(scope) % shards)

    @property
    def config(self) -> Configuration:
        """The configuration in force; set it to apply another one at the clock's instant."""
        return self._config

    @config.setter
    def config(self, wanted: Configuration) -> None:
        self._config = self._applied.apply(wanted, self.clock.now())

    def take(self, *items: GroupNews) -> list[QuarterHour]:
        """What follows from news that come together."""
        now = self.clock.now()
        found = [group_outs(some, now) for some in self.shard.step(items, self._rosters.current())]
        return [out.value for out in each(found) if isinstance(out.value, QuarterHour)]

    def hear(self, *rows: QuarterHour, **more: Any) -> list[QuarterHour]:
        """What follows from news of the one telemetry shard, or of `shard`."""
        return self.take(news(*rows, shards=self.shards, **more))

    def hear_all(self, **more: Any) -> list[QuarterHour]:
        """What follows when all telemetry shards say the same."""
        return [found for shard in range(self.shards) for found in self.hear(shard=shard, **more)]

    def restart(self) -> None:
        self.shard = load(dump(self.shard))
        self._rosters = Rosters(lambda: self.config, self.clock)

    def quarters(self) -> list[int]:
        """The quarters that are in the state, 0 the one from T0."""
        return [(start - START) // QUARTER_MS for start in sorted(self.shard.quarters)]


def instant(quarter: float) -> Any:
    """The instant so many quarters after T0."""
    return from_ms(START + round(quarter * QUARTER_MS))
