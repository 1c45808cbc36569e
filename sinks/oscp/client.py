"""One attempt of one outbound message to its partner: address, headers, tokens, and what the answer means (semantics 8.3, 8.4, 8.7)."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from schemas.config import Configuration, Legacy, Partner
from schemas.connection import Connection
from schemas.oscp.checking import violations_of
from schemas.oscp.v20 import PATHS, VERSION, Action
from schemas.outbound import OutboundMessage, Outcome
from schemas.web import can_stand_in_header
from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.http import HttpClient
from sinks.oscp.answers import NOTHING_UNSAID, Judgement, UnderWay, Unsaid, outcome_of, trimmed
from sinks.oscp.oauth import OAuthTokens
from sinks.secrets import Secrets, WrongSecret

CONNECTIONS_PER_PARTNER = 8
VIEW_FOLLOWS_S, LOOK_EVERY_S = 2.0, 0.02
"""So long (wall) a Register waits for its connection to be seen; its topic and that of messages are read apart."""


@dataclass(slots=True)
class _Peer:
    """What is kept for one partner between messages: its connections and its OAuth token."""

    partner: Partner
    http: HttpClient
    oauth: OAuthTokens | None


class OscpClient:
    """Sends messages to partners as they are configured and connected now. Use within one event loop; not thread-safe.

    `configuration` and `connections` are asked at each attempt, so a new address, token or header counts from
    the next one on. `secrets` opens peers' tokens and makes ours.
    """

    def __init__(
        self, configuration: Callable[[], Configuration], connections: Callable[[], Mapping[str, Connection]], secrets: Secrets
    ) -> None:
        self._configuration, self._connections, self._secrets = configuration, connections, secrets
        self._peers: dict[str, _Peer] = {}

    async def attempt(self, message: OutboundMessage, under_way: UnderWay | None = None) -> Judgement:
        """Send the message once (once more with a new OAuth token after 401 or 403) and say what became of it.

        Never raises for what happens outside: what only a person can mend is HELD. Takes at most 30 s a request.
        A message that breaks OSCP is a defect of ours: REFUSED, and nothing is sent to anybody. Who cancels this finds in
        `under_way` where it was sent.
        """
        cause, under_way = token_cause(message), under_way or UnderWay()
        under_way.began(message.method)
        try:
            connection = await self._connection(message)
            valid = {credential.digest for credential in connection.credentials} if connection else set()
            own = None if cause is None else self._secrets.token_among(message.partner_id, cause, valid)
            content = body_of(message, own)
            if (wrong := self._wrong(message, content)) is not None:
                return Judgement(Outcome.REFUSED, None, f"not sent, since it breaks OSCP {VERSION}: {wrong}", defect=True)
            peer = await self._peer(message.partner_id)
            if connection is None or connection.peer_base_url is None:
                raise Misconfigured(f"partners/{message.partner_id}", "its address is not known yet", "the partner has to register")
            url = address(connection.peer_base_url, peer.partner, message.action)
            under_way.url = url.partition("?")[0]
            judgement = await self._send(peer, connection, url, message, content, own)
        except Unavailable as problem:
            judgement = Judgement(Outcome.RETRY, None, problem.words, problem.retry_after_s, under_way.duration_ms)
        except (Refused, Misconfigured, WrongSecret) as problem:
            words = getattr(problem, "words", None) or str(problem)
            judgement = Judgement(Outcome.HELD, getattr(problem, "status", None) or None, words, None, under_way.duration_ms)
        return replace(judgement, method=message.method, url=under_way.url)

    def token_times(self, partner_id: str) -> tuple[float, float] | None:
        """`OAuthTokens.times` of a partner's token; None where it has none, or nothing was sent to it yet."""
        peer = self._peers.get(partner_id)
        return None if peer is None or peer.oauth is None else peer.oauth.times

    async def aclose(self) -> None:
        """Close all connections."""
        for peer in self._peers.values():
            await peer.http.aclose()
        self._peers.clear()

    async def _connection(self, message: OutboundMessage) -> Connection | None:
        """The partner's connection. A Register is owed because of a change of it: that is waited for, if it is not seen here yet."""
        deadline = time.monotonic() + VIEW_FOLLOWS_S
        while True:
            connection = self._connections().get(message.partner_id)
            behind = message.action == Action.REGISTER and (connection is None or connection.at < message.at)
            if not behind or time.monotonic() >= deadline:
                return connection
            await asyncio.sleep(LOOK_EVERY_S)

    def _wrong(self, message: OutboundMessage, content: bytes) -> str | None:
        """The first rule a message breaks, with its path; None for one that may be sent. A DELETE needs no body."""
        if not can_stand_in_header(message.correlation_id or ""):
            return "X-Correlation-ID: holds characters that HTTP does not allow in a header"
        if message.method == "DELETE" and content.strip() in (b"", b"{}"):
            return None
        partner = self._configuration().partner(message.partner_id)
        found = violations_of(message.action, content, partner.legacy if partner else ())
        return None if not found else trimmed(str(found[0]))

    async def _peer(self, partner_id: str) -> _Peer:
        partner = self._configuration().partner(partner_id)
        if partner is None:
            raise Misconfigured(f"partners/{partner_id}", "is not in the configuration")
        known = self._peers.get(partner_id)
        if known is not None and known.partner == partner:
            return known
        tls = partner.tls
        http = HttpClient(
            ca_file=tls.ca_file,
            client_cert_file=tls.client_cert_file,
            client_key_file=tls.client_key_file,
            allow_private=partner.allow_private_addresses,
            max_connections=CONNECTIONS_PER_PARTNER,
        )
        oauth = None
        if partner.oauth is not None:
            secret_file = partner.oauth.client_secret_file
            oauth = OAuthTokens(
                partner.oauth,
                http,
                client_secret=lambda: file_text("oauth.client_secret_file", secret_file),
                headers=lambda: static_headers(partner),
                unsaid=lambda *secrets: self._unsaid(self._connections().get(partner_id), *secrets),
            )
        self._peers[partner_id] = _Peer(partner, http, oauth)
        if known is not None:
            await known.http.aclose()
        return self._peers[partner_id]

    async def _send(
        self, peer: _Peer, connection: Connection, url: str, message: OutboundMessage, content: bytes, own: str | None
    ) -> Judgement:
        static = static_headers(peer.partner)
        headers = static | {"Content-Type": "application/json", "X-Request-ID": message.message_id}
        if message.correlation_id is not None:
            headers["X-Correlation-ID"] = message.correlation_id

        scheme, credential = await self._credential(peer, connection)
        used = [credential]
        answer = await peer.http.request(message.method, url, headers=headers | {"Authorization": scheme + credential}, content=content)
        if answer.status in (401, 403) and peer.oauth is not None:
            peer.oauth.spent(credential)
            scheme, credential = await self._credential(peer, connection)
            used.append(credential)
            answer = await peer.http.request(message.method, url, headers=headers | {"Authorization": scheme + credential}, content=content)
        plain = answer.status == HTTPStatus.NO_CONTENT  # which has no words
        unsaid = NOTHING_UNSAID if plain else self._unsaid(connection, *used, own or "", *static.values())
        return outcome_of(answer, message.action, unsaid=unsaid)

    def _unsaid(self, connection: Connection | None, *secrets: str) -> Unsaid:
        """What a partner's words must not tell, though it knows it: `secrets`, and the tokens of both sides."""
        if connection is None:
            return Unsaid(secrets)
        found, partner_id = list(secrets), connection.partner_id
        if connection.peer_token is not None:
            with suppress(WrongSecret):
                found.append(self._secrets.decrypt(connection.peer_token, partner_id))
        for credential in connection.credentials:
            found += self._secrets.tokens(partner_id, credential.cause)
        return Unsaid(found, {credential.digest for credential in connection.credentials})

    async def _credential(self, peer: _Peer, connection: Connection) -> tuple[str, str]:
        """What the Authorization header is made of: its beginning, and the token."""
        if peer.oauth is not None:
            return "Bearer ", await peer.oauth.token()
        if connection.peer_token is None:
            raise Misconfigured(f"partners/{connection.partner_id}", "its token is not known yet", "the partner has to register")
        token = self._secrets.decrypt(connection.peer_token, connection.partner_id)
        return "" if Legacy.BARE_TOKEN in peer.partner.legacy else "Token ", token


