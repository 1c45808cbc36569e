"""What a chart shows, as plain figures, and where values and instants lie in it. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.wording import local
from schemas.intervals import QUARTER, quarters

HEADROOM = 1.12
LIMIT_IN_SIGHT = 3.0
"""A limit more than so many times above all else leaves the drawing; an arrow says where it is."""
LETTER = 5.6
"""How wide a letter of a label is, about."""
WORDS = 1000.0
"""How bad it is for a label to lie over other words."""


@dataclass(frozen=True, slots=True)
class Size:
    """A drawing's size in its own units, and the margins around the plot."""

    width: int
    height: int
    left: int = 44
    right: int = 14
    top: int = 22
    bottom: int = 36


WIDE = Size(900, 264)
NARROW = Size(380, 240, left=36, right=10)


@dataclass(frozen=True, slots=True)
class Box:
    """Room that something takes, from its upper left to its lower right, and how bad it is to cover it."""

    left: float
    top: float
    right: float
    bottom: float
    cost: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share room."""
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


@dataclass(frozen=True, slots=True)
class Bar:
    """One quarter hour. `look` is a class: measured, partial, breached, unclosed, running or risk; projected values for a running one."""

    start: datetime
    import_w: float
    export_w: float
    look: str
    words: str
    projected_import_w: float | None = None
    projected_export_w: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The limits of [start, end) in W; `kind` is a class: forecast, fallback, held, safe, operator or rated. `export_kind` is that
    of the export limit, where it is another; `name` is what the drawing calls the values."""

    start: datetime
    end: datetime
    import_w: float | None
    export_w: float | None
    kind: str
    export_kind: str = ""
    name: str = "limit"


@dataclass(frozen=True, slots=True)
class Band:
    """A breach: quarters [start, end) in one direction. `label` are the ways to say it in the drawing, the longest first; `words` say
    it whole."""

    start: datetime
    end: datetime
    exports: bool
    label: Sequence[str]
    words: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """All a scope's chart shows over [start, end). `missing` are past quarters of which nothing was measured. Export has its half
    where something was exported, or always with `two_way`."""

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
    bands: Sequence[Band] = ()
    two_way: bool = False


class Plane:
    """Where values and instants lie in the drawing."""

    def __init__(self, drawing: Drawing, size: Size) -> None:
        self.size, self.start, self.end = size, drawing.start, drawing.end
        used = max([0.0, *(max(bar.import_w, bar.projected_import_w or 0.0) for bar in drawing.bars)])
        given = max([0.0, *(max(bar.export_w, bar.projected_export_w or 0.0) for bar in drawing.bars)])
        sight = max(used, given) * LIMIT_IN_SIGHT or math.inf
        up = [step.import_w for step in drawing.steps if step.import_w is not None and step.import_w <= sight]
        below = given or drawing.two_way
        down = [step.export_w for step in drawing.steps if below and step.export_w is not None and step.export_w <= sight]
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

    def bar(self, bar: Bar) -> tuple[float, float]:
        """Abscissa and width of a bar, with a little air beside it."""
        x, width = self.x(bar.start), self.x(bar.start + QUARTER) - self.x(bar.start)
        gap = min(width * 0.14, 1.6)
        return x + gap / 2, width - gap


def window(now: datetime, back: timedelta, ahead: timedelta) -> tuple[datetime, datetime]:
    """The span a live chart shows, on whole quarters."""
    start = next(quarters(now - back, now))
    return start, next(quarters(now + ahead, now + ahead + QUARTER))


def fitted(start: datetime, end: datetime, first: datetime | None, zone: ZoneInfo, least: timedelta) -> tuple[datetime, datetime]:
    """The span [start, end) without what is empty at its beginning: from the local hour of `first`, the first instant
    there is something to draw at, but never shorter than `least`."""
    if first is None:
        return start, end
    here = local(first, zone)
    hour = first - timedelta(minutes=here.minute, seconds=here.second, microseconds=here.microsecond)
    return max(start, min(hour, end - least)), end
