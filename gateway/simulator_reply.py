"""What a simulated Capacity Provider answers, and how an answer that misbehaves goes over the wire."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.simulator_ledger import Heard
from gateway.simulator_switches import Kind, Misanswer

HUGE_BYTES = 2 * 1024 * 1024
PAGE = b"<!doctype html><title>Portal</title><h1>Please sign in</h1>"
Close = Callable[[Scope], None]
"""Closes the connection a request came by."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: status, JSON body (None: empty), headers.

    `manner` is how it misbehaves on the way; `heard` the message that is taken in with it; `excused` says that a refusal is no
    fault of who is refused.
    """

    status: int
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Misanswer | None = None
    heard: Heard | None = None
    excused: bool = False

    def content(self) -> bytes:
        """The bytes of the body."""
        return b"" if self.body is None else json.dumps(dict(self.body)).encode()


def error(status: int, words: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An OSCP error."""
    return Reply(status, {"message": words}, headers or {})


def misbehaving(manner: Misanswer) -> Reply:
    """The answer that is given in place of a good one, where what was asked is not done."""
    headers = {} if manner.retry_after_s is None else {"Retry-After": str(manner.retry_after_s)}
    if 300 <= manner.status < 400:
        headers["Location"] = "/oscp/elsewhere"
    return replace(error(manner.status, "told to misbehave", headers), manner=manner)


class Answering(Response):
    """A reply on its way, misbehaviour included. `close` ends the connection under it."""

    def __init__(self, reply: Reply, close: Close) -> None:
        super().__init__(reply.content(), reply.status, dict(reply.headers), "application/json" if reply.body is not None else None)
        self._manner, self._close = reply.manner, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, in its manner."""
        manner = self._manner
        match manner.kind if manner is not None else None:
            case Kind.SILENT:
                await _gone(receive)
            case Kind.DROP:
                self._close(scope)
                await _gone(receive)
            case Kind.CUT:
                await _begin(send, 200, b"application/json", 1000)
                await send({"type": "http.response.body", "body": b'{"message": "cut', "more_body": True})
                self._close(scope)
                await _gone(receive)
            case Kind.TRICKLE if manner is not None:
                await _trickled(send, manner)
            case Kind.SLOW if manner is not None:
                await asyncio.sleep(manner.seconds)
                await super().__call__(scope, receive, send)
            case Kind.GARBAGE | Kind.HTML | Kind.HUGE if manner is not None:
                kind, body = _odd(manner.kind)
                await _begin(send, manner.status, kind, len(body))
                await send({"type": "http.response.body", "body": body})
            case _:
                await super().__call__(scope, receive, send)


def _odd(kind: Kind) -> tuple[bytes, bytes]:
    """Content type and body."""
    if kind is Kind.HTML:
        return b"text/html; charset=utf-8", PAGE
    return b"application/json", b'{"message": \xff\xfe' if kind is Kind.GARBAGE else b'{"message": "' + HUGE_BYTES * b"x" + b'"}'


async def _begin(send: Send, status: int, kind: bytes, length: int) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _trickled(send: Send, manner: Misanswer) -> None:
    body = json.dumps({"message": "all in good time"}).encode()
    await _begin(send, manner.status, b"application/json", len(body))
    for index in range(len(body)):
        await asyncio.sleep(manner.seconds / len(body))
        await send({"type": "http.response.body", "body": body[index : index + 1], "more_body": index + 1 < len(body)})


async def _gone(receive: Receive) -> None:
    """Wait for the other side to be gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
