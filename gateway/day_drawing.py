"""What the chart of a scope's calendar day shows, from local midnight to local midnight. Pure."""

from collections.abc import Iterator
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.chart_plane import Band, Bar, Drawing, Size
from gateway.chart_time import ambiguous, offset
from gateway.scope_day import DayQuarter, DayView, QuarterState
from gateway.scope_drawing import FULLY_MEASURED, limits_of
from schemas.capacity import PieceKind
from schemas.compliance import Breach, BreachState, VerdictKind
from schemas.intervals import QUARTER, QUARTER_S
from schemas.units import SECONDS_PER_HOUR, Direction, Instant

DAY_WIDE = Size(900, 316)
DAY_NARROW = Size(380, 280, left=36, right=10)
MEASURED = (QuarterState.CLOSED, QuarterState.UNCLOSED, QuarterState.RUNNING)


def mean_of(energy_wh: float | None) -> float | None:
    """A quarter hour's energy as mean power in W."""
    return None if energy_wh is None else energy_wh * SECONDS_PER_HOUR / QUARTER_S


def quarter_words(start: Instant, zone: ZoneInfo) -> str:
    """`02:15–02:30`, with the offset from UTC where that time comes twice: `02:15–02:30 (+01)`."""
    twice = ambiguous(start, zone)
    return say.quarter(start, zone) + (f" ({offset(start, zone)})" if twice else "")


def day_drawing(view: DayView, name: str, *, gives: bool) -> Drawing:
    """The day's chart. `gives` says that the scope can export: then that half is always drawn."""
    zone = ZoneInfo(view.time_zone)
    bars = [bar for quarter in view.quarters if (bar := _bar(quarter, zone)) is not None]
    over = sum("breached" in bar.look for bar in bars)
    words = (
        f"{say.plural(len(view.quarters), 'quarter hour')} of {say.day(view.start, zone)}, {len(bars)} of them measured, "
        f"{over} over the limit. The same figures stand in the table below."
    )
    return Drawing(
        ident="day",
        title=f"{name}, {say.day(view.start, zone)}: mean power of each quarter hour against its limit",
        words=words,
        zone=zone,
        start=view.start,
        end=view.end,
        now=view.now,
        bars=bars,
        steps=[limits_of(piece) for piece in view.pieces],
        missing=[quarter.start for quarter in view.quarters if quarter.state is QuarterState.MISSING],
        bands=[_band(breach, view, zone) for breach in view.breaches if breach.state is not BreachState.VOIDED],
        two_way=gives and any(piece.export_limit_w is not None for piece in view.pieces),
    )


def _bar(quarter: DayQuarter, zone: ZoneInfo) -> Bar | None:
    imported, exported = mean_of(quarter.imports.used_wh), mean_of(quarter.exports.used_wh)
    if quarter.state not in MEASURED or imported is None or exported is None:
        return None
    words = f"{quarter_words(quarter.start, zone)}: {say.kw(imported)}"
    if exported:
        words += f", exported {say.kw(exported)}"
    if quarter.state is QuarterState.RUNNING:
        projected = quarter.imports.projected_w, quarter.exports.projected_w
        risk = any(over(way.projected_w, mean_of(way.allowed_wh)) for way in (quarter.imports, quarter.exports))
        words += f" so far, {say.kw(projected[0])} projected"
        return Bar(quarter.start, imported, exported, "running risk" if risk else "running", words, *projected)
    if quarter.state is QuarterState.UNCLOSED:
        risk = any(over(way.used_wh, way.allowed_wh) for way in (quarter.imports, quarter.exports))
        return Bar(quarter.start, imported, exported, "unclosed risk" if risk else "unclosed", f"{words} so far, not closed yet")
    breached = [way.verdict is VerdictKind.BREACHED for way in (quarter.imports, quarter.exports)]
    allowed = mean_of(quarter.imports.allowed_wh if breached[0] else quarter.exports.allowed_wh)
    look = "breached" if any(breached) else "partial" if (quarter.coverage or 0.0) < FULLY_MEASURED else "measured"
    return Bar(quarter.start, imported, exported, look, f"{words}, over the limit of {say.kw(allowed)}" if any(breached) else words)


def over(value: float | None, bound: float | None) -> bool:
    """Whether a value is known to be above a bound that is known."""
    return value is not None and bound is not None and value > bound


def _band(breach: Breach, view: DayView, zone: ZoneInfo) -> Band:
    start, end = max(breach.first_quarter, view.start), min(breach.last_quarter + QUARTER, view.end)
    way, energy = breach.direction.value.lower(), say.kwh(breach.energy_over_wh)
    span = f"{say.clock_time(start, zone)}\u2013{say.clock_time(end, zone)}"
    words = f"{way} breach {span}: {say.plural(breach.quarters, 'quarter hour')}, {energy} over the limit"
    labels = (f"{way} breach {span}, {energy} over", f"breach, {energy} over", "breach")
    return Band(start, end, breach.direction is Direction.EXPORT, labels, words)


def legend_of(view: DayView, shown: Drawing) -> Iterator[str]:
    """What the legend has to explain: looks of bars, `missing`, `band`, `export`, and the kinds of limits as `limit-KIND`."""
    looks = {look for bar in shown.bars for look in bar.look.split()}
    exports = any(bar.export_w for bar in shown.bars)
    there = {
        "export": exports,
        **{look: look in looks for look in ("partial", "breached", "unclosed", "running")},
        "missing": bool(shown.missing),
        "band": bool(shown.bands),
        "no-export": not (exports or shown.two_way) and any(piece.export_limit_w is not None for piece in view.pieces),
    }
    yield from (kind for kind, is_there in there.items() if is_there)
    kinds = {piece.import_kind for piece in view.pieces if piece.import_limit_w is not None}
    kinds |= {piece.export_kind for piece in view.pieces if piece.export_limit_w is not None and (exports or shown.two_way)}
    yield from (f"limit-{kind.value.lower()}" for kind in PieceKind if kind in kinds)
