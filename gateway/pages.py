"""The pages: one live page, signing in and out, and errors for people. Rendered on the server, readable without JavaScript."""

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from gateway.api_status import flows_of
from gateway.auth import Operator, Right
from gateway.desk import Desk, caller_of
from gateway.guard import Caller, Denied, demand, demand_own_page, demand_same_origin
from gateway.overview import Page
from gateway.sessions import SESSION_LASTS
from schemas.units import rfc3339

HERE = Path(__file__).parent
STATIC = HERE / "static"

router = APIRouter(include_in_schema=False)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["rfc3339"] = rfc3339
    return found


def render(template: str, **values: Any) -> str:
    """A template filled in; everything is escaped but the charts, which escape for themselves."""
    return _templates().get_template(template).render(**values)


def error_page(status: int, title: str, detail: str) -> HTMLResponse:
    """What a person sees instead of a problem document."""
    return HTMLResponse(render("error.html", status=status, title=title, detail=detail), status_code=status)


def overview_page(desk: Desk, caller: Caller) -> str:
    """The live page as HTML text."""
    page = Page(desk.pictures.current(), desk.config.current(), desk.clock.now(), desk.clock.speed, flows_of(desk))
    return render(
        "overview.html",
        page=page.overview(),
        operator=caller.operator,
        csrf=caller.session.csrf if caller.session else "",
        attribution=desk.attribution,
        refresh_s=3 if desk.clock.speed > 1 else 10,
    )


@router.get("/")
async def overview(request: Request) -> Response:
    """The live page; who is not signed in is asked to."""
    caller = caller_of(request)
    if caller is None:
        return RedirectResponse("/sign-in", status_code=303)
    demand(caller, Right.READ)
    return HTMLResponse(overview_page(request.app.state.desk, caller))


@router.get("/sign-in")
async def sign_in_page(request: Request, once: str | None = None) -> Response:
    """The form for a token; with a one-time code, the session itself."""
    desk: Desk = request.app.state.desk
    if once is None:
        return HTMLResponse(render("sign_in.html", refused=""))
    operator = desk.links.redeem(once)
    if operator is None:
        refused = "This link has been used or is too old. Sign in with your token, or have a new link made."
        return HTMLResponse(render("sign_in.html", refused=refused), status_code=403)
    # A page that goes on by itself rather than a redirect: a redirect that began on another site or in a mail
    # program would be answered without the strict cookie, and ask for a token again.
    return _signed_in(request, operator, HTMLResponse(render("signed_in.html")))


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """A token for a session."""
    demand_same_origin(request)
    desk: Desk = request.app.state.desk
    operator = desk.operators.by_token((await form(request)).get("token", "").strip())
    if operator is None or not operator.may(Right.READ):
        refused = "That token is not known here." if operator is None else f"The role {operator.role} has no pages."
        return HTMLResponse(render("sign_in.html", refused=refused), status_code=403)
    return _signed_in(request, operator, RedirectResponse("/", status_code=303))


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Ends the session in this browser."""
    desk: Desk = request.app.state.desk
    caller = caller_of(request)
    if caller is not None:
        demand_own_page(request, caller, (await form(request)).get("csrf", ""))
    answer = RedirectResponse("/sign-in", status_code=303)
    answer.delete_cookie(desk.sessions.cookie_name, path="/", httponly=True, samesite="strict")
    return answer


def _signed_in(request: Request, operator: Operator, answer: Response) -> Response:
    desk: Desk = request.app.state.desk
    answer.set_cookie(
        desk.sessions.cookie_name,
        desk.sessions.open(operator),
        max_age=int(SESSION_LASTS.total_seconds()),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


async def form(request: Request) -> dict[str, str]:
    """The fields of a plain form. Raises Denied 415 for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Denied(415, "Not a form", "send the form as the page does")
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    return {name: values[-1] for name, values in fields.items()}
