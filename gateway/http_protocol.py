"""HTTP/1.1 as the listeners speak it: uvicorn's protocol on httptools, bounded in time and memory for clients that mean harm.

What uvicorn leaves open and this adds: a time for a request's head and for the rest of a body that was answered early,
a size of the head, a number of pipelined requests, an end to answers nobody reads, and refusals in the listener's own words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.places import Place


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much; seconds of wall time, bytes. A client has to have …"""

    head_s: float = 10.0
    """… sent a request's head, from the connection or the head's first byte on;"""
    keep_alive_s: float = 75.0
    """… begun another request;"""
    rest_s: float = 10.0
    """… sent the rest of a body that was answered before it was complete;"""
    unread_s: float = 30.0
    """… read an answer that waits in our buffers, or all but a little of it;"""
    goodbye_s: float = 2.0
    """… agreed to a connection's end, and"""
    handshake_s: float = 10.0
    """… finished the TLS handshake."""
    head_bytes: int = 32 * 1024
    pipelined: int = 16


Words = Callable[[int, str], tuple[str, bytes]]
"""Content type and body of a refusal: an OSCP `Error`, or a problem."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """How a listener refuses what never becomes a request."""

    words: Words
    headers: Mapping[str, str]


_OFFERS = (b"upgrade", b"http2-settings")


class _At(Enum):
    HEAD = "before or within a head"
    BODY = "within a body"


class _NotTaken(Exception):
    """Raised inside the parser, which ends it: `_problem` says why."""


class BoundedHttp(HttpToolsProtocol):
    """One connection. `tick` has to be called every moment: it ends what is overdue."""

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, loop: Any, *, limits: Limits, refusals: Refusals, place: Place
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self._limits, self._refusals, self._place = limits, refusals, place
        self._at = _At.HEAD
        self._begun = False
        self._offered: tuple[bytes, bytes] | None = None
        self._heads = 0
        self._head_size = 0
        self._in_parser = 0
        self._due: float | None = None
        self._unread_due: float | None = None
        self._gone_due: float | None = None
        self._problem: tuple[int, str] | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come (after the TLS handshake)."""
        super().connection_made(transport)
        self._place.shed = transport.abort
        self._place.idle()
        self._due = self.loop.time() + self._limits.head_s

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._place.free()

    def given_up(self) -> None:
        """The connection ended on its way in; uvloop does not call `connection_lost` then, whether it was made or not."""
        self.connections.discard(self)
        self._place.free()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; answered with a refusal if they are none, or too many."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._at is _At.HEAD:
            self._begin()
        before = self._at, self._heads
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(*(self._problem or (400, "this is not an HTTP/1.1 request")))
        else:
            # the parser calls nobody before a line is whole: what lies in it is counted here
            self._in_parser = self._in_parser + len(data) if before == (_At.HEAD, self._heads) else 0
            if self._in_parser > self._limits.head_bytes:
                self.refuse(431, f"the head of a request may have {self._limits.head_bytes} bytes")

    def _begin(self) -> None:
        """The first byte of a head, from which on its time runs."""
        if not self._begun:
            self._begun, self._due = True, self.loop.time() + self._limits.head_s

    def _without_upgrade(self, rest: bytes) -> None:
        """Parse on as if no other protocol had been offered.

        The parser leaves all that follows such a head to the other protocol, a request's body too; but Java's client
        offers h2c with its first request on a connection, and has every right to be answered in HTTP/1.1.
        """
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"http2-settings")]
        method, version = self._offered or (b"", b"")
        head = [method, b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in kept:
            tokens = [token for token in value.split(b",") if name != b"connection" or token.strip().lower() not in _OFFERS]
            head += [name, b": ", b",".join(tokens), b"\r\n"]
        self.parser, self._offered = httptools.HttpRequestParser(self), None
        self.data_received(b"".join([*head, b"\r\n", rest]))

    # what the parser finds

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._head_size = 0
        self._begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which is dropped: the request has been judged by then."""
        self._count(len(name) + len(value) + 4)
        if self._at is _At.HEAD:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._limits.head_bytes:
            self._problem = 431, f"the head of a request may have {self._limits.head_bytes} bytes"
            raise _NotTaken

    def on_headers_complete(self) -> None:
        """The request is handed to the application."""
        self._heads += 1
        if self.parser.should_upgrade():
            self._offered = self.parser.get_method(), self.parser.get_http_version().encode()
            if self._offered[0] == b"CONNECT":
                self._problem = 400, "this is no proxy"
                raise _NotTaken
            return
        if len(self.pipeline) >= self._limits.pipelined:
            self._problem = 429, "too many requests were sent without waiting for answers"
            raise _NotTaken
        super().on_headers_complete()
        self._at, self._begun, self._due = _At.BODY, False, None
        self._place.busy()

    def on_message_complete(self) -> None:
        """The request is here as a whole."""
        if self._offered is not None:
            return
        super().on_message_complete()
        self._at = _At.HEAD
        self._settle()

    def on_response_complete(self) -> None:
        """An answer has been written."""
        super().on_response_complete()
        self._settle()

    def _settle(self) -> None:
        """What is awaited of the client once it has its answer."""
        if self.cycle is None or not self.cycle.response_complete:
            return
        if self._at is _At.BODY:
            self._due = self.loop.time() + self._limits.rest_s
            return
        if not self._begun:
            self._due = self.loop.time() + self._limits.keep_alive_s
        self._place.idle()

    # what comes too late

    def pause_writing(self) -> None:
        """The client reads more slowly than is written."""
        super().pause_writing()
        self._unread_due = self.loop.time() + self._limits.unread_s

    def resume_writing(self) -> None:
        """The client has read nearly all."""
        super().resume_writing()
        self._unread_due = None

    def tick(self, now: float) -> None:
        """End what is overdue at `now`, on the loop's clock."""
        if self.transport.is_closing():
            if self._gone_due is None:
                unread = self.transport.get_write_buffer_size() > 0
                self._gone_due = now + (self._limits.unread_s if unread else self._limits.goodbye_s)
            elif now >= self._gone_due:
                self.transport.abort()
        elif self._unread_due is not None and now >= self._unread_due:
            self.transport.abort()
        elif self._due is not None and now >= self._due:
            if self._at is _At.HEAD and self._begun:
                self.refuse(408, f"the head of the request did not come within {self._limits.head_s:g} s")
            else:
                self.transport.close()

    def refuse(self, status: int, words: str) -> None:
        """Answer with `status` and end the connection; an answer that has begun is cut off instead."""
        if self.cycle is not None and not self.cycle.response_complete and (self.cycle.response_started or self.pipeline):
            self.transport.abort()
            return
        kind, body = self._refusals.words(status, words)
        headers = {"content-type": kind, "content-length": str(len(body)), "connection": "close", **self._refusals.headers}
        given = [*self.server_state.default_headers, *((name.lower().encode(), value.encode()) for name, value in headers.items())]
        lines = (name + b": " + value + b"\r\n" for name, value in dict(given).items())
        self.transport.write(STATUS_LINE[status] + b"".join(lines) + b"\r\n" + body)
        self.transport.close()
