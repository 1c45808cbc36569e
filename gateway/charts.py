"""Drawn charts: pure functions from plain figures to SVG text. Colours come from the stylesheet by class names only,
so that light and dark are one drawing and no style stands inside (the page's security policy forbids it).

Import is drawn upwards and export downwards, in kW of mean power over each quarter hour.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from gateway.svg import line, rect, text, ticks
from gateway.wording import clock_time, day, kw, local
from schemas.intervals import QUARTER, quarters
from schemas.units import W_PER_KW

HEADROOM = 1.12
LIMIT_IN_SIGHT = 3.0
"""A limit more than so many times above all else leaves the drawing; an arrow says where it is."""


@dataclass(frozen=True, slots=True)
class Size:
    """A drawing's size in its own units, and every how many hours the time axis has a label."""

    width: int
    height: int
    hours: int
    left: int = 44
    right: int = 14
    top: int = 22
    bottom: int = 36


WIDE = Size(900, 264, 2)
NARROW = Size(380, 240, 2, left=36, right=10)


@dataclass(frozen=True, slots=True)
class Bar:
    """One quarter hour. `look` is a class: measured, partial, breached, risk or running; `projected_w` for a running one."""

    start: datetime
    import_w: float
    export_w: float
    look: str
    words: str
    projected_import_w: float | None = None
    projected_export_w: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The limits of [start, end) in W; `kind` is a class: forecast, fallback, held, safe or operator."""

    start: datetime
    end: datetime
    import_w: float | None
    export_w: float | None
    kind: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """All a scope's chart shows over [start, end). `missing` are past quarters of which nothing was measured."""

    ident: str
    title: str
    words: str
    zone: ZoneInfo
    start: datetime
    end: datetime
    now: datetime
    bars: Sequence[Bar]
    steps: Sequence[Step]
    missing: Sequence[datetime] = ()


class _Plane:
    """Where values and instants lie in the drawing."""

    def __init__(self, drawing: Drawing, size: Size) -> None:
        self.size, self.start, self.end = size, drawing.start, drawing.end
        used = max([0.0, *(max(bar.import_w, bar.projected_import_w or 0.0) for bar in drawing.bars)])
        given = max([0.0, *(max(bar.export_w, bar.projected_export_w or 0.0) for bar in drawing.bars)])
        sight = max(used, given) * LIMIT_IN_SIGHT or math.inf
        up = [step.import_w for step in drawing.steps if step.import_w is not None and step.import_w <= sight]
        down = [step.export_w for step in drawing.steps if given and step.export_w is not None and step.export_w <= sight]
        self.low = -max([given, *down]) * HEADROOM
        self.high = max([used, *up]) * HEADROOM or (0.0 if self.low else 1000.0)

    def x(self, instant: datetime) -> float:
        """The abscissa of an instant, inside the plot."""
        inside = min(max(instant, self.start), self.end)
        width = self.size.width - self.size.left - self.size.right
        return self.size.left + width * ((inside - self.start) / (self.end - self.start))

    def y(self, power_w: float) -> float:
        """The ordinate of a power, inside the plot."""
        height = self.size.height - self.size.top - self.size.bottom
        inside = min(max(power_w, self.low), self.high)
        return self.size.top + height * (self.high - inside) / (self.high - self.low)


def scope_chart(drawing: Drawing, size: Size = WIDE) -> Markup:
    """A scope's quarters against its limits: bars, the running quarter's projection outlined, limits as stepped lines."""
    plane = _Plane(drawing, size)
    ident = f"{drawing.ident}-{size.width}"
    parts = [
        f'<svg class="chart" viewBox="0 0 {size.width} {size.height}" role="img" aria-labelledby="{escape(ident)}-t {escape(ident)}-d">',
        f'<title id="{escape(ident)}-t">{escape(drawing.title)}</title><desc id="{escape(ident)}-d">{escape(drawing.words)}</desc>',
        *_grid(plane, drawing),
        *(_missing(plane, start) for start in drawing.missing),
        *_bars(plane, drawing.bars),
        *_limits(plane, drawing),
        *_now(plane, drawing),
        "</svg>",
    ]
    return Markup("".join(parts))  # noqa: S704 - every text in it went through escape


def _grid(plane: _Plane, drawing: Drawing) -> Iterator[str]:
    size = plane.size
    right, floor = size.width - size.right, size.height - size.bottom
    for value in ticks(plane.low / W_PER_KW, plane.high / W_PER_KW):
        y = plane.y(value * W_PER_KW)
        yield line(size.left, y, right, y, "zero" if value == 0 else "grid")
        yield text(size.left - 7, y + 3.5, f"{abs(value):g}", "axis", "end")
    yield text(size.left - 7, size.top - 9, "kW", "axis unit", "end")
    for instant in quarters(drawing.start, drawing.end + QUARTER):
        here = local(instant, drawing.zone)
        if here.minute == 0 and here.hour % size.hours == 0 and instant <= drawing.end:
            x = plane.x(instant)
            yield line(x, floor, x, floor + 4, "tick")
            if size.left + 8 <= x <= right - 8 or size.width > 500:
                yield text(x, floor + 16, clock_time(instant, drawing.zone), "axis")
            if here.hour == 0:
                yield line(x, size.top, x, floor, "midnight")
                yield text(x, floor + 29, day(instant, drawing.zone), "axis day")


