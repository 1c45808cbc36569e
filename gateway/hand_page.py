"""The operator's hand as pages: forms that are prefilled, looked at as the exact message, and said once; and what became of it.

Readable without JavaScript. What is said passes three steps: the form, the message as it will be, and the confirmation, which
carries the id it was looked at under: sent twice, it is asked for once.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway import hand, hand_wanted
from gateway.api_asked import asked_for, drafted
from gateway.api_body import Problem
from gateway.auth import Right
from gateway.desk import Desk, caller_of
from gateway.guard import Caller, Denied, demand
from gateway.hand_model import HandForm, Looked
from gateway.hand_requests import rows_of
from gateway.orders import order_limit
from gateway.overview import page_zone
from gateway.page_frame import act_of, framed, reader_of
from schemas.oscp.v20 import PATHS, Action, ForecastType
from schemas.topology import Group, Scope

router = APIRouter(include_in_schema=False)

ACTION_OF = {"adjust": Action.ADJUST_GROUP_CAPACITY_FORECAST, "compliance-error": Action.GROUP_CAPACITY_COMPLIANCE_ERROR}
FORM_OF = {"adjust": "hand_adjust.html", "compliance-error": "hand_error.html", "limit": "hand_limit.html"}


@dataclass(frozen=True, slots=True)
class Site:
    """What a form is about: a group (of a partner) or a scope alone, and the zone its times are in."""

    group: Group | None
    scope: Scope
    zone: ZoneInfo


@router.get("/adjust")
async def adjust_page(request: Request) -> Response:
    """The form of a wish for another capacity."""
    return await _shown(request, "adjust")


@router.get("/compliance-error")
async def error_page(request: Request) -> Response:
    """The form of a compliance error."""
    return await _shown(request, "compliance-error")


@router.get("/limit")
async def limit_page(request: Request) -> Response:
    """The form of an operator's own limit."""
    return await _shown(request, "limit")


@router.post("/adjust")
async def adjust(request: Request) -> Response:
    """Looks at a wish, or asks for it."""
    return await _taken(request, "adjust")


@router.post("/compliance-error")
async def compliance_error(request: Request) -> Response:
    """Looks at a compliance error, or sends it."""
    return await _taken(request, "compliance-error")


@router.post("/limit")
async def limit(request: Request) -> Response:
    """Looks at an operator's limit, or sets it."""
    return await _taken(request, "limit")


@router.get("/requests")
async def requests_page(request: Request, done: str = "") -> Response:
    """What operators asked for, and what became of it."""
    caller = reader_of(request)
    if isinstance(caller, RedirectResponse):
        return caller
    desk: Desk = request.app.state.desk
    config, now = desk.config.current(), desk.clock.now()
    rows = rows_of(desk.pictures.current(), config, page_zone(config), now)
    return framed("requests.html", desk, caller, "requests", rows=rows, done=done)


async def _shown(request: Request, kind: str) -> Response:
    caller = caller_of(request)
    if caller is None:
        return RedirectResponse("/sign-in", status_code=303)
    demand(caller, Right.ACT)
    desk: Desk = request.app.state.desk
    query = dict(request.query_params)
    site = _site(desk, kind, query)
    if site is None:
        config = desk.config.current()
        return framed("hand_choose.html", desk, caller, "requests", kind=kind, title=hand.TITLES[kind], config=config)
    return _form_page(desk, caller, await asyncio.to_thread(_form, desk, kind, site, query), site)


async def _taken(request: Request, kind: str) -> Response:
    asked = await act_of(request)
    if isinstance(asked, Response):
        return asked
    caller, fields = asked
    desk: Desk = request.app.state.desk
    site = _site(desk, kind, fields)
    if site is None:
        raise Denied(400, "Nothing chosen", "go back to the page and choose a group or a scope")
    given = {name: value for name, value in fields.items() if name not in ("csrf", "step", "draft")}
    try:
        match fields.get("step"):
            case "look":
                return _looked_page(desk, caller, await asyncio.to_thread(_look, desk, caller, kind, fields, site, given), site)
            case "say":
                return RedirectResponse(f"/requests?{urlencode({'done': await _say(desk, caller, kind, fields, site)})}", status_code=303)
            case _:
                return _form_page(desk, caller, await asyncio.to_thread(_form, desk, kind, site, given, given), site)
    except Problem as problem:
        found = await asyncio.to_thread(_form, desk, kind, site, given, given)
        return _form_page(desk, caller, found, site, problem)


