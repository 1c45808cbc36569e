"""A listener on a socket of its own, in a thread, and clients that speak to it in bytes."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from gateway.http_protocol import Limits
from gateway.listener import OPERATIONS_REFUSALS, OSCP_HEADERS, OSCP_REFUSALS, Listener

DEADLINE_S = 10.0
QUICK = Limits(head_s=0.3, keep_alive_s=1, rest_s=0.3, unread_s=0.3, goodbye_s=0.2, handshake_s=0.3)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it knows of the request, after reading its body; `/early` answers before it, `/large` with 4 MiB."""
    taken = b""
    while scope["path"] != "/early":
        message = await receive()
        taken += message.get("body", b"")
        if not message.get("more_body"):
            break
    body = b"x" * (4 << 20) if scope["path"] == "/large" else repr((scope["method"], scope["path"], scope["headers"], taken)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def listening(app: Any = echo, *, name: str = "OSCP", host: str = "127.0.0.1", **options: Any) -> Iterator[Listener]:
    """A listener that has started, on a free port; stopped afterwards."""
    if name == "OSCP":
        options = {"refusals": OSCP_REFUSALS, "headers": OSCP_HEADERS, **options}
    else:
        options = {"refusals": OPERATIONS_REFUSALS, **options}
    listener = Listener(app, name, host, 0, **options)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(listener.serve())
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        until(lambda: listener.started or bool(failed))
        assert not failed, failed
        yield listener
    finally:
        listener.should_exit = True
        thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert not failed, failed


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fails after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def connected(listener: Listener, context: ssl.SSLContext | None = None, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from `source`, over TLS with a context; reading ends with an error after a deadline."""
    with socket.create_connection(("127.0.0.1", listener.port), timeout=DEADLINE_S, source_address=(source, 0)) as plain:
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                yield wrapped


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def status_of(answer: bytes) -> int:
    """The status of an answer; 0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


def ask(listener: Listener, request: bytes, context: ssl.SSLContext | None = None, source: str = "127.0.0.1") -> bytes:
    """All that comes back for some bytes, until the other side ends the connection."""
    with connected(listener, context, source) as connection:
        connection.sendall(request)
        return all_of(connection)


def closing(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """A request after which the connection ends."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]).encode() + body
