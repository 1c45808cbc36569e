"""What is written where quarters were computed again: rows whose content differs from the last, with the next revision (1.10)."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import isclose
from typing import Any

from pipelines.rules.group_bindings import Member, Site
from pipelines.rules.groups import group_content
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.repair import Content, Place, Recomputed, Span
from schemas.facts import derived_id
from schemas.intervals import QUARTER_MS
from schemas.telemetry import Level, Method, Origin, QuarterHour
from schemas.units import Phase, from_ms, to_ms

NUMBERS = (
    "import_wh", "export_wh", "net_wh", "mean_w", "min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh", "coverage",
)  # fmt: skip
OTHERS = ("samples", "method", "missing_members", "estimated", "reset")
_REGISTERS = ("import_register_wh", "export_register_wh")
_RELATIVE, _ABSOLUTE, _OF_REGISTER = 1e-9, 1e-6, 1e-14

SAME, WRITTEN, GROUPS, EMPTY, LOST, OWN = "same", "written", "groups", "empty", "lost", "own"
"""What became of a quarter: as it was; written; a group's row written; the row stays since there are no readings (EMPTY), since
the history no longer has all of them (LOST), or since it is not a backfill's to replace (OWN)."""


@dataclass(frozen=True, slots=True)
class Last:
    """The last row of a quarter: its revision, when it was stated (ms), how it came, what it says."""

    revision: int
    at: int
    origin: Origin
    content: Content


@dataclass(slots=True)
class Changes:
    """Rows to write, and how many quarters came out in which way."""

    rows: list[QuarterHour] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Statement:
    """Who states the rows, when, and what made it compute each asset's again."""

    origin: Origin
    now: datetime
    causes: Mapping[str, str] = field(default_factory=dict)


def last_of(row: Mapping[str, Any]) -> tuple[Place, Last]:
    """A row of the history (a `QuarterHour`'s fields, `start` and `at` in ms) with its place."""
    content = {name: row[name] for name in (*NUMBERS, *OTHERS)}
    content["method"] = Method(row["method"])
    place = (row["id"], row["phase"], row["start"])
    return place, Last(row["revision"], row["at"], Origin(row["origin"]), content)


def differs(new: Content, old: Content) -> bool:
    """Whether two contents say different things.

    Numbers that differ by less than a thousandth of the last digit a partner is told do not: the running flow adds up
    in another order than a repair does.
    """
    if any(new[name] != old[name] for name in OTHERS):
        return True
    # What a register's difference amounts to is known no better than the register is.
    least = _ABSOLUTE + _OF_REGISTER * max(abs(each[name] or 0.0) for each in (new, old) for name in _REGISTERS)
    return any(_apart(new[name], old[name], least) for name in NUMBERS)


def _apart(new: float | None, old: float | None, least: float) -> bool:
    if new is None or old is None:
        return new is not old
    return not isclose(new, old, rel_tol=_RELATIVE, abs_tol=least)


def asset_changes(
    found: Recomputed, lasts: Mapping[Place, Last], spans: Mapping[str, Span], reach: int, said: Statement, roster: Roster
) -> Changes:
    """The assets' rows to write. `lasts` has the last rows of the spans and of `reach` (ms) before them."""
    changes = Changes()
    lost = {place for place, last in lasts.items() if last.content["samples"] > found.archived[place]}
    inside = {place for place in lasts if spans.get(place[0], (0, 0))[0] <= place[2] < spans.get(place[0], (0, 0))[1]}
    for place in sorted(found.contents.keys() | inside):
        content, last = found.contents.get(place), lasts.get(place)
        outcome = _outcome(content, last, said.origin)
        if outcome == WRITTEN and last is not None and _unsure(place, lost, reach):
            outcome = LOST
        changes.tally[outcome] += 1
        if outcome == WRITTEN and content is not None:
            asset, phase, start = place
            changes.rows.append(_row(Level.ASSET, asset, phase, start, roster.scope_at(asset, start), content, last, said))
    changes.rows += _beside(changes.rows, lasts, said)
    return changes


def _beside(written: list[QuarterHour], lasts: Mapping[Place, Last], said: Statement) -> list[QuarterHour]:
    """The last rows of the other phases of assets' quarters of which a phase's row was written, said again as they are.

    An asset metered by phases is told to partners as their sum, and who hears of one phase a day later no longer has the others. A
    backfill is told to nobody.
    """
    if said.origin is Origin.BACKFILL:
        return []
    there = {(row.id, row.phase.value, to_ms(row.start)) for row in written}
    found = {}
    for row in written:
        for phase in Phase if row.phase is not Phase.ALL else ():
            place = (row.id, phase.value, to_ms(row.start))
            if place not in there and (last := lasts.get(place)) is not None:
                found[place] = _row(Level.ASSET, *place, row.scope_id, last.content, last, said, again=True)
    return list(found.values())


