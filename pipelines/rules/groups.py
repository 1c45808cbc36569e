"""Group rows: what a scope's assets amount to for the groups bound to it (semantics 2).

The connection meter's row where the scope has one, else the sum of its members. What members did arrives as `MemberNews`
from the shards that hold their state; a group row follows once nothing more is waited for, and again when that changes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from pipelines.records import Tick
from pipelines.rules.quarter_roster import Roster, Rosters, shard_of
from schemas.facts import derived_id
from schemas.intervals import QUARTER_MS
from schemas.telemetry import Level, Method, QuarterHour
from schemas.topology import Asset
from schemas.units import Phase, from_ms, rfc3339, to_ms

ByPhase = dict[str, dict[str, Any]]
"""An asset's rows of one quarter as plain values, by phase."""

_SUMMED = ("import_wh", "export_wh", "net_wh", "mean_w", "samples")
_SUMMED_IF_ALL = ("import_register_wh", "export_register_wh", "stored_wh", "last_minute_w")
_KEPT = (*_SUMMED, *_SUMMED_IF_ALL, "min_w", "max_w", "coverage", "estimated", "reset")
_W_PER_WH = 4.0
"""A quarter's mean power of its net energy."""


@dataclass
class MemberNews:
    """What one shard has to say about its assets of one scope.

    `settled` is up to where (ms) each asset's quarters are closed, `overdue_until` up to where nobody is waited for
    any more, `frozen_until` up to where no row can change. `tick` (0: none) numbers a round of provisional rows.
    """

    scope_id: str
    shard: int
    shards: int
    rows: list[QuarterHour] = field(default_factory=list)
    settled: dict[str, int] = field(default_factory=dict)
    running: list[QuarterHour] = field(default_factory=list)
    tick: int = 0
    overdue_until: int = 0
    frozen_until: int = 0


class _Quarter(TypedDict):
    rows: dict[str, ByPhase]
    running: dict[str, ByPhase]
    written: dict[str, tuple[int, str]]


class ScopeState(TypedDict):
    """What is known of a scope's open and revisable quarters, by start in ms; all plain types."""

    quarters: dict[int, _Quarter]
    settled: dict[str, int]
    phases: dict[str, list[str]]
    overdue: int
    frozen: dict[int, int]
    gone: int
    ticks: dict[int, int]
    ticked: int


class GroupRule:
    """The state machine of one scope; its key is the scope's id."""

    def __init__(self, rosters: Rosters) -> None:
        self._rosters = rosters

    def start(self, key: str) -> ScopeState:
        """Nothing is known yet."""
        return {"quarters": {}, "settled": {}, "phases": {}, "overdue": 0, "frozen": {}, "gone": 0, "ticks": {}, "ticked": 0}

    def due(self, state: ScopeState) -> datetime | None:
        """Never: news bring the time along."""
        return None

    def step(self, state: ScopeState, item: MemberNews | Tick, now: datetime) -> Iterable[QuarterHour]:
        """Take in news and say which group rows follow: final ones with the next revision, provisional ones with 0."""
        if isinstance(item, Tick):
            return []
        roster, news = self._rosters.current(), item
        for row in news.rows:
            self._keep(state, row, "rows")
        for row in news.running:
            self._keep(state, row, "running")
        state["settled"].update(news.settled)
        state["overdue"] = max(state["overdue"], news.overdue_until)
        out = [row for start in sorted(state["quarters"]) for row in self._final(state, news.scope_id, start, roster, now)]
        if news.tick:
            state["ticks"][news.shard] = news.tick
            out += self._provisional(state, news, roster, now)
        state["frozen"][news.shard] = news.frozen_until
        self._forget(state, news, roster)
        return out

    def _keep(self, state: ScopeState, row: QuarterHour, kind: str) -> None:
        start = to_ms(row.start)
        if start < state["gone"]:
            return  # the group's row is final: what it was made of is no longer known
        quarter = state["quarters"].setdefault(start, {"rows": {}, "running": {}, "written": {}})
        kept: dict[str, ByPhase] = quarter["rows"] if kind == "rows" else quarter["running"]
        kept.setdefault(row.id, {})[row.phase.value] = {name: getattr(row, name) for name in _KEPT}
        phases = state["phases"].setdefault(row.id, [])
        if row.phase.value not in phases:
            phases.append(row.phase.value)

    def _final(self, state: ScopeState, scope_id: str, start: int, roster: Roster, now: datetime) -> Iterator[QuarterHour]:
        quarter, end = state["quarters"][start], start + QUARTER_MS
        members = roster.members(scope_id, from_ms(start))
        awaited = [asset for asset in members if asset.connection_meter] or members
        complete = end <= state["overdue"] or all(state["settled"].get(asset.id, 0) >= end for asset in awaited)
        if not complete and not quarter["written"]:
            return
        content = group_content(members, quarter["rows"], state["phases"])
        if content is None:
            return
        for group in roster.groups.get(scope_id, ()):
            revision, last = quarter["written"].get(group.group_id, (0, ""))
            said = derived_id(*sorted(content.items()))
            if said != last:
                quarter["written"][group.group_id] = (revision + 1, said)
                yield _row(group.group_id, scope_id, start, content, now, revision + 1)

    def _provisional(self, state: ScopeState, news: MemberNews, roster: Roster, now: datetime) -> Iterator[QuarterHour]:
        """Once every shard that holds members has told its share of this round."""
        shards = {shard_of(asset.id, news.shards) for asset in roster.by_scope.get(news.scope_id, ())}
        if news.tick <= state["ticked"] or any(state["ticks"].get(shard, 0) < news.tick for shard in shards):
            return
        state["ticked"] = news.tick
        for start, quarter in sorted(state["quarters"].items()):
            if quarter["written"] or not quarter["running"]:
                continue
            content = group_content(
                roster.members(news.scope_id, from_ms(start)), {**quarter["running"], **quarter["rows"]}, state["phases"]
            )
            for group in roster.groups.get(news.scope_id, ()) if content else ():
                yield _row(group.group_id, news.scope_id, start, content or {}, now, 0)

    def _forget(self, state: ScopeState, news: MemberNews, roster: Roster) -> None:
        shards = {shard_of(asset.id, news.shards) for asset in roster.by_scope.get(news.scope_id, ())}
        gone = min((state["frozen"].get(shard, 0) for shard in shards), default=0)
        state["gone"] = max(state["gone"], gone)
        for start in [start for start in state["quarters"] if start < state["gone"]]:
            del state["quarters"][start]


