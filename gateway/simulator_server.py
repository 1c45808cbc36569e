"""The simulated Capacity Provider's HTTP side: its routes, and a listener that can go away and come back."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from gateway.simulator_config import Switches
from gateway.simulator_reception import BASE_PATH, TOKEN_PATH, Reception, Reply

GRACEFUL_S = 2


class Host(Protocol):
    """What the routes need of the simulator."""

    reception: Reception

    def report(self) -> dict[str, Any]:
        """What it has heard, said and found wrong."""

    def state(self) -> dict[str, Any]:
        """Where its life stands."""

    def go_down(self, seconds: float) -> None:
        """Be away for that many wall seconds."""


def build_app(host: Host) -> FastAPI:
    """The OSCP endpoints, the token endpoint, and `/simulator/*` for whoever runs it."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.api_route(BASE_PATH + "/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def oscp(path: str, request: Request) -> Response:
        return _response(host.reception.answer(request.method, f"/{path}", request.headers, await request.body()))

    @app.post(TOKEN_PATH)
    async def token(request: Request) -> Response:
        return _response(host.reception.token(request.headers, await request.body()))

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

    return app


def _response(reply: Reply) -> Response:
    headers = dict(reply.headers)
    if reply.body is None:
        return Response(status_code=reply.status, headers=headers)
    return JSONResponse(dict(reply.body), status_code=reply.status, headers=headers)


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
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
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

    async def stop(self) -> None:
        """Take no more connections, end those there are, return when all is closed."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task})  # unlike awaiting it, does not cancel it with us
        self._server = self._task = None
