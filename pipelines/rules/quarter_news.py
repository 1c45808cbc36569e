"""What a shard tells the groups of its assets' scopes: rows, what is closed, and how time passes for the rest (semantics 2)."""

from datetime import datetime

import numpy as np

from pipelines.rules.groups import MemberNews
from pipelines.rules.quarter_closing import cut_of
from pipelines.rules.quarter_out import final_rows, running_rows
from pipelines.rules.quarter_roster import Roster, shard_of
from pipelines.rules.quarter_state import Part, Shard, Step
from schemas.intervals import QUARTER_MS
from schemas.telemetry import QuarterHour


def told(shard: Shard, part: Part, roster: Roster, step: Step, now: datetime) -> tuple[list[QuarterHour], list[MemberNews]]:
    """The asset rows of a step, final and provisional, and the news of it for scopes with groups."""
    desk = _Desk(shard, part, roster)
    rows: list[QuarterHour] = []
    for row in final_rows(shard.keys, step, roster, now):
        rows.append(row)
        if (news := desk.of(row.id)) is not None:
            news.rows.append(row)
    for row in running_rows(shard.keys, step, roster, now):
        rows.append(row)
        if (news := desk.of(row.id)) is not None:
            news.running.append(row)
    if step.closed:
        until = shard.keys.settled()
        for asset in np.unique(shard.keys.asset[np.concatenate(step.closed)]).tolist():
            desk.settle(shard.keys.assets[asset], int(until[asset]))
    desk.pass_time()
    if step.provisional:
        desk.tick()
    return rows, desk.news()


class _Desk:
    """Collects the news of one step by scope."""

    def __init__(self, shard: Shard, part: Part, roster: Roster) -> None:
        self._shard, self._part, self._roster = shard, part, roster
        self._news: dict[str, MemberNews] = {}

    def of(self, asset_id: str) -> MemberNews | None:
        """The news about the asset's scope; None if no group is bound to it."""
        scope = self._roster.reporting_scope(asset_id)
        return None if scope is None else self._scope(scope)

    def settle(self, asset_id: str, until: int) -> None:
        """All quarters of the asset up to then are closed."""
        news = self.of(asset_id)
        if news is not None and until > self._shard.settled.get(asset_id, 0):
            news.settled[asset_id] = self._shard.settled[asset_id] = until

    def pass_time(self) -> None:
        """What all partitions have passed settles assets that were never heard of; past the deadline nobody is waited for.

        The deadline is told one step late: where time leaps, as in a backlog, the rows of all shards come first.
        """
        shard, timing = self._shard, self._roster.timing
        absent = shard.times.slowest(timing.lateness) // QUARTER_MS * QUARTER_MS
        overdue, shard.overdue_next = shard.overdue_next, (shard.times.fastest() - timing.report_deadline) // QUARTER_MS * QUARTER_MS
        if absent <= shard.absent_until and overdue <= shard.overdue_until:
            return
        for scope in self._roster.groups:
            for asset in self._mine(scope):
                if asset not in shard.home:
                    self.settle(asset, absent)
                if shard.settled.get(asset, 0) < overdue:
                    self._scope(scope)
        shard.absent_until, shard.overdue_until = max(absent, shard.absent_until), max(overdue, shard.overdue_until)

    def tick(self) -> None:
        """A round of provisional rows: every scope with assets here is told, so that its groups know when the round is complete."""
        for scope in self._roster.groups:
            if self._mine(scope):
                self._scope(scope).tick = self._shard.tick

    def news(self) -> list[MemberNews]:
        """What there is to tell, scope by scope."""
        timing = self._roster.timing
        frozen = int(cut_of(np.int64(self._shard.times.slowest(timing.lateness)), timing))
        for news in self._news.values():
            news.overdue_until, news.frozen_until = self._shard.overdue_until, frozen
        return list(self._news.values())

    def _scope(self, scope_id: str) -> MemberNews:
        return self._news.setdefault(scope_id, MemberNews(scope_id, self._part.shard, self._part.shards))

    def _mine(self, scope_id: str) -> list[str]:
        part = self._part
        return [asset.id for asset in self._roster.by_scope.get(scope_id, ()) if shard_of(asset.id, part.shards) == part.shard]
