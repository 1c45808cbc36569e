"""What a partner asked and was answered, as an event for its timeline: method, path, status, duration and ids, never a body or token."""

import json
from typing import Protocol

from starlette.requests import Request

from gateway.oscp_auth import Peer
from schemas.clock import Clock
from schemas.connection import EXCHANGE, Event, SubjectKind
from schemas.facts import Value, derived_id
from schemas.oscp.v20 import Action
from schemas.topics import EVENTS, Topic

LONGEST_ID = 256


class Poster(Protocol):
    """The part of `sinks.kafka.AsyncAppender` that waits for nothing."""

    def post(self, topic: Topic, key: str, value: Value) -> None:
        """Hand a value over; it may get lost."""


class Exchanges:
    """Hands over one event for each exchange, after the answer is known and without holding it up. One that gets lost is a line
    missing on a timeline: the message itself is kept, or was refused."""

    def __init__(self, poster: Poster, clock: Clock) -> None:
        self._poster, self._clock = poster, clock

    def note(
        self, peer: Peer, action: Action, request: Request, status: int, took_s: float, words: str = "", request_id: str | None = None
    ) -> None:
        """Record that `request` of a known partner was answered with `status` after `took_s`; `words` say why it was refused.
        `request_id` is the one the message is kept under, made where the request had none."""
        now, partner_id = self._clock.now(), peer.partner.id
        ids = {name: request.headers.get(name, "")[:LONGEST_ID] or None for name in ("X-Request-ID", "X-Correlation-ID")}
        duration_ms = round(took_s * 1000)
        data = {
            "direction": "in",
            "action": action.value,
            "method": request.method,
            "url": request.scope["path"],
            "status": status,
            "duration_ms": duration_ms,
            "request_id": request_id or ids["X-Request-ID"],
            "correlation_id": ids["X-Correlation-ID"],
        }
        event = Event(
            event_id=derived_id(EXCHANGE, partner_id, request.method, action, ids["X-Request-ID"], now, id(request)),
            at=now,
            subject_kind=SubjectKind.PARTNER,
            subject_id=partner_id,
            kind=EXCHANGE,
            words=f"{request.method} {action.value} answered {status} in {duration_ms} ms" + (f": {words}" if words else ""),
            data=json.dumps(data),
        )
        self._poster.post(EVENTS, partner_id, event)
