"""OAuth 2.0 client credentials for partners' APIs (semantics 8.4), with the transport-free parts of Authlib.

A token is kept in memory until 30 s before its end and fetched by one request at a time, however many messages wait for it:
what becomes of that request holds for all of them. All durations are wall time. `sinks.http.BearerAuth` puts the token on
requests.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth

from schemas.clock import wall_seconds
from schemas.config import OAuth
from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.http import Answer, HttpClient
from sinks.oscp.answers import Unsaid, answered, retry_after_of, trimmed

LEEWAY_S = 30.0
UNSTATED_S = 300.0
"""How long a token is used whose answer does not say when it ends."""

_SENDABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    fetched_at: float
    usable_until: float


class OAuthTokens:
    """The access token of one partner. Use within one event loop.

    `client_secret` and `headers` (the partner's static ones) are asked at each fetch, so that files may change. `unsaid` adds what
    else the token server's words must not tell to the secrets that a fetch itself sends.
    """

    def __init__(
        self,
        settings: OAuth,
        http: HttpClient,
        *,
        client_secret: Callable[[], str],
        headers: Callable[[], Mapping[str, str]] = dict,
        unsaid: Callable[..., Unsaid] = lambda *secrets: Unsaid(secrets),
        wall: Callable[[], float] = wall_seconds,
    ) -> None:
        self._settings, self._http, self._client_secret, self._headers, self._wall = settings, http, client_secret, headers, wall
        self._unsaid = unsaid
        self._fetching: asyncio.Task[_Token] | None = None
        self._token: _Token | None = None
        self._latest = ""

    @property
    def times(self) -> tuple[float, float] | None:
        """Since when the token in use is held and until when it is used, as readings of `wall`; None without one."""
        return None if self._token is None else (self._token.fetched_at, self._token.usable_until)

    async def token(self) -> str:
        """A token that is good for at least the next seconds; fetched where none is at hand.

        Raises Unavailable when the token server is away, Refused with its words when it says no, Misconfigured
        when the secret's file cannot be read.
        """
        if self._token is not None and self._wall() < self._token.usable_until:
            return self._token.text
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        # who gives up waiting, as a heartbeat does, takes nothing from the others
        return (await asyncio.shield(self._fetching)).text

    def spent(self, token: str) -> None:
        """The partner did not take `token`: the next call fetches another one (unless that has happened already)."""
        if self._token is not None and self._token.text == token:
            self._token = None

    def _fetched(self, task: "asyncio.Task[_Token]") -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is None:
            self._token = task.result()
            self._latest = self._token.text

    async def _fetch(self) -> _Token:
        started = self._wall()
        secret, static = self._client_secret(), self._headers()
        form = {"grant_type": "client_credentials"}
        form |= {name: value for name, value in (("scope", self._settings.scope), ("audience", self._settings.audience)) if value}
        plain = {**static, "Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        auth = ClientAuth(self._settings.client_id, secret, f"client_secret_{self._settings.client_authentication}")
        try:
            url, headers, body = auth.prepare("POST", self._settings.token_url, plain, urlencode(form))
        except UnicodeError:
            raise Misconfigured("oauth.client_secret_file", "holds characters that HTTP Basic cannot carry", "use post") from None
        try:
            answer = await self._http.request("POST", url, headers=headers, content=body.encode())
        except Unavailable as problem:
            raise Unavailable(f"no token to be had: {problem.words}", problem.retry_after_s) from None
        except Refused as problem:
            raise Refused(problem.status, f"oauth.token_url cannot be used: {problem.words}") from None
        sent = headers.get("Authorization", "").rpartition(" ")[2]
        # a server may repeat the form as it came
        unsaid = self._unsaid(secret, quote_plus(secret), quote(secret, safe=""), sent, self._latest, *static.values())
        return self._read(answer, started, unsaid)

    def _read(self, answer: Answer, started: float, unsaid: Unsaid) -> _Token:
        if answer.status >= 500 or answer.status in (408, 425, 429):
            after = retry_after_of(answer, datetime.now(UTC))
            raise Unavailable(f"the token server {answered(answer, unsaid)}", after)
        if answer.status != 200:
            raise Refused(answer.status, f"the token server {answered(answer, unsaid)}")
        try:
            found = json.loads(answer.body)
            text, kind, lasts = found["access_token"], found.get("token_type", "Bearer"), found.get("expires_in")
            lasts_s = UNSTATED_S if lasts is None else float(lasts)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise Unavailable("the token server's answer holds no access token") from None
        if not isinstance(text, str) or not _SENDABLE.fullmatch(text) or str(kind).lower() != "bearer":
            raise Unavailable(f"the token server's answer holds no bearer token (type {trimmed(str(kind), unsaid)})")
        return _Token(text, started, started + (lasts_s if math.isfinite(lasts_s) else UNSTATED_S) - LEEWAY_S)
