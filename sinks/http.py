"""The one HTTP client: what OSCP, OAuth, the circuit writer, the simulator and the commands send with (semantics 8.7).

Connect 5 s, 30 s in all, no redirects, no proxies or credentials from the environment, TLS verified, at
most 1 MiB of an answer read. All durations are wall time. Words of errors name the host, never a path,
query, header or body, so they can be shown and stored.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import httpx

from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.http_connecting import CONNECT_S, MAX_ANSWER, STARTED, TOTAL, TOTAL_S, BoundedPool, FencedBackend, tls_error_in

KEEP_ALIVE_S = 4.0
"""A connection that rests for longer is not used again. Many servers close one after 5 s: a request that is just then on its way is
lost, and nobody knows whether it was taken."""
REST_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are lower case; `body` ends at 1 MiB; `duration_ms` is wall time, start to last byte, of
    the last exchange where a request was repeated."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    duration_ms: int


class Tokens(Protocol):
    """Access tokens that can be renewed; `sinks.oscp.oauth.OAuthTokens` is one."""

    async def token(self) -> str:
        """The one to use now. May fetch it, and raise what that raises."""

    def spent(self, token: str) -> None:
        """It was not taken: `token` has to give another one."""


class BearerAuth(httpx.Auth):
    """Bearer tokens for one attempt, of one request or several: where one is answered 401 or 403 the token is renewed, once in
    all, and that request repeated (semantics 8.3). `used` are the tokens that were sent."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens, self._renewed = tokens, False
        self.used: list[str] = []

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """What httpx sends, and what it sends again. A token is fetched in time of its own, not in the request's."""
        token = await self._sign(request)
        response = yield request
        if response.status_code in (401, 403) and not self._renewed:
            await response.aread()  # or it would hold a connection that fetching the token may need
            self._renewed = True
            self._tokens.spent(token)
            await self._sign(request)
            yield request

    async def _sign(self, request: httpx.Request) -> str:
        token = await self._tokens.token()
        request.headers["Authorization"] = f"Bearer {token}"
        self.used.append(token)
        return token


class _FencedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a pool whose connections are opened behind the fence, and whose exchanges end."""

    def __init__(self, context: ssl.SSLContext, *, allow_private: bool, max_connections: int) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx has no argument for the network backend; its pool is replaced by the same one with ours.
        self._pool = BoundedPool(
            ssl_context=context,
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=FencedBackend(allow_private=allow_private),
        )


@functools.lru_cache(maxsize=1)
def _public_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # costs tens of milliseconds and a megabyte: one for all that need no other


def tls_context(ca_file: str | None, client_cert_file: str | None, client_key_file: str | None) -> ssl.SSLContext:
    """A verifying TLS context; raises Misconfigured naming the file's setting when one cannot be used. Reads files."""
    if not (ca_file or client_cert_file):
        return _public_authorities()
    try:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
    except (OSError, ssl.SSLError):
        raise Misconfigured("tls.ca_file", f"{ca_file} holds no usable certificates", "give a PEM file") from None
    if client_cert_file:
        try:
            context.load_cert_chain(client_cert_file, client_key_file, password="")
        except (OSError, ssl.SSLError):
            raise Misconfigured(
                "tls.client_cert_file", f"{client_cert_file} is not a certificate with its key", "give PEM files, the key without password"
            ) from None
    return context


