"""One attempt of one outbound message to its partner: address, headers, tokens, and what the answer means (semantics 8.3, 8.4, 8.7)."""

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from schemas.clock import wall_seconds
from schemas.config import Configuration, Legacy, Partner
from schemas.connection import Connection
from schemas.oscp.checking import violations_of
from schemas.oscp.v20 import PATHS, VERSION, Action
from schemas.outbound import FINAL_OUTCOMES, OutboundMessage, Outcome
from schemas.web import can_stand_in_header
from sinks.errors import Misconfigured, OutsideError
from sinks.http import BearerAuth
from sinks.http_connecting import TOTAL_S
from sinks.oscp.answers import NOTHING_UNSAID, Judgement, UnderWay, Unsaid, judgement_of, outcome_of, trimmed
from sinks.oscp.peers import Peer, Peers, static_headers
from sinks.oscp.segments import WHOLE_S, Segment, Taken, TooLarge, segments_of
from sinks.secrets import Secrets, WrongSecret

VIEW_FOLLOWS_S, LOOK_EVERY_S = 2.0, 0.02
"""So long (wall) a Register waits for its connection to be seen; its topic and that of messages are read apart."""
TOO_SLOW = (
    "not sent, since the first one went {:.0f} s ago and may be thrown away by now: all go again "
    "(a partner that takes so long for each needs a larger max_body, or none)"
)
MANY = 50
TOO_MANY = "max_body of partners/{} makes so many of them; with a larger one, or none, the message takes less time"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Way:
    """How the requests of one attempt go: to whom and where, with whose credentials. `own` is our token, if the message holds it."""

    peer: Peer
    connection: Connection
    url: str
    own: str | None
    bearer: BearerAuth | None


