"""The time axis of a chart: local hours, midnights, and where the clocks change. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.chart_plane import Drawing, Plane
from gateway.svg import line, text
from gateway.wording import clock_time, day, local
from schemas.intervals import QUARTER, quarters

LABEL_ROOM = 80
"""How much of its width a drawing gives to each label of the time axis at least, as long as the clocks do not change."""
LABEL = 32
"""How wide an hour is written."""
DATE, OFFSET = 62, 40
"""How wide a date and an offset are written."""
_HOUR = timedelta(hours=1)


def time_axis(plane: Plane, drawing: Drawing) -> Iterator[str]:
    """Ticks at full hours with their local time, dates at midnights, and both offsets from UTC where the clocks change.

    An hour that comes twice is written twice, and each hour of local time that does not exist not at all.
    """
    size, zone = plane.size, drawing.zone
    right, floor = size.width - size.right, size.height - size.bottom
    hours = [at for at in quarters(drawing.start, drawing.end + QUARTER) if at <= drawing.end and local(at, zone).minute == 0]
    hour = (right - size.left) * (_HOUR / (drawing.end - drawing.start))
    wanted = [at for at in hours if local(at, zone).hour % _every(hour) == 0]
    twice = [at for at in hours if ambiguous(at, zone)] if hour >= LABEL else []
    written = set(_apart(plane, twice, wanted))
    shifts = changes(drawing.start, drawing.end, zone)
    for at in hours:
        x, here = plane.x(at), local(at, zone)
        if at in written or at in wanted:
            yield line(x, floor, x, floor + 4, "tick")
        if at in written and (size.left + 8 <= x <= right - 8 or size.width > 500):
            yield text(x, floor + 16, clock_time(at, zone), "axis")
        if here.hour == 0 and not (here.fold and ambiguous(at, zone)):
            yield line(x, size.top, x, floor, "midnight")
            whole_day = drawing.end - drawing.start > 20 * _HOUR
            if not (whole_day and (at == drawing.end or any(abs(plane.x(shift) - x) < DATE + OFFSET for shift in shifts))):
                yield text(x, floor + 29, day(at, zone), "axis day", "middle" if x > size.left + LABEL else "start")
    for at in shifts:
        x = plane.x(at)
        yield line(x, size.top, x, floor, "clocks")
        yield line(x, floor + 20, x, floor + 31, "clocks")
        yield text(x - 3, floor + 29, offset(at - timedelta(seconds=1), zone), "axis offset", "end")
        yield text(x + 3, floor + 29, offset(at, zone), "axis offset", "start")


def _every(hour: float) -> int:
    return next((hours for hours in (1, 2, 3, 6) if hours * hour >= LABEL_ROOM), 12)


def _apart(plane: Plane, first: list[datetime], others: list[datetime]) -> Iterator[datetime]:
    """Of the hours those that can be written without touching, `first` before `others`."""
    taken: list[float] = []
    for at in [*first, *others]:
        x = plane.x(at)
        if all(abs(x - known) >= LABEL for known in taken):
            taken.append(x)
            yield at


def ambiguous(instant: datetime, zone: ZoneInfo) -> bool:
    """Whether the instant's local time comes twice, since the clocks are put back around it."""
    here = local(instant, zone)
    return here.utcoffset() != here.replace(fold=1 - here.fold).utcoffset()


def changes(start: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    """The instants in (start, end) at which the zone's offset from UTC changes, to the quarter hour."""
    found, before = [], local(start, zone).utcoffset()
    for at in quarters(start, end):
        now = local(at, zone).utcoffset()
        if now != before and at > start:
            found.append(at)
        before = now
    return found


def offset(instant: datetime, zone: ZoneInfo) -> str:
    """`+02`, `+10:30`, `−03`: how far local time is from UTC then."""
    minutes = int((local(instant, zone).utcoffset() or timedelta(0)) / timedelta(minutes=1))
    hours, rest = divmod(abs(minutes), 60)
    return ("\u2212" if minutes < 0 else "+") + f"{hours:02}" + (f":{rest:02}" if rest else "")
