"""Figures and times as people read them: kW and kWh, local time with its zone. Pure."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.intervals import QUARTER
from schemas.units import W_PER_KW

NOT_KNOWN = "not known"


def _decimals(value: float) -> int:
    size = abs(value)
    return 2 if size < 10 else 1 if size < 100 else 0


def number(value: float) -> str:
    """Three digits or so, with a real minus sign and thin spaces between thousands."""
    text = f"{value:,.{_decimals(value)}f}".replace(",", "\u2009")
    return text.replace("-", "\u2212") if float(f"{value:.2f}") else text.replace("-", "")


def count(value: float) -> str:
    """`1 250`, `3.4`: how many, or how many a second."""
    return (f"{value:.1f}" if value < 10 and value != int(value) else f"{value:,.0f}").replace(",", "\u2009")


def kw(power_w: float | None) -> str:
    """`1.79 kW`."""
    return NOT_KNOWN if power_w is None else f"{number(power_w / W_PER_KW)}\u00a0kW"


def kwh(energy_wh: float | None) -> str:
    """`0.45 kWh`."""
    return NOT_KNOWN if energy_wh is None else f"{energy_wh / W_PER_KW:,.3f}\u00a0kWh".replace(",", "\u2009")


def percent(share: float) -> str:
    """`87 %`; never 100 unless it is all, never 0 unless it is nothing."""
    whole = round(share * 100)
    whole = min(whole, 99) if share < 1 else whole
    return f"{max(whole, 1) if share > 0 else 0}\u00a0%"


def local(instant: datetime, zone: ZoneInfo) -> datetime:
    """The instant in the zone; one that the calendar does not reach there (`9999-12-31`, "until further notice") stays as it is."""
    try:
        return instant.astimezone(zone)
    except OverflowError:
        return instant


def zone_name(instant: datetime, zone: ZoneInfo) -> str:
    """`CEST`, or `UTC+03` where the zone has no letters."""
    name = local(instant, zone).tzname() or ""
    return f"UTC{name}" if name[:1] in "+-" else name


def clock_time(instant: datetime, zone: ZoneInfo) -> str:
    """`14:15`."""
    return f"{local(instant, zone):%H:%M}"


def comes_twice(instant: datetime, zone: ZoneInfo) -> bool:
    """Whether its local time is there twice: clocks go back over it."""
    here = local(instant, zone)
    return here.replace(fold=0).utcoffset() != here.replace(fold=1).utcoffset()


def exact_time(instant: datetime, zone: ZoneInfo) -> str:
    """`14:15`, with the zone's letters where that could be two instants."""
    letters = f"\u00a0{zone_name(instant, zone)}" if comes_twice(instant, zone) else ""
    return clock_time(instant, zone) + letters


def quarter(start: datetime, zone: ZoneInfo) -> str:
    """`14:15–14:30`, the quarter hour that begins at `start`."""
    return f"{clock_time(start, zone)}\u2013{clock_time(start + QUARTER, zone)}"


def day(instant: datetime, zone: ZoneInfo) -> str:
    """`Sat 9 Jun`."""
    found = local(instant, zone)
    return f"{found:%a} {found.day} {found:%b}"


def moment(instant: datetime, zone: ZoneInfo, now: datetime) -> str:
    """`14:15:09` today, else with the day before it."""
    time = f"{local(instant, zone):%H:%M:%S}"
    return time if local(instant, zone).date() == local(now, zone).date() else f"{day(instant, zone)} {time}"


def full(instant: datetime, zone: ZoneInfo) -> str:
    """`Sat 9 Jun 2007, 14:15:09 CEST`."""
    found = local(instant, zone)
    return f"{found:%a} {found.day} {found:%b %Y}, {found:%H:%M:%S} {zone_name(instant, zone)}"


def length(duration: timedelta) -> str:
    """`40 s`, `5 min`, `2 h 10 min`, `3 d`."""
    seconds = int(duration.total_seconds())
    if seconds < 60:
        return f"{seconds}\u00a0s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes}\u00a0min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}\u00a0h {minutes}\u00a0min" if minutes else f"{hours}\u00a0h"
    return f"{hours // 24}\u00a0d"


def delay(seconds: float) -> str:
    """`62 s`, `15 min`, `4 h 37 min`: how far something is behind; with plain spaces, since programs pass it on."""
    return f"{seconds:.0f} s" if seconds < 600 else length(timedelta(seconds=seconds)).replace("\u00a0", " ")


def ago(instant: datetime, now: datetime) -> str:
    """`5 min ago`, `in 5 min`, `now`."""
    distance = now - instant
    if abs(distance) < timedelta(seconds=1):
        return "now"
    return f"{length(distance)} ago" if distance > timedelta(0) else f"in {length(-distance)}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 breach`, `2 breaches`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
