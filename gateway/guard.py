"""What every request to the operations listener passes first: its host, its size, who sends it; and the headers each answer carries.

A page of another site must be able to do nothing here. The session cookie is SameSite=Strict; what changes something
by cookie needs the session's own token besides and an Origin that is ours; a request without a bearer token must name
one of our hosts, so that a name rebound to this address is of no use.
"""

import asyncio
import hmac
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import Operator, Operators, Right
from gateway.problems import problem
from gateway.proxies import PROXIED
from gateway.sessions import Session, Sessions

MAX_BODY = 1 << 20
MAX_TELEMETRY_BODY = 2 << 20
"""Some 20,000 readings; reading them takes a quarter of a second in which nothing else is answered."""
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
BODY_WITHIN_S = 30.0
"""A body that takes longer is given up: a slow sender must not hold a place for ever."""
PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""What proxies add. Whoever sends it, such a request does not count as this machine's own."""
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser's own forms would come with "Origin: null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Denied(Exception):
    """A request that goes no further; answered as a problem, or as a page to a person."""

    def __init__(self, status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.headers = status, title, detail, headers or {}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: by token (no session) or signed in."""

    operator: Operator
    session: Session | None = None


class Guard:
    """ASGI middleware: refuses foreign hosts and bodies that are too large or too slow, adds the security headers."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], operators: Operators, body_within_s: float = BODY_WITHIN_S) -> None:
        self._app, self._hosts, self._operators = app, LOOPBACK_HOSTS | {host.lower() for host in hosts}, operators
        self._body_within_s = body_within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 413 or 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        if not self._host_is_ours(scope["path"], headers):
            words = "this listener does not answer for that host name; open it by the address it listens on, such as http://127.0.0.1:8481"
            await problem(421, "Misdirected request", words)(scope, receive, with_headers)
            return
        limit = MAX_TELEMETRY_BODY if scope["path"].rstrip("/").endswith("/telemetry") else MAX_BODY
        if int(headers.get("content-length", "0") if headers.get("content-length", "0").isdecimal() else "0") > limit:
            await _too_large(limit)(scope, receive, with_headers)
            return
        await self._app(scope, _limited(receive, limit, self._body_within_s), with_headers)

    def _host_is_ours(self, path: str, headers: Headers) -> bool:
        if path.startswith("/health/") or host_name(headers.get("host", "")) in self._hosts:
            return True
        token = bearer(headers)
        return token is not None and self._operators.by_token(token) is not None


def _too_large(limit: int) -> ASGIApp:
    return problem(413, "Body too large", f"at most {limit} bytes are taken at once; send it in parts")


def _limited(receive: Receive, limit: int, within_s: float) -> Receive:
    taken, whole = 0, False
    deadline: float | None = None

    async def count() -> Message:
        nonlocal taken, whole, deadline
        if whole:
            return await receive()
        deadline = deadline or asyncio.get_running_loop().time() + within_s
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise Denied(408, "Body too slow", f"the body did not come within {within_s:g} s") from None
        whole = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > limit:
            raise Denied(413, "Body too large", f"at most {limit} bytes are taken at once; send it in parts")
        return message

    return count


def host_name(host: str) -> str:
    """The name in a Host header, lower case, without port and brackets; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def bearer(headers: Headers) -> str | None:
    """The token of `Authorization: Bearer`, if there is one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def identify(request: Request, operators: Operators, sessions: Sessions) -> Caller | None:
    """Who sends the request: a bearer token decides where there is one, else the session."""
    token = bearer(request.headers)
    if token is not None:
        operator = operators.by_token(token)
        return None if operator is None else Caller(operator)
    cookie = request.cookies.get(sessions.cookie_name)
    session = sessions.read(cookie) if cookie else None
    return None if session is None else Caller(session.operator, session)


def demand(caller: Caller | None, right: Right) -> Caller:
    """The caller, if it is known and may. Raises Denied 401 or 403."""
    if caller is None:
        words = "sign in, or send Authorization: Bearer with a token made by: derms operator add"
        raise Denied(401, "Not signed in", words, {"WWW-Authenticate": "Bearer"})
    if not caller.operator.may(right):
        raise Denied(403, "Not allowed", f"{caller.operator.name} is {caller.operator.role}, which has no right to {right}")
    return caller


def demand_own_page(request: Request, caller: Caller, presented: str | None = None) -> None:
    """Refuse what another site may have made a signed-in browser send. Raises Denied 403.

    `presented` is the token of a form, else the header counts. Callers by bearer token pass: no browser sends one by itself.
    """
    if request.method in SAFE_METHODS or caller.session is None:
        return
    demand_same_origin(request)
    token = presented if presented is not None else request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(token.encode(), caller.session.csrf.encode()):
        raise Denied(403, "Not from our own page", f"load the page again and repeat; programs send {CSRF_HEADER} or a bearer token")


def demand_same_origin(request: Request) -> None:
    """Refuse a request whose Origin or Sec-Fetch-Site says another site. Raises Denied 403."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    if foreign or site not in (None, "same-origin", "none"):
        raise Denied(403, "Not from our own page", "the request comes from another site's page")


def from_this_machine(request: Request) -> bool:
    """Whether the caller is on loopback and no proxy stands between."""
    if request.client is None or PROXIED in request.scope or any(name in request.headers for name in PASSED_ON):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
