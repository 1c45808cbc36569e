"""A partner's own page: how it stands, what an operator can do about it, and its timeline. Readable without JavaScript.

What changes something is a plain form with the session's own token, and only asks: the answer is the page again. A new
registration token is the exception: it is shown once, in the answer to its form, and stands in no address.
"""

from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from gateway.api_body import Problem
from gateway.api_partners import RegisterRequest, new_token, order_registration
from gateway.auth import Right
from gateway.desk import Desk, caller_of
from gateway.guard import Caller, Denied, demand
from gateway.orders import order
from gateway.page_frame import act_of
from gateway.partner_actions import ACTIONS
from gateway.partner_detail import detail
from gateway.problems import FieldError
from gateway.rendering import refresh_s, render

router = APIRouter(include_in_schema=False)

FIELDS = {"base_url": "the address", "token": "the token"}


@router.get("/partners/{partner_id:path}")
async def partner_page(
    request: Request, partner_id: str, *, before: str | None = None, heartbeats: bool = False, confirm: str = "", done: str = ""
) -> Response:
    """The page, or the question before an action with consequences; who is not signed in is asked to."""
    caller = caller_of(request)
    if caller is None:
        return RedirectResponse("/sign-in", status_code=303)
    demand(caller, Right.READ)
    desk: Desk = request.app.state.desk
    name = _demand_known(desk, partner_id)
    if confirm:
        demand(caller, Right.ACT)
        action = ACTIONS.get(confirm)
        if action is None or not action.question:
            raise Denied(404, "Nothing to ask", "there is no such question")
        return HTMLResponse(render("partner_confirm.html", partner_id=partner_id, name=name, action=action, csrf=_csrf(caller)))
    return _page(desk, caller, partner_id, before=before, heartbeats=heartbeats, done=done)


@router.post("/partners/{partner_id:path}")
async def act(request: Request, partner_id: str) -> Response:
    """What a button of the page asks for."""
    asked = await act_of(request)
    if isinstance(asked, Response):
        return asked
    caller, fields = asked
    desk: Desk = request.app.state.desk
    name = _demand_known(desk, partner_id)
    action = ACTIONS.get(fields.get("action", ""))
    if action is None:
        raise Denied(400, "Unknown action", "go back to the page and use one of its buttons")
    if action.question and fields.get("confirmed") != "yes":
        return RedirectResponse(_path(partner_id, f"confirm={action.name}"), status_code=303)
    try:
        if action.name == "token":
            token = await new_token(desk, caller, partner_id)
            return HTMLResponse(render("partner_token.html", partner_id=partner_id, name=name, token=token))
        if action.name == "register":
            await order_registration(desk, caller, partner_id, _registration(fields))
        else:
            await order(desk, caller, partner_id, action.kind)
    except Problem as problem:
        words = "; ".join(f"{FIELDS.get(one['path'], 'the form')} {one['message']}" for one in problem.errors) or str(problem)
        return _page(desk, caller, partner_id, refused=words, status=problem.status)
    return RedirectResponse(_path(partner_id, f"done={action.name}"), status_code=303)


def _page(
    desk: Desk,
    caller: Caller,
    partner_id: str,
    *,
    before: str | None = None,
    heartbeats: bool = False,
    done: str = "",
    refused: str = "",
    status: int = 200,
) -> HTMLResponse:
    picture, config = desk.pictures.current(), desk.config.current()
    try:
        now, wall = desk.clock.now(), desk.wall.now()
        page = detail(picture, config, partner_id, now, desk.clock.speed, wall=wall, before=before, heartbeats=heartbeats)
    except ValueError as error:
        raise Denied(400, "No such part", str(error)) from None
    action = ACTIONS.get(done)
    text = render(
        "partner_page.html",
        page=page,
        partner_id=partner_id,
        operator=caller.operator,
        csrf=_csrf(caller),
        may_act=caller.operator.may(Right.ACT),
        notice=action.done if action else "",
        refused=refused,
        heartbeats=heartbeats,
        older_than=before or "",
        refresh_s=refresh_s(desk.clock),
    )
    return HTMLResponse(text, status_code=status)


def _registration(fields: dict[str, str]) -> RegisterRequest:
    """What the form says about the partner; what it leaves empty is left to the configuration. Raises Problem 400, without the token."""
    given = {name: value for name in ("base_url", "token") if (value := fields.get(name, "").strip())}
    try:
        return RegisterRequest.model_validate(given)
    except ValidationError as error:
        named = {"base_url": "must be an http or https URL", "token": "must have at most 1000 characters"}
        wrong = [str(one["loc"][0]) for one in error.errors(include_input=False)]
        found = [FieldError(path=name, message=named[name]) for name in wrong]
        raise Problem(400, "Invalid registration", "the form has a field that is wrong", found) from None


def _demand_known(desk: Desk, partner_id: str) -> str:
    """The partner's name. Raises Denied 404."""
    partner = desk.config.current().partner(partner_id)
    if partner is None and partner_id not in desk.pictures.current().connections:
        raise Denied(404, "Unknown partner", f"there is no partner {partner_id!r}")
    return (partner.name if partner else "") or partner_id


def _csrf(caller: Caller) -> str:
    return caller.session.csrf if caller.session else ""


def _path(partner_id: str, query: str) -> str:
    return f"/partners/{quote(partner_id, safe='/')}?{query}"
