"""The simulated Capacity Provider's HTTP side: its routes, and a listener that can go away and come back."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, Protocol

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from gateway.simulator_config import PlannedForecast
from gateway.simulator_life import Life
from gateway.simulator_reception import BASE_PATH, TOKEN_PATH, Reception
from gateway.simulator_reply import Answering, Close, misbehaving
from gateway.simulator_switches import Switches

GRACEFUL_S = 2


class Host(Protocol):
    """What the routes need of the simulator."""

    reception: Reception
    life: Life

    def report(self) -> dict[str, Any]:
        """What it has heard, said and found wrong."""

    def state(self) -> dict[str, Any]:
        """Where its life stands."""

    def go_down(self, seconds: float) -> None:
        """Be away for that many wall seconds."""

    async def lose_state(self) -> None:
        """Forget every token and address."""

    async def begin_anew(self, token_a: str | None, initial_token: str | None) -> None:
        """Register from the beginning."""

    def do(self, what: Coroutine[Any, Any, None], name: str) -> None:
        """Begin something beside the life."""


class Told(BaseModel):
    """The token of a new registration: theirs, to register with, or ours, that they will register with."""

    model_config = ConfigDict(extra="forbid")

    token_a: str | None = Field(default=None, min_length=1, repr=False)
    initial_token: str | None = Field(default=None, min_length=1, repr=False)


def build_app(host: Host, hang_up: Close) -> FastAPI:
    """The OSCP endpoints, the token endpoint, and `/simulator/*` for whoever runs it. `hang_up` closes a request's connection."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.api_route(BASE_PATH + "/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def oscp(path: str, request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)  # gone in the midst of its message, which therefore never came
        reply = host.reception.answer(request.method, f"/{path}", request.headers, body)
        if reply.heard is not None:
            await host.life.heard(reply.heard)
        return Answering(reply, hang_up)

    @app.post(TOKEN_PATH)
    async def token(request: Request) -> Response:
        form, manner = await request.body(), host.reception.switches.token_misanswer()
        if manner is not None and not manner.takes:
            return Answering(misbehaving(manner), hang_up)
        return Answering(replace(host.reception.credentials.bearer(request.headers, form), manner=manner), hang_up)

    @app.get("/simulator/report")
    async def report() -> dict[str, Any]:
        return host.report()

    @app.get("/simulator/state")
    async def state() -> dict[str, Any]:
        return host.state()

    @app.post("/simulator/switches", status_code=204)
    async def switches(wanted: Switches) -> None:
        host.reception.switches = wanted

    @app.post("/simulator/down", status_code=202)
    async def down(seconds: float = Query(gt=0, le=3600)) -> None:
        host.go_down(seconds)

    @app.post("/simulator/revoke", status_code=204)
    async def revoke() -> None:
        host.reception.credentials.revoke()

    @app.post("/simulator/lose-state", status_code=204)
    async def lose_state() -> None:
        await host.lose_state()

    @app.post("/simulator/register", status_code=202)
    async def register(told: Told) -> None:
        await host.begin_anew(told.token_a, told.initial_token)

    for name, act in (("handshake", host.life.shake_hands), ("renew", host.life.renew), ("deregister", host.life.deregister)):
        app.add_api_route(f"/simulator/{name}", _doing(host, act, name), methods=["POST"], status_code=202)

    @app.post("/simulator/forecast", status_code=202)
    async def forecast(planned: PlannedForecast) -> None:
        host.do(host.life.forecast(planned), "forecast")

    return app


def _doing(host: Host, act: Callable[[], Coroutine[Any, Any, None]], name: str) -> Callable[[], Awaitable[None]]:
    async def route() -> None:
        host.do(act(), name)

    return route


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs the loop decides when it ends."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """Serves an ASGI app in the running loop. Port 0 takes a free one, which stays the same after a stop."""

    def __init__(self, app: Callable[..., Awaitable[None]], host: str, port: int) -> None:
        self._app, self._host, self.port = app, host, port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; returns when connections are taken. OSError where the port is not free."""
        # Named as TCP, or asyncio leaves out TCP_NODELAY: every answer would wait 40 ms for the acknowledgement of its head.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self.port))
        except OSError:
            listening.close()
            raise
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=GRACEFUL_S
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name="simulator-http")
        await self._server.listening.wait()

    def hang_up(self, scope: Scope) -> None:
        """Close the connection a request came by, after what has been written to it."""
        for connection in self._server.server_state.connections if self._server is not None else ():
            transport = getattr(connection, "transport", None)
            if transport is not None and getattr(connection, "client", None) == scope.get("client"):
                transport.close()

    async def stop(self) -> None:
        """Take no more connections, end those there are, return when all is closed."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task})  # unlike awaiting it, does not cancel it with us
        self._server = self._task = None
