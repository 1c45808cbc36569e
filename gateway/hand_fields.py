"""The fields of operators' forms, read and prefilled: local times, blocks as JSON text, one capacity for one span. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.api_body import Problem
from gateway.kept_forecasts import KeptForecast, Spoken, spoken
from gateway.problems import FieldError
from schemas.intervals import QUARTER, next_quarter
from schemas.oscp.v20 import CapacityUnit, ForecastedBlock, Phase
from schemas.units import W_PER_KW, Direction, rfc3339

AN_HOUR = timedelta(hours=1)
MOST_TEXT = 400_000
MOST_EDITED = 400
Fields = Mapping[str, str]


def refused(path: str, message: str) -> Problem:
    """One field of a form is wrong."""
    return Problem(400, "Invalid form", f"{path}: {message}", [FieldError(path=path, message=message)])


def instant(fields: Fields, name: str, zone: ZoneInfo) -> datetime:
    """A local time of a form (`2026-10-20T14:15`, or RFC 3339 with its offset) as UTC. Raises Problem 400.

    Of a time that is there twice, when clocks go back, the first is meant; write the offset to mean the other.
    """
    text = fields.get(name, "").strip()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise refused(name, "write a date and a time, such as 2026-10-20T14:15") from None
    try:
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        meant = found.replace(tzinfo=zone).astimezone(UTC)
        if meant.astimezone(zone).replace(tzinfo=None) != found:
            raise refused(name, f"{text} does not exist in {zone.key}: clocks go forward over it")
    except (OverflowError, ValueError):
        raise refused(name, "is too long ago, or too far ahead") from None
    return meant


def local_text(at: datetime, zone: ZoneInfo) -> str:
    """An instant as a form's field wants it; with its offset where the local time is there twice and the second is meant."""
    local = say.local(at, zone)
    if local.tzinfo is zone and not local.fold:
        return local.replace(tzinfo=None).isoformat(timespec="minutes")
    return local.isoformat(timespec="minutes")


def span(fields: Fields, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The fields `from` and `to`. Raises Problem 400."""
    start, end = instant(fields, "from", zone), instant(fields, "to", zone)
    if end <= start:
        raise refused("to", "must be after from")
    return start, end


def capacity(fields: Fields, name: str) -> float:
    """A figure that is not negative. Raises Problem 400."""
    text = fields.get(name, "").strip().replace(",", ".")
    try:
        found = float(text)
    except ValueError:
        raise refused(name, "write a number, such as 120 or 7.5") from None
    if not 0 <= found < 1e9:
        raise refused(name, "must be 0 or more")
    return found


def one_block(fields: Fields, zone: ZoneInfo) -> list[dict[str, Any]]:
    """One capacity for one span, as a block of OSCP. Raises Problem 400."""
    start, end = span(fields, zone)
    unit, phase = fields.get("unit", "KW"), fields.get("phase", "ALL")
    if unit not in CapacityUnit.__members__ or phase not in Phase.__members__:
        raise refused("unit", "choose one of those offered")
    times = {"start_time": rfc3339(start), "end_time": rfc3339(end)}
    return [{"capacity": capacity(fields, "capacity"), "phase": phase, "unit": unit, **times}]


def written_blocks(fields: Fields) -> list[Any]:
    """The blocks a person wrote as JSON. Raises Problem 400; what is in them is checked as any body is."""
    text = fields.get("blocks", "")
    if len(text) > MOST_TEXT:
        raise refused("blocks", f"at most {MOST_TEXT} characters")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise refused("blocks", "is not JSON: write a list of blocks, as it was offered") from None
    if not isinstance(found, list) or not found:
        raise refused("blocks", "write a list of at least one block")
    return found


def blocks_text(blocks: Iterable[ForecastedBlock]) -> str:
    """Blocks as a person edits them: JSON, a block a line; the first ones of very many."""
    lines = ",\n".join("  " + json.dumps(block.model_dump(mode="json")) for block in islice(blocks, MOST_EDITED))
    return f"[\n{lines}\n]" if lines else "[]"


def coming(kept: Sequence[KeptForecast], now: datetime) -> list[Spoken]:
    """What forecasts say from the next quarter hour on: a wish is about what can still be changed."""
    return spoken(kept, next_quarter(now))


def first_span(found: Sequence[Spoken], now: datetime) -> tuple[datetime, datetime]:
    """What a form offers first: the first block that is still to come, else the next hour."""
    if not found:
        return next_quarter(now), next_quarter(now) + AN_HOUR
    block = found[0].block
    return block.start_time, block.end_time


def error_words(group_id: str, forecast: str, found: Sequence[Spoken]) -> str:
    """How a compliance error begins when a person writes it, from what the forecast says about the time it is about."""
    if not found:
        return f"Group {group_id} cannot keep to forecast {forecast}: "
    start, end = found[0].block.start_time, found[-1].block.end_time
    lowest = min(found, key=lambda one: one.block.capacity).block
    return (
        f"Group {group_id} cannot keep to the {lowest.capacity:g} {lowest.unit.value} of forecast {forecast} "
        f"between {rfc3339(start)} and {rfc3339(end)}: "
    )


def breached_words(group_id: str, direction: Direction, quarter: datetime, used_wh: float, allowed_wh: float) -> str:
    """The same for a quarter that was breached, with what was used and allowed."""
    hours = QUARTER / AN_HOUR
    used_kw, allowed_kw = (wh / W_PER_KW / hours for wh in (used_wh, allowed_wh))
    return (
        f"Group {group_id}: the {direction.value.lower()} in the quarter hour from {rfc3339(quarter)} was {used_kw:.3f} kW on average, "
        f"above the {allowed_kw:.3f} kW allowed: "
    )
