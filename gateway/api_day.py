"""A scope's calendar day for programs: the same as its page shows (semantics 2, 3, 5)."""

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api_body import Problem
from gateway.day_reading import day_named, outlook_on, read_day
from gateway.desk import AtDesk, Reader
from gateway.problems import FieldError
from gateway.scope_day import DayView

router = APIRouter()

Day = Annotated[
    str,
    Query(
        alias="date",
        description="a calendar day in the scope's own time zone, today where it is left out",
        examples=["2026-10-25"],
        max_length=40,
        json_schema_extra={"format": "date"},
    ),
]
DayAsOnPage = Annotated[str, Query(alias="day", description="the same by the name it has in the page's address", max_length=40)]


@router.get("/scopes/{scope_id:path}/day", tags=["scopes"])
async def one_day(_: Reader, desk: AtDesk, scope_id: str, day: Day = "", named: DayAsOnPage = "") -> DayView:
    """A scope's day from local midnight to local midnight: 92 to 100 quarter hours with limits, energies and verdicts, and its breaches.

    Energies are Wh, limits W, instants UTC. Days that the live picture no longer holds come from the history; where that does not
    answer, `note` says so and the day shows what is known here. Unknown scopes and words that are no day are
    refused, with what to write instead.
    """
    found = desk.config.current().scope(scope_id)
    if found is None:
        raise Problem(404, "Unknown scope", f"there is no scope {scope_id!r}; GET /api/v1/scopes lists all there are")
    outlook = outlook_on(desk, found)
    try:
        wanted = day_named(day or named, outlook)
    except ValueError as error:
        raise Problem(400, "Invalid day", f"date: {error}", [FieldError(path="date", message=str(error))]) from None
    return (await read_day(desk, outlook, wanted)).view
