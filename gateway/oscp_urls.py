"""Where a partner says it can be reached, before we believe it (semantics 6.3, 6.7). The fence itself is `sinks.addresses`."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from gateway.oscp_refusals import Refusal, invalid
from gateway.problems import FieldError
from sinks.errors import Refused, Unavailable

Resolve = Callable[[str, int], Awaitable[object]]
"""Raises Refused for a host that has no permitted address, Unavailable for one that has none now."""
RESOLVE_WITHIN_S = 2.0
LONGEST = 2000


async def settled(base_url: str, *, path: str, origin: str | None, allow_private: bool, resolve: Resolve) -> str:
    """The absolute base URL without a trailing slash; a bare path is resolved against `origin`, a URL already known.

    Raises Refusal 400 naming `path`. A name that cannot be resolved now passes: whoever connects asks again, behind
    the same fence.
    """
    if len(base_url) > LONGEST or not base_url.isascii() or not base_url.isprintable():
        raise _no(path, f"must be at most {LONGEST} printable ASCII characters")
    if base_url.startswith("/"):
        if origin is None:
            raise _no(path, "a path alone, and no origin is known of this partner: send an absolute URL")
        known = urlsplit(origin)
        base_url = f"{known.scheme}://{known.netloc}{base_url}"
    host, port = _host_and_port(base_url, path, allow_private=allow_private)
    try:
        async with asyncio.timeout(RESOLVE_WITHIN_S):
            await resolve(host, port)
    except Refused as refused:
        raise _no(path, refused.words) from None
    except (Unavailable, TimeoutError):
        pass
    return base_url.rstrip("/")


def _host_and_port(base_url: str, path: str, *, allow_private: bool) -> tuple[str, int]:
    if any(odd in base_url for odd in "\\ ?#"):
        raise _no(path, "must have no blank, backslash, query or fragment")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _no(path, "no valid host and port") from None
    if not host or "%" in host or port == 0 or parts.scheme not in ("http", "https"):
        raise _no(path, "must be an absolute http(s) URL")
    if "@" in parts.netloc:
        raise _no(path, "must not carry a user name or password")
    if parts.scheme == "http" and not allow_private:
        raise _no(path, "must be https")
    return host, port or (443 if parts.scheme == "https" else 80)


def _no(path: str, message: str) -> Refusal:
    return invalid("Register", [FieldError(path=path, message=message)])
