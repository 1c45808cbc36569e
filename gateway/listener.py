"""One listener of the web side: an application on a socket, with or without TLS, that takes so many connections and no more."""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from gateway.guard import SECURITY_HEADERS
from gateway.http_protocol import BoundedHttp, Limits, Refusals
from gateway.places import Place, Places
from gateway.problems import PROBLEM_JSON
from gateway.proxies import Network, TrustedProxies, address_of, within
from gateway.tls import Certificates
from sinks.errors import Misconfigured

log = logging.getLogger(__name__)

LAST_ANSWERS_S = 5
BACKLOG = 1024
AT_ONCE = 64
"""New connections taken before others get their turn."""
NO_FILES_PAUSE_S = 0.5
TICKS = 3
"""uvicorn looks round ten times a second; every third time connections that are overdue end."""

OSCP_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def _oscp_words(_: int, words: str) -> tuple[str, bytes]:
    return "application/json", json.dumps({"message": words}).encode()


def _problem_words(status: int, words: str) -> tuple[str, bytes]:
    return PROBLEM_JSON, json.dumps({"type": "about:blank", "title": "Refused", "status": status, "detail": words}).encode()


OSCP_REFUSALS = Refusals(_oscp_words, OSCP_HEADERS)
OPERATIONS_REFUSALS = Refusals(_problem_words, SECURITY_HEADERS)


class Listener(uvicorn.Server):
    """`serve` runs it until `should_exit`; signals are left to the process.

    `headers` go with every answer. `certificates` None is plain HTTP. Of the peers in `trusted` it is believed whose
    requests they pass on. `limits` differ in tests only. Once `started`, `port` is where it listens.
    """

    def __init__(
        self,
        app: ASGIApp,
        name: str,
        host: str,
        port: int,
        *,
        refusals: Refusals,
        headers: Mapping[str, str] | None = None,
        certificates: Certificates | None = None,
        trusted: Sequence[Network] = (),
        connections: int = 1000,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        config = uvicorn.Config(
            TrustedProxies(app, trusted),
            host=host,
            port=port,
            http=BoundedHttp,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=list((headers or {}).items()),
            lifespan="off",
            timeout_graceful_shutdown=LAST_ANSWERS_S,
            timeout_keep_alive=int(self._limits.keep_alive_s) or 1,
        )
        super().__init__(config)
        self.name, self.port = name, port
        self._refusals, self._certificates = refusals, certificates
        self.places = Places(name, connections, shared=lambda address: within(address_of(address), trusted))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Raises Misconfigured where that cannot be."""
        door = Door(sockets or self._bound(), self.places, self._certificates, self._limits, self._protocol)
        self.port = door.port
        self.servers = [cast("asyncio.Server", door)]  # what uvicorn calls of a server is there: close and wait_closed
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does every tenth of a second, and an end to connections that are overdue."""
        if counter % TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, BoundedHttp):
                    connection.tick(now)
        return await super().on_tick(counter)

    def _protocol(self, place: Place) -> BoundedHttp:
        loop = asyncio.get_running_loop()
        return BoundedHttp(self.config, self.server_state, loop, limits=self._limits, refusals=self._refusals, place=place)

    def _bound(self) -> list[socket.socket]:
        host, port = self.config.host, self.config.port
        bound: list[socket.socket] = []
        try:
            for family, _, _, _, address in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
                if not any(address == other.getsockname() for other in bound):
                    bound.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
        except OSError as error:
            for other in bound:
                other.close()
            setting = f"DERMS_GATEWAY__{self.name.upper()}_{'HOST' if isinstance(error, socket.gaierror) else 'PORT'}"
            problem = f"cannot listen on {host}:{port} ({error.strerror or 'no such address'})"
            raise Misconfigured(setting, problem, "free it, or set another") from None
        return bound


class Door:
    """Takes new connections at listening sockets while there are places; uvicorn's idea of a server."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        places: Places,
        certificates: Certificates | None,
        limits: Limits,
        protocol: Callable[[Place], BoundedHttp],
    ) -> None:
        self._sockets, self._places, self._certificates, self._limits, self._protocol = sockets, places, certificates, limits, protocol
        self._loop = asyncio.get_running_loop()
        self._coming: set[asyncio.Task[None]] = set()
        self.port = int(sockets[0].getsockname()[1])
        for listening in sockets:
            listening.setblocking(False)
            self._watch(listening)

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() != -1:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection can be taken now: %s", error.strerror)
                self._loop.remove_reader(listening)
                self._loop.call_later(NO_FILES_PAUSE_S, self._watch, listening)
                return
            place = self._places.take(address[0])
            if place is None:
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._let_in(connection, place))
            self._coming.add(task)
            task.add_done_callback(partial(self._came, connection))
            place.shed = partial(_give_up, task)
            place.idle()

    async def _let_in(self, connection: socket.socket, place: Place) -> None:
        """Hand the connection to the protocol, after the TLS handshake where there is one."""
        options: dict[str, Any] = {}
        if self._certificates is not None:
            options = {
                "ssl": self._certificates.current(),
                "ssl_handshake_timeout": self._limits.handshake_s,
                "ssl_shutdown_timeout": self._limits.goodbye_s,
            }
        protocol = self._protocol(place)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection, **options)
        except (OSError, ssl.SSLError, TimeoutError):  # the client's doing, and every scanner's: not worth a line
            protocol.given_up()
        except asyncio.CancelledError:
            protocol.given_up()
            raise

    def _came(self, connection: socket.socket, task: "asyncio.Task[None]") -> None:
        self._coming.discard(task)
        if task.cancelled():
            connection.close()  # where it was given up before it began

    def close(self) -> None:
        """Take no more connections."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        for task in tuple(self._coming):
            task.cancel()

    async def wait_closed(self) -> None:
        """Until connections on their way in are given up."""
        await asyncio.gather(*self._coming, return_exceptions=True)


def _give_up(task: "asyncio.Task[None]") -> None:
    task.cancel()