def _outcome(content: Content | None, last: Last | None, origin: Origin) -> str:
    if content is None:
        return EMPTY  # missing is never zero, and what was known stays known
    if last is None:
        return WRITTEN
    if not differs(content, last.content):
        return SAME
    return OWN if origin is Origin.BACKFILL and last.origin is not Origin.BACKFILL else WRITTEN


def _unsure(place: Place, lost: set[Place], reach: int) -> bool:
    """Whether readings this quarter's energy came from may be gone: retention takes the oldest first."""
    asset, phase, start = place
    starts = range(start, start - reach - QUARTER_MS, -QUARTER_MS)
    return any((asset, phase, each) in lost for each in starts)


def group_changes(
    scope_id: str,
    span: Span,
    rows: Mapping[Place, Last],
    fresh: Container[Place],
    lasts: Mapping[Place, Last],
    said: Statement,
    site: Site,
) -> Changes:
    """The rows to write of the groups of a scope: those of quarters in which a member has a newer row than the group.

    `site` says who belonged to it in which of the quarters. `rows` are the members' last rows and of some time before, so that
    phases that are missed are known; `fresh` are those just written among them; `lasts` are the groups'. A group's row stays
    where it now had none.
    """
    changes, since = Changes(), _phases(rows)
    for start in range(*span, QUARTER_MS):
        groups = site.reporting(start)
        members = site.members(start) if groups else []
        awaited = [asset for asset in members if asset.connection_meter] or members
        there = [(asset.id, phase, start) for asset in awaited for phase in _of(rows, asset, start)]
        if not there:
            continue
        newest, changed = max(rows[place].at for place in there), any(place in fresh for place in there)
        for group in groups:
            last = lasts.get((group, Phase.ALL.value, start))
            if last is not None and last.at >= newest and not changed:
                continue
            content = _group_content(members, rows, since, start)
            outcome = _outcome(content, last, said.origin)
            if outcome == WRITTEN and content is not None:
                changes.tally[GROUPS] += 1
                changes.rows.append(_row(Level.GROUP, group, Phase.ALL.value, start, scope_id, content, last, said))
            elif outcome == OWN:
                changes.tally[OWN] += 1
    return changes


def _group_content(members: list[Member], rows: Mapping[Place, Last], since: Mapping[str, dict[str, int]], start: int) -> Content | None:
    phases = {asset.id: [phase for phase, first in since.get(asset.id, {}).items() if first <= start] for asset in members}
    known = {
        asset.id: {phase: {**last.content, "last_minute_w": None} for phase, last in found.items()}
        for asset in members
        if (found := _of(rows, asset, start))
    }
    content = group_content(members, known, phases)
    return None if content is None else {name: content[name] for name in (*NUMBERS, *OTHERS)}


def _of(rows: Mapping[Place, Last], asset: Member, start: int) -> dict[str, Last]:
    return {phase.value: last for phase in Phase if (last := rows.get((asset.id, phase.value, start))) is not None}


def _phases(places: Iterable[Place]) -> dict[str, dict[str, int]]:
    """The first quarter of each asset and phase that has a row: from then on the phase is missed where it has none."""
    found: dict[str, dict[str, int]] = {}
    for asset, phase, start in places:
        phases = found.setdefault(asset, {})
        phases[phase] = min(start, phases.get(phase, start))
    return found


def as_last(rows: Iterable[QuarterHour]) -> Iterator[tuple[Place, Last]]:
    """Rows just made, as the last ones of their places."""
    for row in rows:
        yield last_of(row.model_dump() | {"start": to_ms(row.start), "at": to_ms(row.at), "phase": row.phase.value})


def _row(
    level: Level,
    name: str,
    phase: str,
    start: int,
    scope_id: str | None,
    content: Content,
    last: Last | None,
    said: Statement,
    *,
    again: bool = False,
) -> QuarterHour:
    """The row that follows `last`; with `again`, that of the same revision."""
    revision = (0 if last is None else last.revision) + (not again)
    told = [f"{field}={content[field]}" for field in (*NUMBERS, *OTHERS)]
    return QuarterHour(
        event_id=derived_id("quarter-hour", level, name, phase, start, revision, said.origin, *told),
        at=said.now,
        cause_id=said.causes.get(name) if level is Level.ASSET else None,
        level=level,
        id=name,
        scope_id=scope_id,
        phase=Phase(phase),
        start=from_ms(start),
        revision=revision,
        origin=said.origin,
        **content,
    )