def _form(desk: Desk, kind: str, site: Site, query: Mapping[str, str], given: Mapping[str, str] | None = None) -> HandForm:
    picture, now = desk.pictures.current(), desk.clock.now()
    if site.group is None:
        return hand.limit_form(site.scope, picture, site.zone, now, given)
    if kind == "adjust":
        return hand.adjust_form(site.group, _type(query), picture, site.zone, now, given)
    return hand.error_form(site.group, query.get("forecast", ""), picture, site.zone, now, about=query, given=given)


def _look(desk: Desk, caller: Caller, kind: str, fields: Mapping[str, str], site: Site, given: Mapping[str, str]) -> Looked:
    """The message as it will be. Raises Problem 400."""
    picture, now = desk.pictures.current(), desk.clock.now()
    if site.group is None:
        return hand.limit_looked_at(hand_wanted.limit_request(fields, site.scope, site.zone), picture, site.zone, now, given)
    if kind == "adjust":
        wanted: hand_wanted.Request = hand_wanted.adjust_request(fields, site.group, site.zone)
    else:
        wanted = hand_wanted.error_request(fields, site.group, picture, site.zone)
    if isinstance(wanted, hand_wanted.LimitRequest):
        raise Denied(400, "Invalid form", "send the form as the page does")
    return hand.looked_at(drafted(desk, caller, wanted), wanted, _url(desk, kind, site.group), site.zone, now, given)


async def _say(desk: Desk, caller: Caller, kind: str, fields: Mapping[str, str], site: Site) -> str:
    """Ask for what was looked at; its id. Raises Problem 400, Unavailable."""
    wanted = hand_wanted.drafted(kind, fields.get("draft", ""))
    if isinstance(wanted, hand_wanted.LimitRequest):
        if wanted.asked.scope_id != site.scope.id:
            raise Denied(400, "Invalid form", "send the form as the page does")
        return (await order_limit(desk, caller, wanted.asked, wanted.command_id)).id
    if site.group is None or wanted.group_id != site.group.group_id:
        raise Denied(400, "Invalid form", "send the form as the page does")
    return (await asked_for(desk, caller, wanted)).id


def _site(desk: Desk, kind: str, query: Mapping[str, str]) -> Site | None:
    """What the form is about; None where nothing is chosen yet. Raises Denied 404."""
    config = desk.config.current()
    if kind == "limit":
        if not query.get("scope"):
            return None
        scope = config.scope(query["scope"])
        if scope is None:
            raise Denied(404, "Unknown scope", f"there is no scope {query['scope']!r}")
        return Site(None, scope, ZoneInfo(scope.time_zone))
    if not query.get("group"):
        return None
    group = config.group_by_id(query["group"])
    scope = config.scope(group.scope_id) if group is not None else None
    if group is None or scope is None or query.get("partner", group.partner_id) != group.partner_id:
        raise Denied(404, "Unknown group", f"there is no group {query['group']!r} of that partner")
    return Site(group, scope, ZoneInfo(scope.time_zone))


def _type(query: Mapping[str, str]) -> ForecastType:
    wanted = query.get("type", "")
    return ForecastType(wanted) if wanted in ForecastType.__members__ else ForecastType.CONSUMPTION


def _url(desk: Desk, kind: str, group: Group) -> str:
    """Where the message will go, as far as it is known."""
    action = ACTION_OF[kind]
    connection = desk.pictures.current().connections.get(group.partner_id)
    partner = desk.config.current().partner(group.partner_id)
    if connection is None or connection.peer_base_url is None:
        return ""
    own = partner.paths.get(action.value) if partner is not None else None
    return connection.peer_base_url.rstrip("/") + (own or PATHS[action])


def _form_page(desk: Desk, caller: Caller, found: HandForm, site: Site, problem: Problem | None = None) -> HTMLResponse:
    wrong = "" if problem is None else (str(problem) or problem.title)
    errors = tuple((one["path"], one["message"]) for one in problem.errors[:10]) if problem else ()
    return framed(
        FORM_OF[found.kind], desk, caller, "requests", zone=site.zone, status=problem.status if problem else 200, form=found,
        scope=site.scope, wrong=wrong, errors=errors if len(errors) > 1 else (),
    )  # fmt: skip


def _looked_page(desk: Desk, caller: Caller, looked: Looked, site: Site) -> HTMLResponse:
    return framed("hand_look.html", desk, caller, "requests", zone=site.zone, looked=looked, scope=site.scope)
