"""Capacity Providers for tests that kill what they talk to: a server that can be held at any request, and a voice without a memory
for connections, so that each request may meet another gateway."""

import http.client
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from schemas.oscp.v20 import BASE_PATH

Hook = Callable[["Heard"], None]


@dataclass(frozen=True)
class Heard:
    """One request of ours as a peer got it. `answered` is set once the peer has written its whole answer."""

    partner_id: str
    method: str
    path: str
    request_id: str
    correlation_id: str | None
    authorization: str
    body: Any
    answered: threading.Event = field(default_factory=threading.Event, compare=False)


@dataclass
class PeerSide:
    """Where all partners listen, each under its id. A Register's token is taken before anything is answered.

    `connected` is called when a connection is accepted, before anything is read; `asked` before an answer is written.
    """

    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    connected: Callable[[], None] | None = None
    asked: Hook | None = None

    def url(self, partner_id: str) -> str:
        return f"http://127.0.0.1:{self.port}/{partner_id}"

    def of(self, partner_id: str, path: str) -> list[Heard]:
        """What one partner was sent, in order."""
        return [each for each in list(self.heard) if each.partner_id == partner_id and each.path == path]

    def take(self, one: Heard) -> None:
        known = any(each.request_id == one.request_id for each in self.of(one.partner_id, one.path))
        if one.path == "register" and one.method != "DELETE" and not known:
            self.tokens[one.partner_id] = one.body["token"]
        self.heard.append(one)
        if self.asked is not None:
            self.asked(one)


@contextmanager
def peer_side() -> Iterator[PeerSide]:
    """Serve on a free loopback port."""
    side = PeerSide()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            partner_id, _, path = self.path.removeprefix("/").partition("/")
            headers = self.headers
            one = Heard(
                partner_id, self.command, path, headers.get("X-Request-ID", ""), headers.get("X-Correlation-ID"),
                headers.get("Authorization", ""), json.loads(body) if body else None,
            )  # fmt: skip
            side.take(one)
            with suppress(OSError):  # who asked may be dead by now
                self.send_response(204)
                self.send_header("Connection", "close")
                self.end_headers()
            one.answered.set()

        do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - the server's naming

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def verify_request(self, request: Any, client_address: Any) -> bool:
            if side.connected is not None:
                side.connected()
            return True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # it died in the middle of its request

    httpd = Server(("127.0.0.1", 0), Handler)
    side.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield side
    finally:
        side.connected = side.asked = None
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def ask(
    port: int, token: str, path: str, body: Any, *, request_id: str, method: str = "POST", correlation_id: str | None = None,
    timeout_s: float = 15.0,
) -> int:  # fmt: skip
    """The status of one request over a connection of its own. Raises OSError or HTTPException where that ends first."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        headers = {"Authorization": f"Token {token}", "Content-Type": "application/json", "X-Request-ID": request_id}
        if correlation_id is not None:
            headers["X-Correlation-ID"] = correlation_id
        connection.request(method, BASE_PATH + path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@dataclass
class Voice:
    """One partner speaks to whoever listens at `port` now. `statuses` are those of all its requests."""

    partner_id: str
    side: PeerSide
    port: Callable[[], int]
    statuses: list[int] = field(default_factory=list)

    def next_id(self) -> str:
        return f"{self.partner_id}-{uuid.uuid4()}"

    def once(self, path: str, body: Any, **more: Any) -> int:
        """One attempt with the newest token it has."""
        request_id = more.pop("request_id", None) or self.next_id()
        status = ask(self.port(), self.side.tokens[self.partner_id], path, body, request_id=request_id, **more)
        self.statuses.append(status)
        return status

    def surely(self, path: str, body: Any, *, within_s: float = 60.0, **more: Any) -> int:
        """As a peer does that means it: again under the same X-Request-ID until it has another answer than 503."""
        request_id, deadline = more.pop("request_id", None) or self.next_id(), time.monotonic() + within_s
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                if (status := self.once(path, body, request_id=request_id, **more)) != 503:
                    return status
            time.sleep(0.05)
        raise AssertionError(f"{path} is not answered within {within_s:g} s; answers before: {self.statuses}")

    def register_body(self, number: int = 0) -> dict[str, Any]:
        entry = {"version": "2.0", "base_url": self.side.url(self.partner_id)}
        return {"token": f"B-{self.partner_id}-{number}", "version_url": [entry]}


def required(heartbeat_s: float | None) -> dict[str, Any]:
    """What a handshake asks for."""
    behaviour: dict[str, Any] = {"measurement_configuration": ["INTERMITTENT"]}
    return {"required_behaviour": behaviour | ({} if heartbeat_s is None else {"heartbeat_interval": heartbeat_s})}


class RoundRobin:
    """A TCP port in front of others: every connection goes to the next of those that take it."""

    def __init__(self, ports: list[int]) -> None:
        self._ports, self._next = ports, 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        for _ in self._ports:
            self._next += 1
            try:
                behind = socket.create_connection(("127.0.0.1", self._ports[self._next % len(self._ports)]), timeout=5)
            except OSError:
                continue
            back = threading.Thread(target=_pump, args=(behind, client), daemon=True)
            back.start()
            _pump(client, behind)
            back.join()
            break
        client.close()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
    source.close()
