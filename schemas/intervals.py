"""Quarter hours and half-open intervals (semantics 1: a quarter is [start, start + 900 s), UTC, named by its start)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.units import from_ms, to_ms

QUARTER = timedelta(seconds=900)
QUARTER_S = 900
QUARTER_MS = 900_000
MINUTES_PER_QUARTER = 15


def quarter_of(instant: datetime) -> datetime:
    """The start of the quarter hour that holds `instant`."""
    return from_ms(to_ms(instant) // QUARTER_MS * QUARTER_MS)


def next_quarter(instant: datetime) -> datetime:
    """The first quarter start at or after `instant`."""
    return from_ms(-(-to_ms(instant) // QUARTER_MS) * QUARTER_MS)


def quarters(start: datetime, end: datetime) -> Iterator[datetime]:
    """The starts of the quarter hours that begin in [start, end)."""
    at = next_quarter(start)
    while at < end:
        yield at
        at += QUARTER


def local_day(day: datetime, time_zone: str) -> tuple[datetime, datetime]:
    """The UTC bounds of the local calendar day that holds `day` in `time_zone`.

    Such a day is 92, 96 or 100 quarters long, in zones that shift by half an hour 94 or 98 (semantics 2).
    """
    zone = ZoneInfo(time_zone)
    midnight = day.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    following = (midnight + timedelta(days=1)).replace(fold=0)
    return midnight.astimezone(UTC), following.astimezone(UTC)


def overlap(start: datetime, end: datetime, other_start: datetime, other_end: datetime) -> timedelta:
    """How long the two half-open intervals coincide; zero if they do not."""
    return max(min(end, other_end) - max(start, other_start), timedelta(0))
