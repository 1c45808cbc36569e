"""What stands on a partner's timeline: lines, and messages with their bodies, made from the records of four topics. Pure."""

import json
from enum import StrEnum
from sys import intern
from typing import Any, NamedTuple

from schemas.connection import EXCHANGE, Event, InboundMessage
from schemas.outbound import Delivery, OutboundMessage
from schemas.units import to_ms


class Way(StrEnum):
    """Who asks: the partner us, or we the partner."""

    IN = "in"
    OUT = "out"


class Line(NamedTuple):
    """One line of a timeline; sorted by its first two fields, which also say whether it is the same one again.

    `kind` is `EXCHANGE`, or the kind of the event. `request_id` is the X-Request-ID of the exchange, or that of the message an
    event is about. Deliveries have `outcome` and `attempt`; events have `severity`.
    """

    at_ms: int
    id: str
    kind: str
    words: str
    direction: Way | None = None
    action: str = ""
    method: str = ""
    url: str = ""
    status: int | None = None
    duration_ms: int | None = None
    request_id: str | None = None
    correlation_id: str | None = None
    outcome: str | None = None
    attempt: int | None = None
    severity: str | None = None

    @property
    def is_exchange(self) -> bool:
        """Whether this is a request and its answer."""
        return self.kind == EXCHANGE


class Kept(NamedTuple):
    """A message with its body as stored (secrets and all); `body` is None where it was too long to be kept, `length` says how long."""

    at_ms: int
    id: str
    direction: Way
    request_id: str
    action: str
    method: str
    correlation_id: str | None
    group_id: str | None
    segment: tuple[int, int] | None
    body: str | None
    length: int


def exchange_line(event: Event) -> Line:
    """What a partner asked; a field that is missing or of another kind counts as unknown."""
    data = _object(event.data)
    action, method, status, took = (data.get(name) for name in ("action", "method", "status", "duration_ms"))
    answered = f"{method} {action} answered {status} in {took} ms"  # what the line's own columns say
    words = event.words.removeprefix(answered).removeprefix(": ")
    return Line(
        at_ms=to_ms(event.at),
        id=event.event_id,
        kind=EXCHANGE,
        words=words,
        direction=Way.IN,
        action=intern(_text(action) or ""),
        method=intern(_text(method) or ""),
        url=intern(_text(data.get("url")) or ""),
        status=_number(status),
        duration_ms=_number(took),
        request_id=_text(data.get("request_id")),
        correlation_id=_text(data.get("correlation_id")),
    )


def event_line(event: Event) -> Line:
    """A transition or oddity."""
    data = _object(event.data)
    about = _text(data.get("request_id")) or _text(data.get("message_id"))
    return Line(to_ms(event.at), event.event_id, event.kind, event.words, request_id=about, severity=event.severity.value)


def delivery_line(value: Delivery) -> Line:
    """An attempt of ours, or that a message ended without another."""
    return Line(
        at_ms=to_ms(value.at),
        id=value.event_id,
        kind=EXCHANGE,
        words=value.words,
        direction=Way.OUT,
        action=intern(value.action),
        method=intern(value.method),
        url=intern(value.url),
        status=value.status,
        duration_ms=value.duration_ms if value.status is not None or value.duration_ms else None,
        request_id=value.message_id,
        correlation_id=value.correlation_id,
        outcome=value.outcome.value,
        attempt=value.attempt,
    )


def received(value: InboundMessage) -> Kept:
    """A partner's message."""
    index, count = value.segment_index, value.segment_count
    return Kept(
        at_ms=to_ms(value.received_at),
        id=value.event_id,
        direction=Way.IN,
        request_id=value.request_id,
        action=value.action,
        method=value.method,
        correlation_id=value.correlation_id,
        group_id=value.group_id,
        segment=None if index is None or count is None else (index, count),
        body=value.body,
        length=len(value.body),
    )


def owed(value: OutboundMessage) -> Kept:
    """A message of ours."""
    return Kept(
        at_ms=to_ms(value.at),
        id=value.event_id,
        direction=Way.OUT,
        request_id=value.message_id,
        action=value.action,
        method=value.method,
        correlation_id=value.correlation_id,
        group_id=value.group_id,
        segment=None,
        body=value.body,
        length=len(value.body),
    )


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
