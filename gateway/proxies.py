"""Who really sends a request that came through a proxy, and over which scheme: believed of trusted proxies only.

`DERMS_GATEWAY__TRUSTED_PROXIES` names them. Of a request that comes straight from one, `X-Forwarded-For` is read from
the right (the end that our own proxies wrote) up to the first address that is none of theirs, and the last word of
`X-Forwarded-Proto` is the scheme. From anybody else both change nothing. RFC 7239 `Forwarded` is never read.
"""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROXIED = "derms.proxied"
"""Set in the scope of a request that a trusted proxy passed on: its sender is not on this machine, whatever the address says."""


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks separated by commas. ValueError naming the first that is neither."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError:
            raise ValueError(f"{part!r} is neither an address nor a network such as 10.0.0.0/24") from None
    return tuple(found)


def address_of(text: str) -> Address | None:
    """The address in `1.2.3.4`, `1.2.3.4:567`, `::1` or `[::1]:567`; IPv4 where IPv6 only wraps it; None for anything else."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found


def within(address: Address | None, trusted: Sequence[Network]) -> bool:
    """Whether the address is one of the networks'."""
    return address is not None and any(address in network for network in trusted)


class TrustedProxies:
    """ASGI middleware: puts the true client and scheme into the scope of what trusted proxies pass on. The headers stay."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app, self._trusted = app, tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with what a trusted proxy says about the sender."""
        client = scope.get("client")
        if scope["type"] == "http" and client and within(address_of(client[0]), self._trusted):
            scope = self._seen_through(scope)
        await self._app(scope, receive, send)

    def _seen_through(self, scope: Scope) -> Scope:
        headers = Headers(scope=scope)
        found: Scope = {**scope, PROXIED: True}
        sender = self._sender(",".join(headers.getlist("x-forwarded-for")))
        if sender is not None:
            found["client"] = (str(sender), 0)
        schemes = [word.strip().lower() for line in headers.getlist("x-forwarded-proto") for word in line.split(",")]
        if schemes and schemes[-1] in ("http", "https"):
            found["scheme"] = schemes[-1]
        return found

    def _sender(self, path: str) -> Address | None:
        """The rightmost address that is no trusted proxy's; the leftmost known one if all are; None if nothing is said."""
        found: Address | None = None
        for hop in reversed(path.split(",")):
            address = address_of(hop)
            if address is None:  # "unknown", or not written by a proxy: what is left of it cannot be believed either
                break
            found = address
            if not within(address, self._trusted):
                break
        return found
