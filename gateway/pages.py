"""The pages: one live page, signing in and out, and errors for people. Rendered on the server, readable without JavaScript."""

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api_status import flows_of
from gateway.auth import Operator, Right
from gateway.breaches_page import router as breach_routes
from gateway.circuit_owed import overdue_at
from gateway.circuits_page import router as circuit_routes
from gateway.desk import Desk, caller_of
from gateway.guard import Caller, demand, demand_own_page, demand_same_origin
from gateway.hand_page import router as hand_routes
from gateway.messages_page import router as message_routes
from gateway.overview import Page
from gateway.partner_page import router as partner_routes
from gateway.rendering import STATIC as STATIC
from gateway.rendering import error_page as error_page
from gateway.rendering import form, refresh_s, render
from gateway.scope_page import router as scope_routes
from gateway.sessions import SESSION_LASTS

router = APIRouter(include_in_schema=False)
for part in (partner_routes, scope_routes, breach_routes, circuit_routes, message_routes):
    router.include_router(part)
router.include_router(hand_routes)


def overview_page(desk: Desk, caller: Caller) -> str:
    """The live page as HTML text."""
    picture, config, now = desk.pictures.current(), desk.config.current(), desk.clock.now()
    page = Page(picture, config, now, desk.clock.speed, flows_of(desk), overdue_at(desk), desk.wall.now())
    return render(
        "overview.html",
        page=page.overview(),
        section="overview",
        operator=caller.operator,
        csrf=caller.session.csrf if caller.session else "",
        attribution=desk.attribution,
        refresh_s=refresh_s(desk.clock),
    )


@router.get("/")
async def overview(request: Request) -> Response:
    """The live page; who is not signed in is asked to."""
    caller = caller_of(request)
    if caller is None:
        return RedirectResponse("/sign-in", status_code=303)
    demand(caller, Right.READ)
    # In a thread: where there are a thousand scopes, partners would wait for it.
    return HTMLResponse(await anyio.to_thread.run_sync(overview_page, request.app.state.desk, caller))


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
