"""What a scope's chart shows: its quarters as bars, its limits as steps, over a span without empty beginnings. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.chart_plane import Bar, Drawing, Step, fitted, window
from gateway.outlook import Outlook, used_w
from schemas.capacity import EnvelopePiece
from schemas.compliance import VerdictKind
from schemas.intervals import quarter_of, quarters
from schemas.telemetry import QuarterHour
from schemas.units import Direction

WIDE_SPAN = (timedelta(hours=11), timedelta(hours=5))
NARROW_SPAN = (timedelta(hours=5), timedelta(hours=2, minutes=30))
"""How far before and after now a chart shows at most."""
LEAST_SPAN = timedelta(hours=6)
"""A chart is never shorter, so that its bars do not swell where little is known yet."""
FULLY_MEASURED = 0.995
EXPLAINED = ("partial", "breached", "unclosed")


def drawing(outlook: Outlook, zone: ZoneInfo, bars: Sequence[Bar], span: tuple[timedelta, timedelta]) -> Drawing:
    """The scope's chart over at most `span` before and after now."""
    start, end = window(outlook.now, *span)
    steps = [limits_of(piece) for piece in (outlook.line.whole() if outlook.line else ()) if piece.end > start and piece.start < end]
    start, end = fitted(start, end, _first(start, end, bars, steps), zone, LEAST_SPAN)
    shown = [bar for bar in bars if start <= bar.start < end]
    measured = {bar.start for bar in shown}
    missing = [at for at in quarters(start, quarter_of(outlook.now)) if measured and at not in measured and at > min(measured)]
    over = sum(bar.look == "breached" for bar in shown)
    words = (
        f"{say.plural(len(shown), 'quarter hour')} from {say.clock_time(start, zone)} to {say.clock_time(end, zone)}, "
        f"{over} of them over the limit. The same figures stand in the table below."
    )
    title = f"{outlook.scope.name or outlook.scope.id}: mean power of each quarter hour against its limit"
    return Drawing(f"chart-{outlook.scope.id}", title, words, zone, start, end, outlook.now, shown, steps, missing)


def limits_of(piece: EnvelopePiece) -> Step:
    """A piece of an envelope as it is drawn."""
    kinds = piece.import_kind.value.lower(), piece.export_kind.value.lower()
    return Step(piece.start, piece.end, piece.import_limit_w, piece.export_limit_w, *kinds)


def _first(start: datetime, end: datetime, bars: Sequence[Bar], steps: Sequence[Step]) -> datetime | None:
    """The first instant in [start, end) at which something was measured or a limit is known."""
    limited = [step for step in steps if step.import_w is not None or step.export_w is not None]
    found = [bar.start for bar in bars if start <= bar.start < end]
    found += [max(step.start, start) for step in limited if step.start < end and step.end > start]
    return min(found, default=None)


def chart_bars(outlook: Outlook, zone: ZoneInfo) -> list[Bar]:
    """All known quarters as bars: the closed ones, those that wait for their final row, and the running one."""
    bars = [
        Bar(start, used_w(row, Direction.IMPORT), used_w(row, Direction.EXPORT), _look(outlook, row), _bar_words(row, zone))
        for start, row in sorted(outlook.rows.items())
    ]
    bars += [_unclosed(outlook, row, zone) for row in outlook.unclosed]
    running = outlook.running
    if running is not None:
        ends = [outlook.standing(direction) for direction in (Direction.IMPORT, Direction.EXPORT)]
        look = "running risk" if any(end.over for end in ends) else "running"
        words = f"{_bar_words(running, zone)} so far, {say.kw(ends[0].projected_w)} projected"
        so_far = [end.so_far_w or 0.0 for end in ends]
        bars.append(Bar(running.start, so_far[0], so_far[1], look, words, ends[0].projected_w, ends[1].projected_w))
    return bars


def kinds_of(shown: Drawing) -> tuple[str, ...]:
    """What the legend has to explain."""
    looks = {look for bar in shown.bars for look in bar.look.split()}
    exports = any(bar.export_w for bar in shown.bars)
    found = {**{look: look in looks for look in EXPLAINED}, "missing": bool(shown.missing), "export": exports}
    return tuple(kind for kind, there in found.items() if there)


def _unclosed(outlook: Outlook, row: QuarterHour, zone: ZoneInfo) -> Bar:
    over = any(outlook.standing_of(row, direction).over_already for direction in Direction)
    words = f"{_bar_words(row, zone)} so far, not closed yet"
    return Bar(row.start, used_w(row, Direction.IMPORT), used_w(row, Direction.EXPORT), "unclosed risk" if over else "unclosed", words)


def _look(outlook: Outlook, row: QuarterHour) -> str:
    verdicts = [outlook.verdict(row.start, direction) for direction in Direction]
    if any(verdict is not None and verdict.verdict is VerdictKind.BREACHED for verdict in verdicts):
        return "breached"
    return "partial" if row.coverage < FULLY_MEASURED else "measured"


def _bar_words(row: QuarterHour, zone: ZoneInfo) -> str:
    sent = f", exported {say.kw(used_w(row, Direction.EXPORT))}" if row.export_wh else ""
    return f"{say.quarter(row.start, zone)}: {say.kw(used_w(row, Direction.IMPORT))}{sent}"
