"""What passed between us and a partner: its timeline, and each exchange with its headers and bodies, secrets left out."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api_body import Problem
from gateway.desk import AtDesk, Desk, Reader
from gateway.partner_timeline import Timelines
from gateway.problems import FieldError
from gateway.redaction import clean, shown
from gateway.timeline_lines import Kept, Line, Way
from gateway.timeline_reading import Kind, attempts_of, messages_of, part_of
from schemas.units import Instant, from_ms

router = APIRouter()

Limit = Annotated[int, Query(ge=1, le=1000)]
Before = Annotated[str | None, Query(max_length=100, description="`next` of the part before", examples=["1770000000000.5b0f6a8e"])]


class ExchangeLine(BaseModel):
    """One request and its answer. `in` are the partner's to us, `out` our attempts to deliver (with `attempt` and `outcome`).
    Without `status` no answer came. `url` of `in` is our path; `url` is empty where it is not known."""

    at: Instant
    direction: Way
    action: str
    method: str
    url: str
    status: int | None
    duration_ms: int | None
    request_id: str | None
    correlation_id: str | None
    outcome: str | None
    attempt: int | None
    words: str


class TimelineLine(BaseModel):
    """An exchange, or an event: a transition or an oddity. `kind` is `exchange` or the event's kind; the other's fields are null."""

    at: Instant
    id: str
    kind: str
    words: str
    severity: str | None
    request_id: str | None
    exchange: ExchangeLine | None
    body_kept: bool


class TimelineView(BaseModel):
    """A part of a timeline, newest first. `next` is what to ask `before` for older lines, null at the end. From `whole_since` on
    nothing is missing here; null: nothing was forgotten. What is older is in the history (`derms history exchanges`)."""

    partner_id: str
    items: list[TimelineLine]
    next: str | None
    whole_since: Instant | None


class ExchangedMessage(BaseModel):
    """A message as stored, secrets left out. `body` is null where it was too long to be kept here: the history has it."""

    direction: Way
    at: Instant
    action: str
    method: str
    group_id: str | None
    headers: dict[str, str]
    body: Any
    body_length: int


class ExchangeView(BaseModel):
    """What stands under an X-Request-ID: every attempt, oldest first, and the messages themselves as far as they are kept."""

    partner_id: str
    request_id: str
    attempts: list[ExchangeLine]
    messages: list[ExchangedMessage]


@router.get("/{partner_id:path}/timeline")
async def timeline(
    _: Reader,
    desk: AtDesk,
    partner_id: str,
    *,
    limit: Limit = 100,
    before: Before = None,
    kind: Kind = Kind.ALL,
    heartbeats: bool = False,
) -> TimelineView:
    """The last exchanges, transitions and oddities of a partner; heartbeats on demand, the last 20 each way."""
    timelines = known(desk, partner_id)
    try:
        part = part_of(timelines, partner_id, limit=limit, before=before, kind=kind, heartbeats=heartbeats)
    except ValueError as error:
        raise Problem(400, "Invalid request", f"before: {error}", [FieldError(path="before", message=str(error))]) from None
    bodies = timelines.bodies(partner_id)
    return TimelineView(
        partner_id=partner_id,
        items=[_line(line, bodies) for line in part.lines],
        next=part.next,
        whole_since=None if part.whole_since_ms is None else from_ms(part.whole_since_ms),
    )


@router.get("/{partner_id:path}/exchanges/{request_id:path}")
async def exchange(_: Reader, desk: AtDesk, partner_id: str, request_id: str) -> ExchangeView:
    """One of the last exchanges by its X-Request-ID."""
    timelines = known(desk, partner_id)
    attempts, messages = attempts_of(timelines, partner_id, request_id), messages_of(timelines, partner_id, request_id)
    if not attempts and not messages:
        words = f"{request_id!r} is not among the last exchanges with {partner_id!r}; older ones are in the history"
        raise Problem(404, "Unknown exchange", words)
    return ExchangeView(
        partner_id=partner_id,
        request_id=request_id,
        attempts=[_exchange(line, line.direction) for line in attempts if line.direction is not None],
        messages=[_message(kept) for kept in messages],
    )


def known(desk: Desk, partner_id: str) -> Timelines:
    """The timelines, if there is such a partner. Raises Problem 404."""
    picture = desk.pictures.current()
    if desk.config.current().partner(partner_id) is None and partner_id not in picture.connections:
        raise Problem(404, "Unknown partner", f"there is no partner {partner_id!r}")
    return picture.timelines


def _line(line: Line, bodies: dict[tuple[Way, str], list[Kept]]) -> TimelineLine:
    kept = bodies.get((line.direction, line.request_id), []) if line.direction and line.request_id else []
    return TimelineLine(
        at=from_ms(line.at_ms),
        id=line.id,
        kind=line.kind,
        words=clean(line.words),
        severity=line.severity,
        request_id=line.request_id,
        exchange=None if line.direction is None else _exchange(line, line.direction),
        body_kept=any(each.body is not None for each in kept),
    )


def _exchange(line: Line, direction: Way) -> ExchangeLine:
    return ExchangeLine(
        at=from_ms(line.at_ms),
        direction=direction,
        action=line.action,
        method=line.method,
        url=clean(line.url),
        status=line.status,
        duration_ms=line.duration_ms,
        request_id=line.request_id,
        correlation_id=line.correlation_id,
        outcome=line.outcome,
        attempt=line.attempt,
        words=clean(line.words),
    )


def _message(kept: Kept) -> ExchangedMessage:
    return ExchangedMessage(
        direction=kept.direction,
        at=from_ms(kept.at_ms),
        action=kept.action,
        method=kept.method,
        group_id=kept.group_id,
        headers=headers_of(kept),
        body=None if kept.body is None else shown(kept.body),
        body_length=kept.length,
    )


def headers_of(kept: Kept) -> dict[str, str]:
    """The headers that are kept of a message."""
    found = {"X-Request-ID": kept.request_id}
    if kept.correlation_id is not None:
        found["X-Correlation-ID"] = kept.correlation_id
    if kept.segment is not None:
        found["X-Segment-Index"], found["X-Segment-Count"] = map(str, kept.segment)
    return found
