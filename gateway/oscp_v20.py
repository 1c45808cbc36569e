"""The OSCP 2.0 listener of a Flexibility Provider (contract 5, semantics 6; oscp-2.0 1 to 4).

`POST /register` and its PUT and DELETE, `/handshake`, `/handshake_acknowledge` under each of its spellings,
`/heartbeat` and `/update_group_capacity_forecast`, all under `/oscp/fp/2.0`. It keeps no state: what it knows
it reads from `derms.config` and `derms.connections`, what it takes it appends to `derms.inbound`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import tzinfo
from functools import partial
from typing import Protocol

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.oscp_auth import ConnectionsView, Doorkeeper, HeldBack, Peer, unavailable
from gateway.oscp_exchanges import Exchanges, Poster
from gateway.oscp_intake import EFFECT_WITHIN_S, Appender, Cipher, Intake
from gateway.oscp_openapi import ANSWERS, described, request_body
from gateway.oscp_refusals import Refusal
from gateway.oscp_strangers import Strangers
from gateway.oscp_urls import Resolve
from gateway.problems import oscp_error
from gateway.rate import Buckets
from pipelines.views import View
from schemas.clock import Clock, wall_seconds
from schemas.config import Configuration
from schemas.facts import derived_id
from schemas.oscp.v20 import BASE_PATH, PATHS, Action
from sinks.addresses import resolve as resolve_address
from sinks.errors import Unavailable

log = logging.getLogger(__name__)

RECEIVED = (
    Action.REGISTER,
    Action.HANDSHAKE,
    Action.HANDSHAKE_ACKNOWLEDGE,
    Action.HEARTBEAT,
    Action.UPDATE_GROUP_CAPACITY_FORECAST,
)
ALIASES: dict[Action, tuple[str, ...]] = {
    Action.HANDSHAKE_ACKNOWLEDGE: ("/handshake_acknowledgment", "/handshake_acknowledgement"),
}
"""Other spellings peers use (oscp-2.0 1.2)."""
METHODS: dict[Action, tuple[str, ...]] = {Action.REGISTER: ("POST", "PUT", "DELETE")}
RECORDED = frozenset({400, 404, 409, 413, 415, 501})
"""Refusals of a known partner that people may want to read about; the others would only repeat themselves."""


class Keeper(Appender, Poster, Protocol):
    """`sinks.kafka.AsyncAppender`: keeps messages, and records what may get lost."""


def oscp_app(
    *,
    config: View[Configuration],
    connections: ConnectionsView,
    appender: Keeper,
    secrets: Cipher,
    clock: Clock,
    public_url: str,
    local_zone: tzinfo | None = None,
    effect_within_s: float = EFFECT_WITHIN_S,
    resolve: Callable[[bool], Resolve] | None = None,
    now_s: Callable[[], float] = wall_seconds,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> FastAPI:
    """The listener's application; every answer but 204 is `{"message": …}`.

    `public_url` is where partners reach us, without the OSCP path. `local_zone` is the zone of peers with naive
    times (None: this machine's). `resolve(allow_private)`, `now_s` (wall seconds for rates), `pause` (before a 429)
    and `effect_within_s` (how long PUT and DELETE may wait) have other values only in tests.
    """
    app = FastAPI(title="OSCP 2.0 Flexibility Provider", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.openapi = partial(described, app, public_url)  # type: ignore[method-assign]
    doorkeeper = Doorkeeper(config, connections, Buckets(now_s), pause)
    intake = Intake(config, connections, appender, secrets, clock, resolve or _resolver, local_zone, doorkeeper.catch_up, effect_within_s)

    exchanges = Exchanges(appender, clock)

    strangers = Strangers(appender, clock, now_s)

    async def admitted(request: Request, action: Action, began: float) -> Peer:
        try:
            return await doorkeeper.admit(request)
        except HeldBack as held:
            if (count := strangers.held_back(held.peer.partner.id)) is not None:
                exchanges.note(
                    held.peer, action, request, 429, time.monotonic() - began, f"{held}, as {count - 1} before it since the last line"
                )
            raise
        except Refusal as refusal:
            if refusal.status in (401, 403, 429):
                strangers.refused(request.client.host if request.client else "an unknown address", refusal.status, request.scope["path"])
            raise

    def route(action: Action) -> Callable[[Request], object]:
        async def take(request: Request) -> Response:
            began = time.monotonic()
            peer = await admitted(request, action, began)
            try:
                request_id = await intake.take(peer, action, request)
            except Refusal as refusal:
                exchanges.note(peer, action, request, refusal.status, time.monotonic() - began, str(refusal))
                if refusal.status in RECORDED:
                    words = f"{request.method} {action} of {peer.partner.name or peer.partner.id} refused with {refusal.status}: {refusal}"
                    asked = request.headers.get("X-Request-ID", "")
                    await intake.tell(peer, "message.refused", words, derived_id(peer.partner.id, asked, clock.now()))
                raise
            exchanges.note(peer, action, request, 204, time.monotonic() - began, request_id=request_id)
            return Response(status_code=204)

        return take

    for action in RECEIVED:
        endpoint = route(action)
        for path in (PATHS[action], *ALIASES.get(action, ())):
            for method in METHODS.get(action, ("POST",)):
                app.add_api_route(
                    BASE_PATH + path,
                    endpoint,
                    methods=[method],
                    name=f"{action} {method}",
                    operation_id=f"{method.lower()}{path.replace('/', '_')}",
                    status_code=204,
                    response_class=Response,
                    responses=ANSWERS,
                    openapi_extra=request_body(action, method),
                    include_in_schema=path == PATHS[action],
                )
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(_TidyPath)
    return app


def _resolver(allow_private: bool) -> Resolve:
    return partial(resolve_address, allow_private=allow_private)


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return oscp_error(error.status, error.message, error.errors, error.headers)


async def _unavailable(request: Request, error: Exception) -> Response:
    """What we need to know has not been read yet, or cannot be now."""
    return await _refused(request, unavailable(getattr(error, "retry_after_s", None)))


async def _no_such_route(request: Request, error: Exception) -> Response:
    """404 for a path that is none of ours, 405 with the methods that are there."""
    for action in RECEIVED:
        for path in (PATHS[action], *ALIASES.get(action, ())):
            if request.url.path == BASE_PATH + path:
                methods = ", ".join(METHODS.get(action, ("POST",)))
                return oscp_error(405, f"{action} takes {methods}", headers={"Allow": methods})
    return oscp_error(404, "there is nothing at this path")


async def _failed(_: Request, error: Exception) -> Response:
    log.error("a request failed: %s", type(error).__name__)
    return oscp_error(500, "this failed on our side")


class _TidyPath:
    """Peers join our base URL and a path with one slash too many, or end with one: both mean the path itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            parts = [part for part in scope["path"].split("/") if part]
            scope = {**scope, "path": "/" + "/".join(parts)}
        await self._app(scope, receive, send)