def _host(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return "the given address"
    return f"{parsed.host}:{parsed.port}" if parsed.port else parsed.host


def _checked(url: str, *, plain: bool) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise Refused(0, "the address is not a URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Refused(0, "the address is not an absolute http(s) URL")
    if parsed.userinfo:
        raise Refused(0, "the address carries credentials, which is not allowed")
    if parsed.scheme == "http" and not plain:
        raise Refused(0, f"{_host(url)} is addressed by plain http, which is not allowed (allow_private_addresses admits it)")
    return parsed


def _trouble(url: str, problem: Exception, timeout_s: float) -> Unavailable:
    """The words of a failed exchange: kind and host only."""
    host = _host(url)
    match problem:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            words = f"no connection to {host} within {min(CONNECT_S, timeout_s):g} s"
        case TimeoutError() | httpx.TimeoutException():
            words = f"no answer from {host} within {timeout_s:g} s"
        case httpx.ConnectError() if (tls := tls_error_in(problem)) is not None:
            words = f"TLS with {host} failed: {getattr(tls, 'verify_message', '') or tls.reason or 'no common ground'}"
        case httpx.ConnectError():
            words = f"cannot connect to {host}"
        case httpx.ProtocolError():
            words = f"{host} did not answer in HTTP, or closed the connection"
        case _:
            words = f"the connection to {host} broke"
    return Unavailable(words)


def _timeouts(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))


def _headers(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    # no compression: the limit on what is read then is a limit on memory
    named = {"Accept-Encoding": "identity", "User-Agent": "vector-derms", **(headers or {})}
    # ids that peers chose come back as they were: header bytes are latin-1 on both ways
    return [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in named.items()]


def _answer(response: httpx.Response, body: bytes, started: float) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body, round((time.monotonic() - started) * 1000))


class HttpClient:
    """A pool of at most `max_connections` connections with one TLS identity. Use within one event loop; not thread-safe.

    `allow_private` admits loopback and private addresses and plain http; without it only public
    addresses over TLS are reached. `timeout_s` (wall) is what a request may take in all that does not say otherwise. Raises
    Misconfigured when a TLS file cannot be used.
    """

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        client_cert_file: str | None = None,
        client_key_file: str | None = None,
        allow_private: bool = False,
        max_connections: int = 8,
        timeout_s: float = TOTAL_S,
    ) -> None:
        self._allow_private, self._timeout_s = allow_private, timeout_s
        context = tls_context(ca_file, client_cert_file, client_key_file)
        transport = _FencedTransport(context, allow_private=allow_private, max_connections=max_connections)
        self._client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float | None = None,
        head_will_do: bool = False,
        auth: BearerAuth | None = None,
    ) -> Answer:
        """Send once and return whatever status comes back; redirects are answers like others. Where the `head_will_do`, the body of a
        2xx that does not end within 1 s, or breaks off, is left out. With `auth` it may be sent twice, each time with the whole time.

        Raises Unavailable on connection trouble and time-outs, Refused(0) for a forbidden or malformed address, and what
        fetching a token raises.
        """
        target, total_s = _checked(url, plain=self._allow_private), self._timeout_s if timeout_s is None else timeout_s
        try:
            async with self._client.stream(
                method, target, headers=_headers(headers), content=content, auth=auth,
                timeout=_timeouts(total_s), extensions={TOTAL: total_s},
            ) as response:  # fmt: skip
                return _answer(response, await _body(response, head_will_do=head_will_do), response.extensions[STARTED])
        except (TimeoutError, httpx.TransportError) as problem:
            raise _trouble(url, problem, total_s) from None
        except ValueError:
            raise Refused(0, f"the request to {_host(url)} has a header that HTTP does not allow") from None

    async def aclose(self) -> None:
        """Close all connections; requests under way fail as Unavailable."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()


async def _body(response: httpx.Response, *, head_will_do: bool) -> bytes:
    if not (head_will_do and response.is_success):
        return await response.aread()
    try:
        async with asyncio.timeout(REST_S):
            return await response.aread()
    except (TimeoutError, httpx.TransportError):
        return b""


def fetch(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    timeout_s: float = TOTAL_S,
    ca_file: str | None = None,
) -> Answer:
    """One blocking exchange, for commands and tests: loopback, private addresses and plain http allowed.

    Raises Unavailable on connection trouble and time-outs, Refused(0) for what is no http(s) URL, Misconfigured for a `ca_file`
    (the authorities to believe instead of the public ones) that cannot be used. `timeout_s` bounds each wait for the other side.
    """
    target = _checked(url, plain=True)
    context = tls_context(ca_file, None, None)
    started = time.monotonic()
    try:
        with (
            httpx.Client(verify=context, trust_env=False, timeout=_timeouts(timeout_s)) as client,
            client.stream(method, target, headers=_headers(headers), content=content) as response,
        ):
            return _answer(response, _limited_now(response.iter_raw()), started)
    except httpx.TransportError as problem:
        raise _trouble(url, problem, timeout_s) from None


def _limited_now(chunks: Iterator[bytes]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) >= MAX_ANSWER:
            break
    return bytes(body[:MAX_ANSWER])
