"""A scope's calendar day: its quarters, limits, verdicts and breaches from local midnight to local midnight (semantics 2, 3.3, 5).

The facts may come from the live picture, from the history, or from both; what is made of them is the same. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

from gateway.outlook import Outlook, Standing, limit_of, used_wh
from schemas.capacity import EnvelopePiece, PieceKind
from schemas.compliance import Breach, Verdict, VerdictKind
from schemas.connection import Event, SubjectKind
from schemas.intervals import QUARTER, local_day, overlap, quarter_of, quarters
from schemas.telemetry import QuarterHour
from schemas.units import SECONDS_PER_HOUR, Direction, Instant, Phase

FIRST_DAY, LAST_DAY = date(1971, 1, 1), date(2199, 12, 31)
"""Days outside have no page: instants there cannot be written everywhere they would have to be."""

Verdicts = Mapping[tuple[datetime, Direction], Verdict]


class QuarterState(StrEnum):
    """How far a quarter hour has come: its final row is there; it has ended and has a provisional one; it runs; it has ended and
    nothing was measured; it has not begun."""

    CLOSED = "CLOSED"
    UNCLOSED = "UNCLOSED"
    RUNNING = "RUNNING"
    MISSING = "MISSING"
    AHEAD = "AHEAD"


@dataclass(frozen=True, slots=True)
class DayWay:
    """One direction of a quarter hour, energies in Wh, null where not known. `kinds` are why its limits hold (or held), in order
    of time; `forecasts` the causes of those limits; `projected_w` what a running quarter would end at, in W of mean power."""

    used_wh: float | None
    allowed_wh: float | None
    verdict: VerdictKind | None
    reason: str
    at_risk: bool
    projected_w: float | None
    kinds: tuple[PieceKind, ...]
    forecasts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DayQuarter:
    """One quarter hour of the day. `coverage` (0..1) and `revision` are those of its row, null without one."""

    start: Instant
    state: QuarterState
    imports: DayWay
    exports: DayWay
    coverage: float | None
    revision: int | None
    estimated: bool


@dataclass(frozen=True, slots=True)
class PhaseQuarter:
    """How a single conductor was judged in one quarter hour and direction; energies in Wh."""

    start: Instant
    phase: Phase
    direction: Direction
    verdict: VerdictKind
    used_wh: float
    allowed_wh: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class DayView:
    """A scope's calendar day `date` in its own `time_zone`: [start, end) in UTC, which is 92 to 100 quarter hours long, or nothing
    where the zone skipped that date.

    `pieces` are the limits of the whole connection (phase ALL) in W, cut to the day; `phases` the single conductors' verdicts.
    `import_wh` and `export_wh` are the sums over the `closed` quarters. `note` says in words what may be lacking here, if anything.
    """

    scope_id: str
    group_id: str | None
    time_zone: str
    date: date
    start: Instant
    end: Instant
    now: Instant
    quarters: tuple[DayQuarter, ...]
    pieces: tuple[EnvelopePiece, ...]
    phases: tuple[PhaseQuarter, ...]
    breaches: tuple[Breach, ...]
    closed: int
    import_wh: float
    export_wh: float
    note: str


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What is known about a day: final and provisional rows by start, verdicts, limits of all phases, breaches, events (any order)."""

    rows: Mapping[datetime, QuarterHour] = field(default_factory=dict)
    provisional: Mapping[datetime, QuarterHour] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=dict)
    phase_verdicts: Sequence[Verdict] = ()
    pieces: Sequence[EnvelopePiece] = ()
    breaches: Sequence[Breach] = ()
    events: Sequence[Event] = ()


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The UTC bounds of a local date. Both are the same where the zone skipped it. ValueError outside FIRST_DAY to LAST_DAY."""
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"write a day from {FIRST_DAY} to {LAST_DAY}")
    return local_day(datetime.combine(day, time(12), zone), zone.key)


def live_facts(outlook: Outlook, start: datetime, end: datetime) -> DayFacts:
    """What the live picture holds of [start, end)."""
    about = [outlook.verdict(quarter, direction) for quarter in quarters(start, end) for direction in Direction]
    judged = [verdict for verdict in about if verdict is not None and verdict.phase is Phase.ALL]
    subjects = {(SubjectKind.SCOPE, outlook.scope.id), (SubjectKind.CIRCUIT, outlook.scope.circuit_id)}
    return DayFacts(
        rows={at: row for at, row in outlook.rows.items() if start <= at < end},
        provisional={at: row for at, row in outlook.provisional.items() if start <= at < end},
        verdicts={(verdict.quarter, verdict.direction): verdict for verdict in judged},
        phase_verdicts=[verdict for verdict in outlook.phase_verdicts if start <= verdict.quarter < end],
        pieces=[piece for piece in (outlook.line.pieces if outlook.line else ()) if piece.end > start and piece.start < end],
        breaches=[breach for breach in outlook.breaches if touches(breach, start, end)],
        events=[each for each in outlook.picture.events if start <= each.at < end and (each.subject_kind, each.subject_id) in subjects],
    )


def touches(breach: Breach, start: datetime, end: datetime) -> bool:
    """Whether a breach has a quarter in [start, end)."""
    return breach.first_quarter < end and breach.last_quarter + QUARTER > start


def both(live: DayFacts, stored: DayFacts) -> DayFacts:
    """The live picture's facts completed by the history's: the higher revision wins, limits of the picture hold from its first piece on."""
    since = min((piece.start for piece in live.pieces), default=None)
    older = [piece for piece in stored.pieces if since is None or piece.start < since]
    if since is not None:
        older = [piece.model_copy(update={"end": min(piece.end, since)}) for piece in older]
    rows, verdicts = dict(stored.rows), dict(stored.verdicts)
    rows |= {at: row for at, row in live.rows.items() if at not in rows or row.revision >= rows[at].revision}
    verdicts |= {about: one for about, one in live.verdicts.items() if about not in verdicts or one.revision >= verdicts[about].revision}
    conductors = {(one.quarter, one.direction, one.phase): one for one in [*stored.phase_verdicts, *live.phase_verdicts]}
    breaches = newest_of([*stored.breaches, *live.breaches])
    events = {each.event_id: each for each in [*stored.events, *live.events]}
    return DayFacts(rows, live.provisional, verdicts, tuple(conductors.values()), [*older, *live.pieces], breaches, tuple(events.values()))


def newest_of(breaches: Iterable[Breach]) -> list[Breach]:
    """Each breach once, by its highest revision."""
    found: dict[str, Breach] = {}
    for breach in breaches:
        known = found.get(breach.breach_id)
        if known is None or breach.revision >= known.revision:
            found[breach.breach_id] = breach
    return list(found.values())


def day_view(outlook: Outlook, day: date, facts: DayFacts, note: str = "") -> DayView:
    """The day as the page and the API show it. ValueError as `day_bounds`."""
    start, end = day_bounds(day, ZoneInfo(outlook.scope.time_zone))
    whole = [
        piece.model_copy(update={"start": max(piece.start, start), "end": min(piece.end, end)})
        for piece in sorted(facts.pieces, key=lambda piece: piece.start)
        if piece.phase is Phase.ALL and piece.start < end and piece.end > start
    ]
    found = tuple(_quarter(outlook, facts, whole, at) for at in quarters(start, end))
    closed = [facts.rows[quarter.start] for quarter in found if quarter.state is QuarterState.CLOSED]
    conductors = sorted(facts.phase_verdicts, key=lambda one: (one.quarter, one.phase, one.direction))
    return DayView(
        scope_id=outlook.scope.id,
        group_id=outlook.group_id,
        time_zone=outlook.scope.time_zone,
        date=day,
        start=start,
        end=end,
        now=outlook.now,
        quarters=found,
        pieces=tuple(whole),
        phases=tuple(_conductor(one) for one in conductors if start <= one.quarter < end and not one.at_risk),
        breaches=tuple(sorted(facts.breaches, key=lambda breach: (breach.first_quarter, breach.direction, breach.breach_id))),
        closed=len(closed),
        import_wh=sum(row.import_wh for row in closed),
        export_wh=sum(row.export_wh for row in closed),
        note=note,
    )


def _quarter(outlook: Outlook, facts: DayFacts, pieces: Sequence[EnvelopePiece], start: datetime) -> DayQuarter:
    running = quarter_of(outlook.now)
    row = facts.rows.get(start) or (facts.provisional.get(start) if start <= running else None)
    if row is not None and not row.provisional:
        state = QuarterState.CLOSED
    elif start >= running:
        state = QuarterState.RUNNING if start == running else QuarterState.AHEAD
    else:
        state = QuarterState.MISSING if row is None else QuarterState.UNCLOSED
    ways = []
    for direction in (Direction.IMPORT, Direction.EXPORT):
        standing = outlook.standing_of(row, direction) if row is not None and row.provisional else None
        ways.append(_way(pieces, start, direction, row, facts.verdicts.get((start, direction)), standing))
    return DayQuarter(
        start=start.astimezone(UTC),
        state=state,
        imports=ways[0],
        exports=ways[1],
        coverage=None if row is None else row.coverage,
        revision=None if row is None or row.provisional else row.revision,
        estimated=row is not None and row.estimated,
    )


def _way(
    pieces: Sequence[EnvelopePiece],
    start: datetime,
    direction: Direction,
    row: QuarterHour | None,
    verdict: Verdict | None,
    standing: Standing | None,
) -> DayWay:
    here = [piece for piece in pieces if piece.start < start + QUARTER and piece.end > start]
    limited = [(limit, piece) for piece in here if (limit := limit_of(piece, direction)) is not None]
    shares = [(limit, overlap(start, start + QUARTER, piece.start, piece.end).total_seconds()) for limit, piece in limited]
    known = sum(seconds for _, seconds in shares) >= QUARTER.total_seconds()
    allowed = sum(limit * seconds for limit, seconds in shares) / SECONDS_PER_HOUR if known else None
    judged = verdict if verdict is not None and not verdict.at_risk else None
    imports = direction is Direction.IMPORT
    causes = [piece.import_cause if imports else piece.export_cause for _, piece in limited]
    kinds = [piece.import_kind if imports else piece.export_kind for piece in here]
    forecasts = judged.forecasts if judged is not None else [cause for cause in causes if cause]
    return DayWay(
        used_wh=None if row is None else used_wh(row, direction),
        allowed_wh=judged.allowed_wh if judged is not None and judged.allowed_wh is not None else allowed,
        verdict=None if judged is None else judged.verdict,
        reason="" if judged is None else judged.reason,
        at_risk=verdict is not None and verdict.at_risk if judged is None else False,
        projected_w=None if standing is None else standing.projected_w,
        kinds=tuple(dict.fromkeys(kinds)),
        forecasts=tuple(dict.fromkeys(forecasts)),
    )


def _conductor(verdict: Verdict) -> PhaseQuarter:
    return PhaseQuarter(
        verdict.quarter, verdict.phase, verdict.direction, verdict.verdict, verdict.used_wh, verdict.allowed_wh, verdict.reason
    )
