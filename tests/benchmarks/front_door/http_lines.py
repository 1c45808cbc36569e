"""The least HTTP/1.1 a load needs: keep-alive connections with one request under way each, and a server of plain answers.

A load generator that shares two cores with what it measures has to cost little: a client library of the usual kind takes
longer for a request than the server it asks.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import httptools


def request_bytes(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole request."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: derms",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Line(asyncio.Protocol):
    """One connection of a client. `ask` sends a request and waits for its status; requests of one line queue up."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[int] | None = None
        self._turn = asyncio.Lock()
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast("asyncio.Transport", transport), True  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("the gateway closed the connection"))

    async def ask(self, request: bytes) -> int:
        """The status of the answer. Raises ConnectionError where the connection ends."""
        async with self._turn:
            if self._transport is None or not self.open:
                raise ConnectionError("closed")
            self._waiting = asyncio.get_running_loop().create_future()
            self._transport.write(request)
            return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def line_to(port: int) -> Line:
    """A connection to a port of this machine."""
    _, protocol = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", port)
    return protocol


@dataclass(slots=True)
class Request:
    """What came in."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Answering(asyncio.Protocol):
    """One connection of a server: every request is handed to `heard` and answered 204."""

    def __init__(self, heard: Callable[[Request], None]) -> None:
        self._heard = heard
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._request = Request()

    def on_url(self, url: bytes) -> None:
        self._request.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        self._request.method = self._parser.get_method().decode()
        self._heard(self._request)
        if self._transport is not None:
            self._transport.write(NO_CONTENT)
