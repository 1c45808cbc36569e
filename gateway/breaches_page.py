"""The page of breaches: all that are known, by conditions that stand in its address. Readable without JavaScript."""

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.breach_reading import STATES, read_breaches
from gateway.breach_rows import breach_row, errors_about
from gateway.desk import Desk
from gateway.overview import page_zone
from gateway.page_frame import framed, part_of, reader_of
from gateway.past import BreachWish
from gateway.scope_day import day_bounds
from gateway.scope_index import ScopeIndex
from schemas.config import Configuration
from schemas.units import Direction

router = APIRouter(include_in_schema=False)

SHOWN = 50
LISTED = 200
"""So many scopes are offered in the form at most; others are found by writing their id."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The form as it was sent: words, not checked."""

    partner: str = ""
    about: str = ""
    direction: str = ""
    state: str = ""
    first: str = ""
    last: str = ""

    def query(self) -> dict[str, str]:
        """As the page's address has them."""
        named = {"partner": self.partner, "about": self.about, "direction": self.direction, "state": self.state}
        return {**named, "from": self.first, "to": self.last}


def wish_of(conditions: Conditions, config: Configuration, zone: ZoneInfo) -> tuple[BreachWish, list[str]]:
    """What is asked for, and words about conditions that mean nothing and are left out."""
    wrong: list[str] = []
    scope_id, group_id = _about(conditions.about.strip(), config)
    since, until = _day(conditions.first, zone, wrong), _day(conditions.last, zone, wrong)
    direction = conditions.direction.upper() if conditions.direction.upper() in list(Direction) else ""
    if conditions.direction and not direction:
        wrong.append(f"{conditions.direction[:40]!r} is no direction; it is import or export")
    if conditions.state and conditions.state not in STATES:
        wrong.append(f"{conditions.state[:40]!r} is no state; it is open, closed or voided")
    wish = BreachWish(
        partner_id=conditions.partner,
        group_id=group_id,
        scope_id=scope_id,
        direction=direction,
        states=STATES.get(conditions.state, ()),
        since=since[0] if since else None,
        until=until[1] if until else None,
    )
    return wish, wrong


def _about(text: str, config: Configuration) -> tuple[str, str]:
    """Scope and group that a text means: an id of either, or a scope's name; what is not configured counts as a group of earlier times."""
    if not text:
        return "", ""
    named = next((scope for scope in config.scopes if scope.id == text), None)
    named = named or next((scope for scope in config.scopes if scope.name.casefold() == text.casefold()), None)
    return (named.id, "") if named is not None and config.group_by_id(text) is None else ("", text)


def _day(text: str, zone: ZoneInfo, wrong: list[str]) -> tuple[datetime, datetime] | None:
    if not text:
        return None
    try:
        return day_bounds(date.fromisoformat(text), zone)
    except ValueError:
        wrong.append(f"{text[:40]!r} is no day; write it as 2026-10-25")
        return None


@router.get("/breaches")
async def breaches_page(request: Request) -> Response:
    """The page; who is not signed in is asked to."""
    caller = reader_of(request)
    if isinstance(caller, Response):
        return caller
    desk: Desk = request.app.state.desk
    asked = request.query_params
    words = {name: asked.get(name, "")[:200] for name in ("partner", "about", "direction", "state", "from", "to")}
    conditions = Conditions(words["partner"], words["about"], words["direction"], words["state"], words["from"], words["to"])
    picture, config, now = desk.pictures.current(), desk.config.current(), desk.clock.now()
    zone = page_zone(config)
    wish, wrong = wish_of(conditions, config, zone)
    found = await read_breaches(desk, wish)
    part = part_of(found.breaches, asked.get("page", ""), SHOWN, conditions.query())
    index, errors = ScopeIndex(picture, config), errors_about(picture, found.breaches)
    return framed(
        "breaches_page.html",
        desk,
        caller,
        "breaches",
        part=part,
        rows=[breach_row(breach, index, errors, now, zone) for breach in part.items],
        conditions=conditions,
        narrowed=any(conditions.query().values()),
        wrong=wrong,
        note=found.note,
        partners=[(partner.id, partner.name or partner.id) for partner in config.partners],
        scopes=[(scope.id, scope.name or scope.id) for scope in config.scopes[:LISTED]],
    )