class OscpClient:
    """Sends messages to partners as they are configured and connected now. Use within one event loop; not thread-safe.

    `configuration` and `connections` are asked at each attempt, so a new address, token or header counts from
    the next one on. `secrets` opens peers' tokens and makes ours. `timeout_s` (wall) is for each request.
    """

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        connections: Callable[[], Mapping[str, Connection]],
        secrets: Secrets,
        timeout_s: float = TOTAL_S,
    ) -> None:
        self._configuration, self._connections, self._secrets = configuration, connections, secrets
        self._peers = Peers(lambda partner_id, *more: self._unsaid(self._connections().get(partner_id), *more), timeout_s)
        self._taken = Taken()

    async def attempt(self, message: OutboundMessage, under_way: UnderWay | None = None) -> Judgement:
        """Send the message once (once more with a new OAuth token after 401 or 403) and say what became of it.

        Never raises for what happens outside: what only a person can mend is HELD. Takes at most 30 s a request; a message larger
        than the partner's `max_body` takes several, one after the other, and is DELIVERED when all were taken.
        A message that breaks OSCP is a defect of ours: REFUSED, and nothing is sent to anybody; so is one that cannot be made
        small enough. Who cancels this finds in `under_way` where it was sent.
        """
        under_way = under_way or UnderWay()
        under_way.began(message.method)
        try:
            judgement = await self._attempt(message, under_way)
        except (OutsideError, WrongSecret) as problem:
            judgement = judgement_of(problem, under_way.duration_ms)
        except Exception as problem:  # noqa: BLE001 - one partner's oddity that nobody thought of must not end the sending to all
            kind = type(problem).__name__
            log.error("an attempt failed by a defect of ours: %s\n%s", kind, "".join(traceback.format_tb(problem.__traceback__)))
            judgement = Judgement(Outcome.RETRY, None, f"failed by a defect of ours ({kind})", None, under_way.duration_ms)
        return replace(judgement, method=message.method, url=under_way.url)

    def token_times(self, partner_id: str) -> tuple[float, float] | None:
        """`OAuthTokens.times` of a partner's token; None where it has none, or nothing was sent to it yet."""
        peer = self._peers.known(partner_id)
        return None if peer is None or peer.oauth is None else peer.oauth.times

    async def aclose(self) -> None:
        """Close all connections."""
        await self._peers.aclose()

    async def _attempt(self, message: OutboundMessage, under_way: UnderWay) -> Judgement:
        cause, connection = token_cause(message), await self._connection(message)
        valid = {credential.digest for credential in connection.credentials} if connection else set()
        own = None if cause is None else self._secrets.token_among(message.partner_id, cause, valid)
        content = body_of(message, own)
        partner = self._configuration().partner(message.partner_id)
        if (wrong := _wrong(message, [content], partner)) is not None:
            return _broken(wrong)
        if partner is None:
            raise Misconfigured(f"partners/{message.partner_id}", "is not in the configuration")
        try:
            segments = segments_of(message, content, partner.max_body)
        except TooLarge as problem:
            return Judgement(Outcome.REFUSED, None, f"not sent: {problem}", too_large=True)
        if len(segments) > 1 and (wrong := _wrong(message, [segment.body for segment in segments], partner)) is not None:
            return _broken(wrong)
        peer = await self._peers.of(partner)
        if connection is None or connection.peer_base_url is None:
            raise Misconfigured(f"partners/{message.partner_id}", "its address is not known yet", "the partner has to register")
        url = address(connection.peer_base_url, partner, message.action)
        under_way.url = url.partition("?")[0]
        way = _Way(peer, connection, url, own, None if peer.oauth is None else BearerAuth(peer.oauth))
        if len(segments) == 1:
            return await self._send(way, message, segments[0])
        return await self._in_segments(way, message, segments, under_way)

    async def _in_segments(self, way: _Way, message: OutboundMessage, segments: list[Segment], under_way: UnderWay) -> Judgement:
        """One after the other until one is not taken: what became of that one became of the message."""
        before, since = self._taken.of(segments, way.url, wall_seconds())
        notes = [f"in {len(segments)} segments" + (f", of which {before} went before" if before else "")]
        if len(segments) > MANY:
            notes.append(TOO_MANY.format(way.peer.partner.id))
        for segment in segments[before:]:
            if (passed := wall_seconds() - since) > WHOLE_S:
                found = Judgement(Outcome.RETRY, None, TOO_SLOW.format(passed))
                break
            try:
                found = await self._send(way, message, segment)
            except (OutsideError, WrongSecret) as problem:
                found = judgement_of(problem, 0)
            if found.outcome is not Outcome.DELIVERED:
                break
            if found.words:
                notes.append(f"{segment} was {found.words}")
            if segment.index < segment.count:
                self._taken.note(segments, way.url, segment.index, since, wall_seconds())
        if found.outcome in FINAL_OUTCOMES:
            self._taken.forget(message.message_id)
        words = "; ".join(notes) if found.outcome is Outcome.DELIVERED else f"{segment}: {found.words}"
        return replace(found, words=words, duration_ms=under_way.duration_ms)

    async def _connection(self, message: OutboundMessage) -> Connection | None:
        """The partner's connection. A Register is owed because of a change of it: that is waited for, if it is not seen here yet."""
        deadline = time.monotonic() + VIEW_FOLLOWS_S
        while True:
            connection = self._connections().get(message.partner_id)
            behind = message.action == Action.REGISTER and (connection is None or connection.at < message.at)
            if not behind or time.monotonic() >= deadline:
                return connection
            await asyncio.sleep(LOOK_EVERY_S)

    async def _send(self, way: _Way, message: OutboundMessage, segment: Segment) -> Judgement:
        partner = way.peer.partner
        static = static_headers(partner)
        headers = {**static, "Content-Type": "application/json", **segment.headers}
        token = ""
        if way.bearer is None:
            token = self._token(way.connection)
            headers["Authorization"] = token if Legacy.BARE_TOKEN in partner.legacy else f"Token {token}"
        answer = await way.peer.http.request(message.method, way.url, headers=headers, content=segment.body, auth=way.bearer)
        if answer.status == HTTPStatus.NO_CONTENT:  # which has no words
            return outcome_of(answer, message.action, unsaid=NOTHING_UNSAID)
        used = [token] if way.bearer is None else way.bearer.used
        return outcome_of(answer, message.action, unsaid=self._unsaid(way.connection, *used, way.own or "", *static.values()))

    def _token(self, connection: Connection) -> str:
        """The partner's token, which the Authorization header is made of where there is no OAuth."""
        if connection.peer_token is None:
            raise Misconfigured(f"partners/{connection.partner_id}", "its token is not known yet", "the partner has to register")
        return self._secrets.decrypt(connection.peer_token, connection.partner_id)

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


def _wrong(message: OutboundMessage, bodies: Iterable[bytes], partner: Partner | None) -> str | None:
    """The first rule a message breaks, with its path; None for one that may be sent. A DELETE needs no body."""
    if not can_stand_in_header(message.correlation_id or ""):
        return "X-Correlation-ID: holds characters that HTTP does not allow in a header"
    for body in bodies:
        empty = message.method == "DELETE" and body.strip() in (b"", b"{}")
        found = [] if empty else violations_of(message.action, body, partner.legacy if partner else ())
        if found:
            return trimmed(str(found[0]))
    return None


def _broken(wrong: str) -> Judgement:
    return Judgement(Outcome.REFUSED, None, f"not sent, since it breaks OSCP {VERSION}: {wrong}", defect=True)


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
