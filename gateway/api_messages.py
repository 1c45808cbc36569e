"""Messages owed to partners: where each stands and why it waits, and what an operator can do about it (semantics 7, 8)."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway import api_deliveries
from gateway.api_body import Problem
from gateway.api_common import Items
from gateway.desk import Actor, AtDesk, Reader
from gateway.messages_acts import asked_about
from gateway.messages_cause import cause_of
from gateway.messages_model import LONGEST_ID, MessageWish, Stand, latency_ms, read_cursor, stand_of, waits
from gateway.messages_reading import read_message, read_messages, reasons_at
from gateway.messages_summary import read_summary
from gateway.messages_why import Reasons
from gateway.orders import CommandView
from gateway.picture import MessageLine
from gateway.problems import FieldError
from gateway.redaction import clean, shown
from gateway.timeline_lines import Line
from schemas.connection import CommandKind
from schemas.flows import QueueStanding
from schemas.outbound import Outcome
from schemas.units import Instant, from_ms

router = APIRouter()

Limit = Annotated[int, Query(ge=1, le=1000)]
Text = Annotated[str, Query(max_length=LONGEST_ID)]


class MessageView(BaseModel):
    """An outbound message and where it stands; without `outcome` it has not been tried.

    `stand` is the outcome of the last attempt, WAITING before any, EXPIRED once its time is over. `why` says why it waits, empty for
    one that is over, `words` what the last attempt brought. `latency_ms` is from owed to delivered by the system's clock, `duration_ms`
    how long the last request took (wall), both null where there is none. `last_at` is when the last attempt ended.
    """

    message_id: str
    partner_id: str
    action: str
    group_id: str | None
    correlation_id: str | None
    at: Instant
    not_before: Instant | None
    expires_at: Instant | None
    stand: Stand
    outcome: Outcome | None
    status: int | None
    words: str
    why: str
    attempts: int
    last_at: Instant | None
    latency_ms: int | None
    duration_ms: int | None


class Messages(Items[MessageView]):
    """A part of the list, newest first. `next` is what to ask `before` for older ones, null at the end; `note` says what may be
    lacking, empty where nothing is."""

    next: str | None
    note: str


class Attempt(BaseModel):
    """One attempt, or that the message ended without another. Without `status` no answer came."""

    at: Instant
    attempt: int | None
    outcome: str
    status: int | None
    duration_ms: int | None
    url: str
    words: str


class MessageDetail(MessageView):
    """The same with the body as the partner gets it, secrets left out (null where it is not known), every attempt that is known,
    oldest first, and what made it owed."""

    body: Any
    attempted: list[Attempt]
    cause_id: str | None
    cause: str


class CountView(BaseModel):
    """How many messages of an action a partner is owed since some instant, and where they stand now; latencies from owed to
    delivered in ms, null where nothing was delivered. `waiting` are neither parked nor over."""

    partner_id: str
    action: str
    owed: int
    waiting: int
    parked: int
    delivered: int
    refused: int
    expired: int
    dropped: int
    p50_ms: int | None
    p99_ms: int | None


class SummaryView(BaseModel):
    """Messages made since an instant, by partner and action, counted by the `history`, else among the last ones of the live `picture`
    (`note` says so); and how the partners' queues stand now, as dispatch said `queues_at` (wall time; null: it has said nothing)."""

    since: Instant
    source: str
    note: str
    counts: list[CountView]
    queues: list[QueueStanding]
    queues_at: Instant | None


def message_fields(line: MessageLine, reasons: Reasons, now: Instant) -> dict[str, Any]:
    """What every view of a message shows."""
    about, delivery, message = line.about, line.delivery, line.message
    return {
        "message_id": line.message_id,
        "partner_id": about.partner_id,
        "action": about.action,
        "group_id": about.group_id,
        "correlation_id": about.correlation_id,
        "at": about.at,
        "not_before": message.not_before if message else None,
        "expires_at": message.expires_at if message else None,
        "stand": stand_of(line, now),
        "outcome": delivery.outcome if delivery else None,
        "status": delivery.status if delivery else None,
        "words": clean(delivery.words) if delivery else "",
        "why": reasons.why(line) if waits(line, now) else "",
        "attempts": delivery.attempt if delivery else 0,
        "last_at": delivery.at if delivery else None,
        "latency_ms": latency_ms(line),
        "duration_ms": delivery.duration_ms if delivery and (delivery.status is not None or delivery.duration_ms) else None,
    }


