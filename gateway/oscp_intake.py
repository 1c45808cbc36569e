"""What a partner sends becomes an `InboundMessage` on `derms.inbound`; 204 only once the broker has it (semantics 6)."""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Protocol

from pydantic_core import to_json
from starlette.requests import Request

from gateway.oscp_auth import FRESH_S, ConnectionsView, Peer, unavailable
from gateway.oscp_body import checked, completed, demand_json, parsed, read_body, zoned
from gateway.oscp_refusals import Refusal, invalid
from gateway.oscp_segments import segment_of
from gateway.oscp_urls import Resolve, settled
from gateway.problems import FieldError
from gateway.turns import Turns
from pipelines.views import View
from schemas.clock import Clock, wall_seconds
from schemas.config import Configuration, Legacy
from schemas.connection import Event, InboundMessage, Severity, SubjectKind
from schemas.facts import Value, derived_id, digest
from schemas.oscp.v20 import VERSION, Action, Register, UpdateGroupCapacityForecast, VersionUrl
from schemas.topics import EVENTS, INBOUND, Topic
from schemas.units import rfc3339
from sinks.errors import OutsideError, Refused, Unavailable

EFFECT_WITHIN_S = 2.0 - FRESH_S
"""So long PUT and DELETE wait for `derms.connections` to show what they did, and then until every gateway goes by that."""
_LOOK_EVERY_S = 0.02
_HEADER = re.compile(r"[\x20-\x7e]{1,256}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


class Appender(Protocol):
    """`sinks.kafka.AsyncAppender`: returns once the broker has acknowledged; raises Unavailable, or Refused where it is too large."""

    async def append(self, topic: Topic, key: str, value: Value) -> None:
        """Append one value."""


class Cipher(Protocol):
    """The part of `sinks.secrets.Secrets` that hides partners' tokens."""

    def encrypt(self, text: str, context: str) -> str:
        """`text` as ciphertext for one partner."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes in admitted requests. `resolve` judges the address of a URL (see `gateway.oscp_urls`) for allow_private or not;
    `catch_up` is the doorkeeper's, and raises Refusal 503."""

    config: View[Configuration]
    connections: ConnectionsView
    appender: Appender
    secrets: Cipher
    clock: Clock
    resolve: Callable[[bool], Resolve]
    local_zone: tzinfo | None
    catch_up: Callable[[], Awaitable[None]]
    effect_within_s: float = EFFECT_WITHIN_S
    turns: Turns = field(default_factory=Turns)

    async def take(self, peer: Peer, action: Action, request: Request) -> str:
        """Check and keep the message; returns, with its X-Request-ID (sent or made), when it may be answered with 204. Raises Refusal."""
        request_id, correlation_id = _header(request, "X-Request-ID"), _header(request, "X-Correlation-ID")
        segment = segment_of(request, action)
        if request.method != "DELETE":
            demand_json(request)
        raw = await read_body(request)
        try:
            async with self.turns.place(peer.partner.id):
                body = {} if request.method == "DELETE" else await self._checked(peer, action, parsed(raw))
                message = self._message(peer, action, request.method, request_id, correlation_id, raw, body, segment)
                if action is Action.HANDSHAKE_ACKNOWLEDGE:
                    await self._demand_awaited(peer, message)
                await self._keep(message)
        except TimeoutError:
            raise unavailable() from None
        if request_id is None:
            await self.tell(peer, "request-id.missing", f"a {action} came without X-Request-ID; it was given one", message.event_id)
        if action is Action.REGISTER and request.method in ("PUT", "DELETE"):
            await self._demand_effect(message)
        return message.request_id

    async def tell(self, peer: Peer, kind: str, words: str, cause_id: str) -> None:
        """Record an oddity of a partner for people. If that fails, its request is answered all the same."""
        event = Event(
            event_id=derived_id("event", peer.partner.id, kind, cause_id),
            at=self.clock.now(),
            cause_id=cause_id,
            subject_kind=SubjectKind.PARTNER,
            subject_id=peer.partner.id,
            kind=kind,
            severity=Severity.WARNING,
            words=words,
        )
        try:
            await self.appender.append(EVENTS, peer.partner.id, event)
        except OutsideError:
            return

    async def _checked(self, peer: Peer, action: Action, body: dict[str, Any]) -> dict[str, Any]:
        """The body as it is kept: checked, with the token as ciphertext, the URL absolute and times with their zone."""
        if action is Action.HANDSHAKE_ACKNOWLEDGE:
            body = completed(body)
        if action is Action.HEARTBEAT and Legacy.NAIVE_HEARTBEAT_TIME in peer.partner.legacy:
            body = zoned(body, self.local_zone)
        message = checked(action, body)
        if isinstance(message, Register):
            register: dict[str, Any] = json.loads((await self._register(peer, message)).wire())
            return register
        if isinstance(message, UpdateGroupCapacityForecast) and self.config.current().group(peer.partner.id, message.group_id) is None:
            raise Refusal(404, "there is no such group_id")
        return body

    async def _register(self, peer: Peer, register: Register) -> Register:
        offered = [index for index, entry in enumerate(register.version_url) if entry.version == VERSION]
        if not offered:
            words = f"version {VERSION} is not among version_url; it is the only one spoken here"
            raise Refusal(501, words, headers={"X-Error-Message": f"URL version '{VERSION}' required but not provided."})
        if not _TOKEN.fullmatch(register.token):
            raise invalid("Register", [FieldError(path="token", message="must be at most 4096 printable ASCII characters without spaces")])
        private = peer.partner.allow_private_addresses
        base_url = await settled(
            register.version_url[offered[0]].base_url,
            path=f"version_url[{offered[0]}].base_url",
            origin=peer.connection.peer_base_url or peer.partner.base_url,
            allow_private=private,
            resolve=self.resolve(private),
        )
        hidden = self.secrets.encrypt(register.token, peer.partner.id)
        return Register(token=hidden, version_url=[VersionUrl(version=VERSION, base_url=base_url)])

    def _message(
        self,
        peer: Peer,
        action: Action,
        method: str,
        request_id: str | None,
        correlation_id: str | None,
        raw: bytes,
        body: dict[str, Any],
        segment: tuple[int, int] | None,
    ) -> InboundMessage:
        now, body_digest = self.clock.now(), digest(raw)
        found = request_id or str(uuid.uuid4())
        text = _text(action, body)
        return InboundMessage(
            event_id=derived_id("inbound", peer.partner.id, method, action, found, body_digest, rfc3339(now), *(segment or ())),
            at=now,
            partner_id=peer.partner.id,
            action=action,
            method=method,
            request_id=found,
            correlation_id=correlation_id,
            received_at=now,
            group_id=body.get("group_id") if action is Action.UPDATE_GROUP_CAPACITY_FORECAST else None,
            body=text,
            body_digest=body_digest,
            credential_digest=peer.credential_digest,
            segment_index=segment[0] if segment else None,
            segment_count=segment[1] if segment else None,
        )

    async def _keep(self, message: InboundMessage) -> None:
        try:
            await self.appender.append(INBOUND, message.partner_id, message)
        except Unavailable as error:
            raise unavailable(error.retry_after_s) from None
        except Refused:
            raise Refusal(413, "the message is larger than can be stored") from None

    async def _demand_awaited(self, peer: Peer, message: InboundMessage) -> None:
        """409 for an acknowledgement nobody waits for, unless it is one that was taken before and comes again (6.1)."""
        connection = peer.connection
        if connection.handshake_id is None and message.repeat_key not in connection.taken:
            await self.catch_up()
            connection = self.connections.current().get(peer.partner.id, connection)
        if connection.handshake_id is None and message.repeat_key not in connection.taken:
            raise Refusal(409, "no handshake of ours waits for an acknowledgement")

    async def _demand_effect(self, message: InboundMessage) -> None:
        """Wait until the connection shows what the message did, and other gateways have seen it: after the 204 the old token is dead
        (6.3)."""
        deadline = wall_seconds() + self.effect_within_s
        while wall_seconds() < deadline:
            connection = self.connections.current().get(message.partner_id)
            if connection is not None and message.repeat_key in connection.taken:
                await asyncio.sleep(FRESH_S)
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        raise unavailable()


def _text(action: Action, body: dict[str, Any]) -> str:
    """The body as JSON text. Raises Refusal 400 for a number beyond what floats hold, wherever it stands."""
    text = to_json(body).decode()
    if "Infinity" in text:  # a number, or only a word in a text
        try:
            return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            raise invalid(action, [FieldError(path="", message="a number is too large")]) from None
    return text


def _header(request: Request, name: str) -> str | None:
    """An id a peer chose: any printable text, never read as anything (oscp-2.0 3). None where it is missing or empty."""
    value = request.headers.get(name, "").strip()
    if value and not _HEADER.fullmatch(value):
        raise Refusal(400, f"{name} must be at most 256 printable ASCII characters")
    return value or None