def address(base_url: str, partner: Partner, action: str) -> str:
    """Where a message goes: the partner's base URL and the action's path, or the one configured in its place."""
    path = partner.paths.get(action) or PATHS.get(action)
    if path is None:
        raise Misconfigured(f"partners/{partner.id}.paths", f"has no path for {action}")
    return f"{base_url.rstrip('/')}/{path.lstrip('/')}"


def token_cause(message: OutboundMessage) -> str | None:
    """What our token in a Register is derived from; None for other messages (semantics 6.2)."""
    if message.action != Action.REGISTER:
        return None
    try:
        body: Any = json.loads(message.body)
    except ValueError:
        return None
    token = body.get("token") if isinstance(body, dict) else None
    cause = token.get("$token") if isinstance(token, dict) else None
    return cause if isinstance(cause, str) else None


def body_of(message: OutboundMessage, own_token: str | None) -> bytes:
    """The bytes to send: as stored, but with our token in place of its reference."""
    if own_token is None:
        return message.body.encode()
    return json.dumps({**json.loads(message.body), "token": own_token}, separators=(",", ":")).encode()


def static_headers(partner: Partner) -> dict[str, str]:
    """The partner's static headers, read from their files. Raises Misconfigured naming the header."""
    return {name: file_text(f"headers.{name}", source.file) for name, source in partner.headers.items()}


def file_text(setting: str, path: str) -> str:
    """A secret's file, without the line end. Raises Misconfigured naming `setting` where it cannot be read or is empty."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        raise Misconfigured(setting, f"the file {path} cannot be read") from None
    if not text or not text.isprintable():
        raise Misconfigured(setting, f"the file {path} does not hold one line of text")
    return text
