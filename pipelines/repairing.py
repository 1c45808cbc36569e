"""Computing quarters again from the history's readings: what the flow `repair` and the commands do (semantics 1.10).

The history is a port, so that this works on the embedded one, on a server and on a list. Stretches of time and assets are
taken so many at a time that memory stays bounded, however much is asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from pipelines.rules.quarter_roster import Roster, Rosters
from pipelines.rules.repair import (
    REGISTERS_AFTER,
    REGISTERS_BEFORE,
    Columns,
    Place,
    Span,
    by_asset,
    joined,
    reach_ms,
    recompute,
    register_assets,
)
from pipelines.rules.repair_portions import batches, chunks, hull_of, windows
from pipelines.rules.repair_rows import Changes, Statement, as_last, asset_changes, group_changes, last_of
from schemas.clock import Clock
from schemas.intervals import QUARTER_MS
from schemas.telemetry import Level, Origin, QuarterHour
from schemas.units import to_ms
from sinks.clickhouse.measured import Key, ReadingColumns

READINGS_AT_ONCE = 500_000
"""An asset with more readings than this in one stretch of time is taken by itself."""
QUARTERS_AT_ONCE = 20_000
FEWEST, MOST = 4, 7 * 96
"""Quarters of one stretch of time."""
_NEAR_MS = 6 * 3_600_000
"""How far beyond a stretch registers are looked for first."""
_PHASES_MS = 24 * 3_600_000
"""How far back rows tell which phases an asset reports."""
_MS = timedelta(milliseconds=1)


class History(Protocol):
    """What a repair asks of the history; `sinks.clickhouse.measured.MeasuredHistory` answers. Instants in ms."""

    def counts(self, assets: Sequence[str], first: int, until: int) -> dict[str, int]:
        """How many readings each asset has in a stretch, not fewer; assets without any are not there. Others may be."""

    def readings(self, assets: Sequence[str], first: int, until: int, ahead: int | None = None) -> ReadingColumns:
        """The assets' readings in a stretch; with `ahead`, without those that came more than that before their time."""

    def instants(self, assets: Sequence[str], first: int, until: int, most: int, *, newest: bool) -> dict[Key, list[int]]:
        """Of each asset and phase, when its first (`newest`: last) `most` readings with a register in a stretch were."""

    def at(self, instants: Mapping[Key, Sequence[int]]) -> ReadingColumns:
        """The readings of these assets and phases at these instants."""

    def rows(self, level: Level, ids: Sequence[str], first: int, until: int) -> Iterable[dict[str, Any]]:
        """The last final row of each quarter that starts in a stretch, `start` and `at` in ms."""


@dataclass(slots=True)
class Piece:
    """Part of a repair: rows to write before the next is asked for, what became of its quarters, and how far (ms) it got."""

    rows: list[QuarterHour]
    tally: Counter[str]
    left_out: Counter[str]
    until: int
    assets: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Quarters to compute again: for each asset, disjoint stretches of them. `causes` says what made each asset's repair."""

    spans: Mapping[str, Sequence[Span]]
    origin: Origin = Origin.REPAIR
    causes: Mapping[str, str] = field(default_factory=dict)


