"""The pieces drawings are made of: SVG text, escaped, with classes for looks. Pure."""

import math

from markupsafe import Markup, escape


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values from `low` to `high`, about `wanted` of them."""
    span = max(high - low, 1e-9)
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    """A line of class `look`."""
    return f'<line class="{look}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, look: str, anchor: str = "middle") -> str:
    """Words of class `look`, escaped."""
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, look: str, inside: str = "") -> str:
    """A rectangle of class `look`; `inside` is markup already."""
    return f'<rect class="{look}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.4):.1f}" height="{max(height, 0.0):.1f}">{inside}</rect>'


def gauge(value_w: float | None, bound_w: float, words: str, look: str = "") -> Markup:
    """A level bar of `value_w` out of `bound_w`; empty where the value is not known."""
    share = 0.0 if value_w is None or bound_w <= 0 else min(max(value_w / bound_w, 0.0), 1.0)
    return Markup(  # noqa: S704 - escaped
        f'<svg class="gauge {escape(look)}" viewBox="0 0 200 8" preserveAspectRatio="none" role="img" aria-label="{escape(words)}">'
        f'<rect class="track" width="200" height="8"/><rect class="fill" width="{200 * share:.1f}" height="8"/></svg>'
    )