def group_content(members: Iterable[Asset], rows: Mapping[str, ByPhase], phases: Mapping[str, list[str]]) -> dict[str, Any] | None:
    """What a group's row says of a quarter, from its members' rows; None where there is none.

    `phases` are those each asset is known to report, so that a missing one is seen.
    """
    members = list(members)
    meter = next((asset for asset in members if asset.connection_meter), None)
    if meter is not None:
        total = total_of(rows.get(meter.id, {}), phases.get(meter.id, []))
        return None if total is None else {**total, "method": Method.METER, "missing_members": 0}
    totals = [total for asset in members if (total := total_of(rows.get(asset.id, {}), phases.get(asset.id, []))) is not None]
    if not totals:
        return None
    net = sum(total["net_wh"] for total in totals)
    stored, minutes = ([total[name] for total in totals if total[name] is not None] for name in ("stored_wh", "last_minute_w"))
    return {
        "import_wh": max(net, 0.0),
        "export_wh": max(-net, 0.0),
        "net_wh": net,
        "mean_w": net * _W_PER_WH,
        "min_w": None,
        "max_w": None,
        "stored_wh": sum(stored) if stored else None,
        "import_register_wh": None,
        "export_register_wh": None,
        "samples": sum(total["samples"] for total in totals),
        "coverage": sum(total["coverage"] for total in totals) / len(members),
        "method": Method.SUM,
        "missing_members": len(members) - len(totals),
        "estimated": any(total["estimated"] for total in totals),
        "reset": any(total["reset"] for total in totals),
        "last_minute_w": sum(minutes) if minutes else None,
    }


def total_of(rows: ByPhase, phases: Iterable[str]) -> dict[str, Any] | None:
    """An asset's row over its phases: that of phase ALL where there is one, else the sum of the single ones.

    Coverage is the mean over the phases it reports, a missing one counting 0; extremes of a sum are not known.
    """
    whole = rows.get(Phase.ALL.value)
    singles = [rows[phase.value] for phase in Phase if phase is not Phase.ALL and phase.value in rows]
    if whole is not None or len(singles) == 1 == sum(phase != Phase.ALL.value for phase in phases):
        one = whole if whole is not None else singles[0]
        return dict(one)
    if not singles:
        return None
    expected = max(len(singles), sum(phase != Phase.ALL.value for phase in phases))
    total: dict[str, Any] = {name: sum(row[name] for row in singles) for name in _SUMMED}
    for name in _SUMMED_IF_ALL:
        values = [row[name] for row in singles]
        total[name] = None if None in values or len(values) < expected else sum(values)
    return total | {
        "min_w": None,
        "max_w": None,
        "coverage": sum(row["coverage"] for row in singles) / expected,
        "estimated": any(row["estimated"] for row in singles),
        "reset": any(row["reset"] for row in singles),
    }


def _row(group_id: str, scope_id: str, start: int, content: Mapping[str, Any], now: datetime, revision: int) -> QuarterHour:
    provisional = revision == 0
    when = rfc3339(now) if provisional else ""
    return QuarterHour.model_validate(
        {
            **content,
            "event_id": derived_id("quarter-hour", Level.GROUP, group_id, Phase.ALL, start, revision, when, *sorted(content.items())),
            "at": now,
            "level": Level.GROUP,
            "id": group_id,
            "scope_id": scope_id,
            "start": from_ms(start),
            "revision": revision,
            "provisional": provisional,
            "last_minute_w": content["last_minute_w"] if provisional else None,
        }
    )
