"""How `sinks.http` opens connections: only to addresses that passed the fence (`sinks.addresses`), one after the other (semantics 8.7)."""

import asyncio
from collections.abc import Iterable

import httpcore

from sinks.addresses import resolve

CONNECT_S = 5.0


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
