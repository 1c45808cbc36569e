"""What is out there: circuits, scopes, assets, and the groups bound to them (contract 3)."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, field_validator

from schemas.units import Instant

Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]+$")]


def iso_duration(duration: timedelta) -> str:
    """`PT120S`, `P7D` and the like, exact to the microsecond: how settings and the configuration write durations."""
    if duration < timedelta(0):
        return "-" + iso_duration(-duration)
    if duration and duration % timedelta(days=1) == timedelta(0):
        return f"P{duration.days}D"
    seconds, microseconds = divmod(duration // timedelta(microseconds=1), 1_000_000)
    fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
    return f"PT{seconds}{fraction}S"


Duration = Annotated[timedelta, PlainSerializer(iso_duration, return_type=str, when_used="json")]
"""A duration; written as ISO 8601 (`PT120S`), read in any of its forms (`PT2M`)."""


LONGEST = timedelta(days=3660)
"""No wait and no memory is longer: an instant that far from any other is still one that can be written."""
MOST_KW, MOST_V = 1e9, 1e6


def _not_for_ever(duration: timedelta) -> timedelta:
    if duration > LONGEST:
        raise ValueError(f"must be at most {iso_duration(LONGEST)} ({iso_duration(duration)})")
    return duration


def _not_negative(duration: timedelta) -> timedelta:
    if duration < timedelta(0):
        raise ValueError(f"must not be negative ({iso_duration(duration)}); write PT0S or longer")
    return duration


def _positive(duration: timedelta) -> timedelta:
    if duration <= timedelta(0):
        raise ValueError(f"must be longer than nothing ({iso_duration(duration)}); write a duration such as PT1M")
    return duration


Wait = Annotated[Duration, AfterValidator(_not_negative), AfterValidator(_not_for_ever)]
"""A duration that may be nothing, but not less."""

Span = Annotated[Duration, AfterValidator(_positive), AfterValidator(_not_for_ever)]
"""A duration that must be more than nothing."""


class Item(BaseModel):
    """A part of the configuration; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Category(StrEnum):
    """OSCP's categories of assets."""

    CHARGING = "CHARGING"
    CONSUMPTION = "CONSUMPTION"
    GENERATION = "GENERATION"
    STORAGE = "STORAGE"


class Circuit(Item):
    """The legacy platform's grid-connection circuit."""

    id: Identifier
    name: str = ""
    rated_import_kw: float = Field(ge=0, le=MOST_KW, allow_inf_nan=False)
    rated_export_kw: float = Field(ge=0, le=MOST_KW, allow_inf_nan=False)


class Scope(Item):
    """A managed microgrid."""

    id: Identifier
    name: str = ""
    circuit_id: Identifier | None = None
    time_zone: str = "UTC"
    nominal_voltage_v: float = Field(default=230, gt=0, le=MOST_V, allow_inf_nan=False)
    phases: Literal[1, 2, 3] = 3

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"unknown time zone {value!r}; write one of the IANA names, such as Pacific/Auckland") from None
        return value


class Asset(Item):
    """One metered resource of a scope. `report` None means the default of semantics 7.1."""

    id: Identifier
    scope_id: Identifier
    category: Category
    connection_meter: bool = False
    max_w: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    report: bool | None = None
    valid_from: Instant | None = None
    valid_to: Instant | None = None


class Group(Item):
    """An OSCP capacity group, bound to exactly one scope."""

    partner_id: Identifier
    group_id: Identifier
    scope_id: Identifier
    fallback_hold: Wait = timedelta(hours=1)
    safe_import_kw: float | None = Field(default=None, ge=0, le=MOST_KW, allow_inf_nan=False)
    safe_export_kw: float | None = Field(default=None, ge=0, le=MOST_KW, allow_inf_nan=False)
    when_unknown: Literal["keep", "rating"] = "keep"
    tolerance: float = Field(default=0.0, ge=0, le=1000, allow_inf_nan=False)


def bound(asset: Asset, quarter: datetime) -> bool:
    """Whether the asset's binding holds for the quarter that starts at `quarter`."""
    started = asset.valid_from is None or asset.valid_from <= quarter
    return started and (asset.valid_to is None or quarter < asset.valid_to)
