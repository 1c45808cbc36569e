"""A partner's API over real sockets, for tests: answers as told, remembers every request."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    text: str

    @property
    def id(self) -> str:
        """Its X-Request-ID."""
        return self.headers.get("x-request-id", "")

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.text)


Reply = tuple[int, bytes, dict[str, str]]
Answering = Callable[[Request], Reply | int]


@dataclass
class FakePartner:
    """`answer` decides each reply (a status alone will do) and may be replaced at any time."""

    url: str
    answer: Answering = lambda request: 204
    requests: list[Request] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ids(self, status: int | None = None) -> list[str]:
        """The ids of the requests in their order; only those that were answered with `status`, if one is given."""
        with self.lock:
            pairs = zip(self.requests, self.statuses, strict=False)
            return [request.id for request, answered in pairs if status is None or answered == status]


@contextmanager
def fake_partner(answer: Answering = lambda request: 204) -> Iterator[FakePartner]:
    """Serve a partner on a free loopback port."""
    partner = FakePartner("", answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, text)
            found = partner.answer(request)
            status, body, headers = found if isinstance(found, tuple) else (found, b"", {})
            with partner.lock:
                partner.requests.append(request)
                partner.statuses.append(status)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # whoever asked may be gone by now
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _any  # noqa: N815 - the server's naming

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a peer that was killed
                super().handle_error(request, client_address)

    httpd = Server(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    partner.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    try:
        yield partner
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
