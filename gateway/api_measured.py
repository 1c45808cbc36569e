"""What was measured and how it was judged: quarter hours, breaches; and readings posted as JSON (semantics 1, 5)."""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel

from gateway.api_body import Problem, parse, read, takes
from gateway.api_common import Items
from gateway.breach_reading import STATES, read_breaches
from gateway.desk import AtDesk, Producer, Reader
from gateway.past import BreachWish
from gateway.problems import FieldError
from pipelines.records import Out
from schemas.compliance import Breach, Verdict
from schemas.telemetry import Level, Measurement, MeasurementBatch, QuarterHour
from schemas.topics import TELEMETRY
from schemas.units import Direction, Phase

router = APIRouter()

BATCH = 1000
"""At most so many readings in one message, well under the broker's largest."""
MAX_ASSET_ID = 200


class Accepted(BaseModel):
    """How many readings the broker has taken."""

    accepted: int


@router.post("/telemetry", status_code=202, tags=["telemetry"], openapi_extra=takes(MeasurementBatch))
async def post_telemetry(_: Producer, desk: AtDesk, request: Request) -> Accepted:
    """Readings, answered once the broker has them. All or none: one bad entry refuses the body, named by index, field and rule.

    An unknown asset or an instant in the future is no fault of the entry: those become dead letters behind (semantics 1.8).
    """
    batch = parse(MeasurementBatch, await read(request))
    wrong = [error for index, reading in enumerate(batch.measurements) for error in _wrong(index, reading)]
    if not batch.measurements:
        wrong = [{"path": "measurements", "message": "at least one measurement is needed"}]
    if wrong:
        first = f"{wrong[0]['path']}: {wrong[0]['message']}"
        raise Problem(400, "Invalid body", first + (f" (and {len(wrong) - 1} more)" if wrong[1:] else ""), wrong[:20])
    await desk.appender.append_many(list(_messages(batch.measurements)))
    return Accepted(accepted=len(batch.measurements))


def _wrong(index: int, reading: Measurement) -> Iterator[FieldError]:
    where = f"measurements[{index}]"
    if not 0 < len(reading.asset_id) <= MAX_ASSET_ID:
        yield {"path": f"{where}.asset_id", "message": f"has to have 1 to {MAX_ASSET_ID} characters"}
    for field in ("power_w", "import_wh", "export_wh", "stored_wh"):
        value = getattr(reading, field)
        if value is not None and not math.isfinite(value):
            yield {"path": f"{where}.{field}", "message": "has to be a finite number"}


def _messages(measurements: list[Measurement]) -> Iterator[Out]:
    """One message an asset (or several, in order), keyed by it, so that an asset stays on one partition."""
    by_asset: dict[str, list[Measurement]] = {}
    for reading in measurements:
        by_asset.setdefault(reading.asset_id, []).append(reading)
    for asset_id, readings in by_asset.items():
        for first in range(0, len(readings), BATCH):
            part = readings[first : first + BATCH]
            yield Out(TELEMETRY, asset_id, part[0] if len(part) == 1 else MeasurementBatch(measurements=part))


@router.get("/quarter-hours", tags=["quarter-hours"])
async def list_quarter_hours(
    _: Reader,
    desk: AtDesk,
    *,
    level: Level | None = None,
    id: Annotated[str | None, Query(description="asset or group id")] = None,  # noqa: A002 - the row's own name for it
    scope_id: str | None = None,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to")] = None,
    provisional: Annotated[
        bool, Query(description="with the provisional rows of quarters that run or have ended and are not closed yet")
    ] = False,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Items[QuarterHour]:
    """Quarter hours of the last 48 h of clock time that start in [from, to), newest first. Older ones are in the history."""
    picture = desk.pictures.current()

    def wanted(row: QuarterHour) -> bool:
        return (
            (level is None or row.level is level)
            and (id is None or row.id == id)
            and (scope_id is None or row.scope_id == scope_id)
            and _within(row.start, since, until)
        )

    found = [row for rows in picture.rows.values() for row in rows.values() if wanted(row)]
    if provisional:
        found += [row for rows in picture.provisional.values() for row in rows.values() if wanted(row)]
    found.sort(key=lambda row: (row.start, row.level, row.id), reverse=True)
    return Items(items=found[:limit])


def _within(instant: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or instant >= since) and (until is None or instant < until)


class BreachItems(Items[Breach]):
    """Breaches, newest first; `note` says in words what may be lacking, if anything."""

    note: str


@router.get("/breaches", tags=["breaches"])
async def list_breaches(
    _: Reader,
    desk: AtDesk,
    *,
    state: Annotated[Literal["open", "closed", "voided", "all"], Query(description="voided ones were taken back by a correction")] = "all",
    partner_id: str = "",
    group_id: str = "",
    scope_id: str = "",
    direction: Direction | None = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="only those that lasted after it")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="only those that began before it")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> BreachItems:
    """Breaches as they stand: those the live picture keeps and, where there is a history, older ones."""
    wish = BreachWish(
        partner_id=partner_id,
        group_id=group_id,
        scope_id=scope_id,
        direction=direction.value if direction else "",
        states=STATES.get(state, ()),
        since=since,
        until=until,
    )
    found = await read_breaches(desk, wish)
    return BreachItems(items=found.breaches[:limit], note=found.note)


@router.get("/verdicts", tags=["breaches"])
async def list_verdicts(
    _: Reader,
    desk: AtDesk,
    group_id: str | None = None,
    direction: Direction | None = None,
    phase: Annotated[
        Phase, Query(description="ALL is the whole connection; a single conductor is judged where a forecast limits it")
    ] = Phase.ALL,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Items[Verdict]:
    """How the quarters of the last 48 h were judged, newest first; `at_risk` ones are projections."""
    picture = desk.pictures.current()
    kept = picture.verdicts if phase is Phase.ALL else picture.phase_verdicts
    found = [
        verdict
        for group, verdicts in kept.items()
        for verdict in verdicts.values()
        if (group_id is None or group == group_id) and (direction is None or verdict.direction is direction) and verdict.phase is phase
    ]
    return Items(items=sorted(found, key=lambda verdict: verdict.quarter, reverse=True)[:limit])
