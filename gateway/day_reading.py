"""A scope's day from where it is known: the live picture, completed by the history where the picture does not hold it whole."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.desk import Desk
from gateway.outlook import Outlook
from gateway.past import NOT_THERE
from gateway.projection import KEEP
from gateway.scope_day import DayFacts, DayView, both, day_bounds, day_view, live_facts
from gateway.scope_index import ScopeIndex
from schemas.intervals import QUARTER, quarters
from schemas.topology import Scope
from sinks.errors import Unavailable

SETTLED = timedelta(minutes=15)
"""A quarter whose final row is lacking so long after its end is looked for in the history."""
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReadDay:
    """A day, and the facts it was made of."""

    view: DayView
    facts: DayFacts


def outlook_on(desk: Desk, scope: Scope) -> Outlook:
    """The scope as things stand now, in a picture that stands still."""
    picture, config = desk.pictures.current(), desk.config.current()
    return Outlook(picture, config, scope, desk.clock.now(), ScopeIndex(picture, config))


def today(outlook: Outlook) -> date:
    """The date in the scope's zone now."""
    return outlook.now.astimezone(ZoneInfo(outlook.scope.time_zone)).date()


def day_named(text: str, outlook: Outlook) -> date:
    """The date `text` names, today's where it is empty. ValueError, in words with a cure, for one that is none or out of range."""
    if not text:
        return today(outlook)
    try:
        if not _DAY.fullmatch(text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no day; write it as {today(outlook)}") from None
    day_bounds(day, ZoneInfo(outlook.scope.time_zone))
    return day


async def read_day(desk: Desk, outlook: Outlook, day: date) -> ReadDay:
    """The scope's day. Asks the history only where the picture lacks final rows; where that does not answer, the view says so."""
    start, end = day_bounds(day, ZoneInfo(outlook.scope.time_zone))
    facts, note = live_facts(outlook, start, end), ""
    if _lacking(outlook, facts, start, end):
        if desk.past is None:
            note = NOT_THERE if start < outlook.now - KEEP else ""
        else:
            try:
                stored = await desk.past.day(outlook.scope.id, outlook.group_id, outlook.scope.circuit_id, start, end)
                facts = both(facts, stored)
            except Unavailable as error:
                note = error.words
    return ReadDay(day_view(outlook, day, facts, note), facts)


def _lacking(outlook: Outlook, facts: DayFacts, start: datetime, end: datetime) -> bool:
    """Whether a quarter that ended some time ago has no final row in the picture."""
    return any(at not in facts.rows for at in quarters(start, end) if at + QUARTER + SETTLED <= outlook.now)
