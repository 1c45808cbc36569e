"""How `sinks.http` opens connections and ends exchanges (semantics 8.7).

Connections go only to addresses that passed the fence (`sinks.addresses`), one after the other. An exchange ends when its
time is over or 1 MiB of its answer has been read. That is so for each exchange by itself, also where a request is repeated
with another token.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable

import httpcore

from sinks.addresses import resolve

CONNECT_S = 5.0
TOTAL_S = 30.0
MAX_ANSWER = 1024 * 1024
TOTAL, STARTED = "total", "started"
"""Extensions of a request and of its response: the wall seconds it may take in all, and the monotonic second it began."""


class FencedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections only to addresses that passed the fence, and to exactly those."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the host's addresses that takes one, within `timeout` (wall seconds). Raises Refused for a
        host that has no permitted address, Unavailable for one that has none now, httpcore's errors where nobody answers."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await resolve(host, port, allow_private=self._allow_private)
                return await self._first(addresses, port, socket_options)
        except TimeoutError:
            raise httpcore.ConnectTimeout from None

    async def _first(
        self, addresses: list[str], port: int, socket_options: Iterable[httpcore.SOCKET_OPTION] | None
    ) -> httpcore.AsyncNetworkStream:
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, timeout=CONNECT_S / 2, socket_options=socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, timeout=CONNECT_S, socket_options=socket_options)


class BoundedPool(httpcore.AsyncConnectionPool):
    """A pool whose exchanges end: after the seconds in the request's extension `TOTAL`, and at 1 MiB of the answer's body."""

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """One exchange; the answer's body is still to be read. Raises TimeoutError, as reading the body does, when its time is over."""
        started = time.monotonic()
        deadline = asyncio.get_running_loop().time() + request.extensions.get(TOTAL, TOTAL_S)
        async with asyncio.timeout_at(deadline):
            response = await super().handle_async_request(request)
        return httpcore.Response(
            response.status,
            # we asked for no coding: who sends one all the same gets its bytes taken as they are, and nobody unpacks them
            headers=[(name, value) for name, value in response.headers if name.lower() != b"content-encoding"],
            content=_BoundedBody(response.stream, deadline),
            extensions={**response.extensions, STARTED: started},
        )


class _BoundedBody:
    """The first mebibyte of a body, until the deadline."""

    def __init__(self, stream: object, deadline: float) -> None:
        assert isinstance(stream, AsyncIterable)  # noqa: S101 - what an asynchronous pool answers with
        self._stream, self._deadline = stream, deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks, left = aiter(self._stream), MAX_ANSWER
        while left > 0:
            try:
                async with asyncio.timeout_at(self._deadline):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            yield chunk[:left]
            left -= len(chunk)

    async def aclose(self) -> None:
        """Give the connection back, or close it where something of the body was not read."""
        if (close := getattr(self._stream, "aclose", None)) is not None:
            await close()


def tls_error_in(problem: BaseException) -> ssl.SSLError | None:
    """The first TLS error among the causes of trouble, if there is one."""
    seen: BaseException | None = problem
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = seen.__cause__ or seen.__context__
    return seen