def _missing(plane: _Plane, start: datetime) -> str:
    x, width = plane.x(start), plane.x(start + QUARTER) - plane.x(start)
    height = plane.size.height - plane.size.top - plane.size.bottom
    return rect(x, plane.size.top, width, height, "missing", "<title>nothing measured</title>")


def _bars(plane: _Plane, bars: Sequence[Bar]) -> Iterator[str]:
    zero = plane.y(0)
    for bar in bars:
        x, width = plane.x(bar.start), plane.x(bar.start + QUARTER) - plane.x(bar.start)
        gap = min(width * 0.14, 1.6)
        x, width = x + gap / 2, width - gap
        yield f'<g class="bar {escape(bar.look)}"><title>{escape(bar.words)}</title>'
        for value, look in ((bar.import_w, "import"), (-bar.export_w, "export")):
            if value:
                y = plane.y(value)
                yield rect(x, min(y, zero), width, abs(zero - y), look)
        for projected, sign in ((bar.projected_import_w, 1.0), (bar.projected_export_w, -1.0)):
            if projected:
                y = plane.y(sign * projected)
                yield rect(x + 0.6, min(y, zero), width - 1.2, abs(zero - y), "projected")
        yield "</g>"


def _limits(plane: _Plane, drawing: Drawing) -> Iterator[str]:
    shown = [step for step in drawing.steps if step.end > drawing.start and step.start < drawing.end]
    for name, sign in (("import_w", 1.0), ("export_w", -1.0)):
        bound = plane.high if sign > 0 else -plane.low
        runs = [step for step in shown if getattr(step, name) is not None and bound > 0]
        previous: Step | None = None
        for step in runs:
            value = getattr(step, name)
            if value > bound:
                previous = None
                continue
            y = plane.y(sign * value)
            yield line(plane.x(step.start), y, plane.x(step.end), y, f"limit {escape(step.kind)}")
            if previous is not None and previous.end == step.start:
                x = plane.x(step.start)
                yield line(x, plane.y(sign * getattr(previous, name)), x, y, "limit riser")
            previous = step
        yield from _labels(plane, drawing, runs, name, sign)


def _labels(plane: _Plane, drawing: Drawing, runs: Sequence[Step], name: str, sign: float) -> Iterator[str]:
    """Values are named where their line begins, as far as there is room; the one in force now comes first."""
    bound = plane.high if sign > 0 else -plane.low
    edge = plane.size.width - plane.size.right
    taken: list[tuple[float, float, float]] = []
    changes = [step for index, step in enumerate(runs) if index == 0 or getattr(runs[index - 1], name) != getattr(step, name)]
    for step in sorted(changes, key=lambda step: not step.start <= drawing.now < step.end):
        value = getattr(step, name)
        out = value > bound
        words = f"limit {kw(value)}" + (" \u2191" if out and sign > 0 else " \u2193" if out else "")
        left, right = plane.x(step.start), plane.x(step.end)
        room = 6.2 * len(words)
        x = left + 5
        if step.start <= drawing.now < step.end and plane.x(drawing.now) + room + 10 < right:
            x = plane.x(drawing.now) + 8  # ahead of now there are no bars
        x = min(x, edge - room)
        y = plane.y(sign * min(value, bound))
        above = (sign > 0 and not out and y - 18 > plane.size.top) or y + 16 > plane.size.height - plane.size.bottom
        y += -6 if above else 13
        crowded = any(x < end + 6 and x + room > start - 6 and abs(y - other) < 13 for start, end, other in taken)
        if crowded or (right - left < 24 and not step.start <= drawing.now < step.end):
            continue
        taken.append((x, x + room, y))
        yield text(x, y, words, "limit-label", "start")


def _now(plane: _Plane, drawing: Drawing) -> Iterator[str]:
    if not drawing.start <= drawing.now < drawing.end:
        return
    x, size = plane.x(drawing.now), plane.size
    yield line(x, size.top - 6, x, size.height - size.bottom, "now")
    near_edge = x > size.width - size.right - 40
    yield text(x, size.top - 9, f"now {clock_time(drawing.now, drawing.zone)}", "now-label", "end" if near_edge else "middle")


def window(now: datetime, back: timedelta, ahead: timedelta) -> tuple[datetime, datetime]:
    """The span a live chart shows, on whole quarters."""
    start = next(quarters(now - back, now))
    return start, next(quarters(now + ahead, now + ahead + QUARTER))
