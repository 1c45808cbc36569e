"""Units, phases, directions, instants on the wire, and the sign convention.

Import (+) / export (-): positive power is taken from the grid. Inside, powers are W and energies Wh
(float64, named `_w`, `_wh`); kW and kWh appear only at edges that speak them.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, PlainSerializer

W_PER_KW = 1000.0
SECONDS_PER_HOUR = 3600.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Phase(StrEnum):
    """Which conductor a value is for; ALL is the sum of the three."""

    ALL = "ALL"
    ONE = "ONE"
    TWO = "TWO"
    THREE = "THREE"


class Direction(StrEnum):
    """Which way energy flows: IMPORT is taken from the grid, EXPORT given to it."""

    IMPORT = "IMPORT"
    EXPORT = "EXPORT"


def to_ms(instant: datetime) -> int:
    """Milliseconds since 1970 UTC, floored."""
    return (instant - EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """The aware UTC datetime of milliseconds since 1970."""
    return EPOCH + ms * _MS


def whole_ms(instant: datetime) -> datetime:
    """The instant in UTC, floored to whole milliseconds (what topics and the wire carry).

    ValueError for one that is outside the years 1 to 9999 once it is in UTC.
    """
    if instant.tzinfo is UTC and not instant.microsecond % 1000:
        return instant  # nearly every one is so, and the rest costs five times as much
    try:
        utc = instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("the instant is outside the years 1 to 9999") from None
    rest_us = utc.microsecond % 1000
    return utc.replace(microsecond=utc.microsecond - rest_us) if rest_us else utc


def rfc3339(instant: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ`: exactly three digits, always Z (oscp-2.0 2.10: strict peers refuse others)."""
    return whole_ms(instant).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mean_w(energy_wh: float, duration: timedelta) -> float:
    """The mean power in W of `energy_wh` spread over `duration`."""
    return energy_wh * SECONDS_PER_HOUR / duration.total_seconds()


def energy_wh(power_w: float, duration: timedelta) -> float:
    """The energy in Wh of `power_w` held for `duration`."""
    return power_w * duration.total_seconds() / SECONDS_PER_HOUR


Instant = Annotated[
    AwareDatetime,
    AfterValidator(whole_ms),
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
]
"""An aware instant, kept in UTC and whole milliseconds."""