class Repairer:
    """Computes what is wanted, piece by piece. For one thread; blocks while the history answers.

    Raises what the history raises; what was not given out then is to be asked for again, which changes nothing else.
    """

    def __init__(self, history: History, rosters: Rosters, clock: Clock, expiry: Callable[[], timedelta]) -> None:
        self._history, self._rosters, self._clock, self._asset_expiry = history, rosters, clock, expiry

    @property
    def _expiry(self) -> int:
        """How far beyond a stretch registers are looked for at most: what the running flow remembers of a silent asset."""
        return self._asset_expiry() // _MS

    def run(self, wanted: Wanted) -> Iterator[Piece]:
        """The pieces of a repair, by time. Assets nobody has configured are left out.

        What is wanted must have left the running flow's hands (`open_from_ms`), and the history must have all rows that were
        ever written of it. Within a piece the rows of assets come before those of groups, all stated at one instant.
        """
        roster = self._rosters.current()
        spans = {asset: sorted(found) for asset, found in wanted.spans.items() if asset in roster.assets and found}
        sizes = Counter(roster.scope_of(asset) for asset in spans)
        stretch = min(max(QUARTERS_AT_ONCE // max(sizes.values(), default=1), FEWEST), MOST)
        for window in windows([span for found in spans.values() for span in found], stretch * QUARTER_MS):
            inside = {asset: hull for asset, found in spans.items() if (hull := hull_of(found, window)) is not None}
            reach = reach_ms(roster.timing)
            counts = self._history.counts(list(inside), _floor(window[0] - reach), window[1] + reach)
            there = {asset: inside[asset] for asset in inside if counts.get(asset)}
            for batch in batches(there, roster, max(1, QUARTERS_AT_ONCE // stretch)):
                yield self._piece(batch, counts, roster, Statement(wanted.origin, self._clock.now(), wanted.causes))
            yield Piece([], Counter(), Counter(), window[1])

    def beyond(self, spans: Mapping[str, Sequence[Span]], until: Mapping[str, int]) -> dict[str, list[Span]]:
        """Late readings' stretches, so far on and back as there are register values that may be judged otherwise for them (1.2):
        those they confirm, and those behind them. None past its asset's `until`."""
        reach = reach_ms(self._rosters.current().timing)
        alike: dict[Span, list[str]] = {}
        for asset, some in spans.items():
            for span in some:
                alike.setdefault(span, []).append(asset)
        found: dict[str, list[Span]] = {asset: [] for asset in spans}
        for span, assets in alike.items():
            first, last = span[0] + reach, span[1] - reach  # the late readings lie about between these
            before = by_asset(self._registers(assets, first, REGISTERS_AFTER, newest=True))
            after = by_asset(self._registers(assets, last, REGISTERS_AFTER, newest=False))
            for asset in assets:
                begin = min([first, *before.get(asset, [])]) - reach
                end = -(-(max([last, *after.get(asset, [])]) + reach) // QUARTER_MS) * QUARTER_MS
                most = until[asset] // QUARTER_MS * QUARTER_MS
                found[asset].append((min(span[0], _floor(begin)), max(span[1], min(end, most))))
        return found

    def _piece(self, spans: Mapping[str, Span], counts: Mapping[str, int], roster: Roster, said: Statement) -> Piece:
        changes, left_out = Changes(), Counter[str]()
        for chunk in chunks(list(spans), counts, READINGS_AT_ONCE):
            some = {asset: spans[asset] for asset in chunk}
            found = recompute(self._columns(some, roster), some, _limits(chunk, roster), roster.timing, _latest(said, roster))
            left_out += found.left_out
            reach = reach_ms(roster.timing)
            first, until = min(span[0] for span in some.values()), max(span[1] for span in some.values())
            lasts = dict(map(last_of, self._history.rows(Level.ASSET, chunk, _floor(first - reach), until)))
            part = asset_changes(found, lasts, some, reach, said, roster)
            changes.rows += part.rows
            changes.tally += part.tally
        self._groups(changes, spans, roster, said)
        return Piece(changes.rows, changes.tally, left_out, max(span[1] for span in spans.values()), len(spans))

    def _groups(self, changes: Changes, spans: Mapping[str, Span], roster: Roster, said: Statement) -> None:
        """Adds the rows of the groups of the scopes these assets belonged to, by who belonged there in each quarter (semantics 2)."""
        of_scope: dict[str, list[Span]] = {}
        for asset, span in spans.items():
            for scope, part in roster.scopes_within(asset, *span):
                of_scope.setdefault(scope, []).append(part)
        hulls = {scope: (min(first for first, _ in found), max(until for _, until in found)) for scope, found in of_scope.items()}
        sites = {scope: site for scope, hull in hulls.items() if (site := roster.site(scope, *hull)).groups}
        if not sites:
            return
        first, until = min(hulls[scope][0] for scope in sites), max(hulls[scope][1] for scope in sites)
        scopes_of: dict[str, set[str]] = {}
        for scope, site in sites.items():
            for one in site.assets:
                scopes_of.setdefault(one.name, set()).add(scope)
        members, groups = list(scopes_of), list({one.name for site in sites.values() for one in site.groups})
        known = self._history.rows(Level.ASSET, members, max(0, first - _PHASES_MS), until)
        fresh = dict(as_last(changes.rows))
        rows = dict(map(last_of, known)) | fresh
        lasts = dict(map(last_of, self._history.rows(Level.GROUP, groups, first, until)))
        by_scope: dict[str, dict[Place, Any]] = {}
        for place, last in rows.items():
            for scope in scopes_of.get(place[0], ()):
                by_scope.setdefault(scope, {})[place] = last
        for scope, site in sites.items():
            written = group_changes(scope, hulls[scope], by_scope.get(scope, {}), fresh, lasts, said, site)
            changes.rows += written.rows
            changes.tally += written.tally

    def _columns(self, spans: Mapping[str, Span], roster: Roster) -> Columns:
        """All readings the spans' quarters may come from."""
        reach, assets = reach_ms(roster.timing), list(spans)
        low = _floor(min(first for first, _ in spans.values()) - reach)
        high = -(-(max(until for _, until in spans.values()) + reach) // QUARTER_MS) * QUARTER_MS
        parts = [_columns(self._history.readings(assets, low, high, self._ahead(roster)))]
        if metered := register_assets(parts[0]):
            beside = self._registers(metered, low, REGISTERS_BEFORE, newest=True)
            parts.append(_columns(self._history.at(beside)))
            parts.append(_columns(self._history.at(self._registers(metered, high, REGISTERS_AFTER, newest=False))))
        return joined(parts)

    def _registers(self, assets: Sequence[str], at: int, most: int, *, newest: bool) -> dict[Key, list[int]]:
        """The registers beside an instant: near it first, and far from it for the assets that have not enough there."""

        def ask(names: Sequence[str], far: int) -> dict[Key, list[int]]:
            first, until = (max(0, at - far), at) if newest else (at, at + far)
            return self._history.instants(names, first, until, most, newest=newest)

        found = ask(assets, min(_NEAR_MS, self._expiry))
        least: dict[str, int] = {}
        for (asset, _), instants in found.items():
            least[asset] = min(least.get(asset, most), len(instants))
        few = [asset for asset in assets if least.get(asset, 0) < most]
        return found | (ask(few, self._expiry) if few and self._expiry > _NEAR_MS else {})

    def _ahead(self, roster: Roster) -> int | None:
        """What readings may be ahead of their arrival (1.8). The history knows arrival by wall time only."""
        now = self._clock.now()
        real = self._clock.speed == 1 and abs(self._clock.wall_at(now) - now) < timedelta(seconds=1)
        return roster.timing.future if real else None


def _columns(found: ReadingColumns) -> Columns:
    return Columns(found.ids, found.asset, found.phase, found.at, found.values, found.present, found.estimated)


def _limits(assets: Iterable[str], roster: Roster) -> dict[str, float | None]:
    return {asset: roster.max_w(asset) for asset in assets}


def _latest(said: Statement, roster: Roster) -> int:
    return to_ms(said.now) + roster.timing.future


def _floor(at: int) -> int:
    return max(0, at // QUARTER_MS * QUARTER_MS)
