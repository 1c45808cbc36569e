"""Drawn charts: pure functions from plain figures to SVG text. Colours come from the stylesheet by class names only,
so that light and dark are one drawing and no style stands inside (the page's security policy forbids it).

Import is drawn upwards and export downwards, in kW of mean power over each quarter hour.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from markupsafe import Markup, escape

from gateway.chart_bands import band_words, bands
from gateway.chart_limits import labels, limits
from gateway.chart_plane import WIDE, Bar, Drawing, Plane, Size
from gateway.chart_time import time_axis
from gateway.svg import line, rect, text, ticks
from gateway.wording import clock_time
from schemas.intervals import QUARTER
from schemas.units import W_PER_KW


def scope_chart(drawing: Drawing, size: Size = WIDE) -> Markup:
    """A scope's quarters against its limits: bars, the running quarter's projection outlined, limits as stepped lines."""
    plane = Plane(drawing, size)
    ident = f"{drawing.ident}-{size.width}"
    parts = [
        f'<svg class="chart" viewBox="0 0 {size.width} {size.height}" role="img" aria-labelledby="{escape(ident)}-t {escape(ident)}-d">',
        f'<title id="{escape(ident)}-t">{escape(drawing.title)}</title><desc id="{escape(ident)}-d">{escape(drawing.words)}</desc>',
        *_grid(plane),
        *bands(plane, drawing),
        *time_axis(plane, drawing),
        *_missing(plane, drawing.missing),
        *_bars(plane, drawing.bars),
        *limits(plane, drawing),
        *_now(plane, drawing),
        *band_words(plane, drawing),
        *labels(plane, drawing),
        "</svg>",
    ]
    return Markup("".join(parts))  # noqa: S704 - every text in it went through escape


def _grid(plane: Plane) -> Iterator[str]:
    size = plane.size
    right = size.width - size.right
    for value in ticks(plane.low / W_PER_KW, plane.high / W_PER_KW):
        y = plane.y(value * W_PER_KW)
        yield line(size.left, y, right, y, "zero" if value == 0 else "grid")
        yield text(size.left - 7, y + 3.5, f"{abs(value):g}", "axis", "end")
    yield text(size.left - 7, size.top - 9, "kW", "axis unit", "end")


def _missing(plane: Plane, starts: Sequence[datetime]) -> Iterator[str]:
    """One ground for each run of quarters, so that no seams show."""
    height = plane.size.height - plane.size.top - plane.size.bottom
    known = set(starts)
    for first in sorted(start for start in known if start - QUARTER not in known):
        end = first + QUARTER
        while end in known:
            end += QUARTER
        x = plane.x(first)
        yield rect(x, plane.size.top, plane.x(end) - x, height, "missing", "<title>nothing measured</title>")


def _bars(plane: Plane, bars: Sequence[Bar]) -> Iterator[str]:
    zero = plane.y(0)
    for bar in bars:
        x, width = plane.bar(bar)
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


def _now(plane: Plane, drawing: Drawing) -> Iterator[str]:
    if not drawing.start <= drawing.now < drawing.end:
        return
    x, size = plane.x(drawing.now), plane.size
    yield line(x, size.top - 6, x, size.height - size.bottom, "now")
    anchor = "end" if x > size.width - size.right - 40 else "start" if x < size.left + 40 else "middle"
    yield text(x, size.top - 9, f"now {clock_time(drawing.now, drawing.zone)}", "now-label", anchor)