def _cursor(before: str | None) -> tuple[int, str] | None:
    """Raises Problem 400."""
    try:
        return None if before is None else read_cursor(before)
    except ValueError as error:
        raise Problem(400, "Invalid request", f"before: {error}", [FieldError(path="before", message=str(error))]) from None


@router.get("/messages", tags=["messages"])
async def list_messages(
    _: Reader,
    desk: AtDesk,
    *,
    partner_id: Text = "",
    action: Text = "",
    group_id: Text = "",
    outcome: Stand | None = None,
    id: Annotated[str, Query(max_length=LONGEST_ID, description="its X-Request-ID or the beginning, or its X-Correlation-ID")] = "",  # noqa: A002
    since: Instant | None = None,
    until: Instant | None = None,
    heartbeats: bool = True,
    before: Annotated[str | None, Query(max_length=LONGEST_ID + 20, description="`next` of the part before")] = None,
    limit: Limit = 200,
) -> Messages:
    """Outbound messages, newest first: what the live picture keeps, older ones from the history. `outcome=WAITING` are all that have
    no final outcome, whatever was tried. Without `since` and `id` the list goes 31 days back."""
    now = desk.clock.now()
    wish = MessageWish(
        now, partner_id, action, group_id, outcome, id.strip(), since, until, before=_cursor(before), heartbeats=heartbeats
    )  # fmt: skip
    found = await read_messages(desk, wish, limit)
    reasons = reasons_at(desk, lines=found.lines)
    items = [MessageView.model_validate(message_fields(line, reasons, now)) for line in found.lines]
    return Messages(items=items, next=found.next, note=found.note)


@router.get("/messages/summary", tags=["messages"])
async def summary(_: Reader, desk: AtDesk) -> SummaryView:
    """The last 24 hours by partner and action, with latencies, and how each partner's queue stands."""
    found, picture = await read_summary(desk), desk.pictures.current()
    return SummaryView(
        since=found.since,
        source="history" if found.whole else "picture",
        note=found.note,
        counts=[CountView.model_validate(each, from_attributes=True) for each in found.counts],
        queues=[_clean(picture.queues[partner_id]) for partner_id in sorted(picture.queues)],
        queues_at=picture.queues_at,
    )


def _clean(queue: QueueStanding) -> QueueStanding:
    return queue.model_copy(update={"held": clean(queue.held)})


@router.post("/messages/{message_id:path}/retry", status_code=202, tags=["messages"])
async def retry(caller: Actor, desk: AtDesk, message_id: str, partner_id: Text = "") -> CommandView:
    """Send a message now that is parked, or waits after a failure. It goes before its pause is over, though not past an open breaker,
    a pause the partner asked for, or older ones of its group and kind; where the partner's queue is held, one message is tried at once.
    `partner_id` lets a message pass of which only dispatch still knows."""
    return await asked_about(desk, caller, CommandKind.RETRY_MESSAGE, message_id, partner_id)


@router.post("/messages/{message_id:path}/drop", status_code=202, tags=["messages"])
async def drop(caller: Actor, desk: AtDesk, message_id: str, partner_id: Text = "") -> CommandView:
    """Give a message up: it is not sent any more. One that is under way is given up unless the partner takes it."""
    return await asked_about(desk, caller, CommandKind.DROP_MESSAGE, message_id, partner_id)


@router.get("/messages/{message_id:path}", tags=["messages"])
async def one_message(_: Reader, desk: AtDesk, message_id: str) -> MessageDetail:
    """One message with its body and all attempts."""
    found = await read_message(desk, message_id)
    if found is None:
        raise Problem(404, "Unknown message", f"{message_id!r} is no message that is known here")
    line, message = found.line, found.line.message
    return MessageDetail(
        **message_fields(line, reasons_at(desk, lines=[line]), desk.clock.now()),
        body=shown(message.body) if message and message.body else None,
        attempted=[_attempt(each) for each in found.attempts],
        cause_id=message.cause_id if message else None,
        cause=cause_of(line, desk.pictures.current()),
    )


def _attempt(line: Line) -> Attempt:
    return Attempt(
        at=from_ms(line.at_ms),
        attempt=line.attempt,
        outcome=line.outcome or "",
        status=line.status,
        duration_ms=line.duration_ms,
        url=clean(line.url),
        words=clean(line.words),
    )


router.include_router(api_deliveries.router)
