"""What went out and came in, and what could not be used (semantics 7, 8)."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api_body import Problem
from gateway.api_common import Items
from gateway.desk import AtDesk, Reader
from gateway.picture import MessageLine
from gateway.redaction import clean, shown
from schemas.outbound import Delivery, Outcome
from schemas.units import Instant

router = APIRouter()

Limit = Annotated[int, Query(ge=1, le=1000)]


class MessageView(BaseModel):
    """An outbound message and where it stands; without `outcome` it has not been tried."""

    message_id: str
    partner_id: str
    action: str
    group_id: str | None
    correlation_id: str | None
    at: Instant
    expires_at: Instant | None
    outcome: Outcome | None
    status: int | None
    words: str
    attempts: int


class MessageDetail(MessageView):
    """The same with the body as the partner gets it, secrets left out."""

    body: Any


class DeadLetterView(BaseModel):
    """Something that could not be used, without its bytes."""

    at: Instant
    reason: str
    count: int
    subject: str
    topic: str
    partition: int
    offset: int
    size: int


class DeadLetters(Items[DeadLetterView]):
    """The newest dead letters, and how many there were by reason."""

    counts: dict[str, int]


class ReceivedView(BaseModel):
    """A message a partner sent, without its body."""

    partner_id: str
    action: str
    request_id: str
    correlation_id: str | None
    group_id: str | None
    received_at: Instant


def message_fields(line: MessageLine) -> dict[str, Any]:
    """What every view of a message shows."""
    about, delivery = line.about, line.delivery
    return {
        "message_id": line.message_id,
        "partner_id": about.partner_id,
        "action": about.action,
        "group_id": about.group_id,
        "correlation_id": about.correlation_id,
        "at": about.at,
        "expires_at": line.message.expires_at if line.message else None,
        "outcome": delivery.outcome if delivery else None,
        "status": delivery.status if delivery else None,
        "words": clean(delivery.words) if delivery else "",
        "attempts": delivery.attempt if delivery else 0,
    }


@router.get("/messages", tags=["messages"])
async def list_messages(
    _: Reader,
    desk: AtDesk,
    *,
    partner_id: str | None = None,
    action: str | None = None,
    outcome: Outcome | None = None,
    limit: Limit = 200,
) -> Items[MessageView]:
    """The last 200 outbound messages and the last 50 heartbeats, newest first."""
    found = (MessageView.model_validate(message_fields(line)) for line in desk.pictures.current().all_messages())
    wanted = [
        view
        for view in found
        if (partner_id is None or view.partner_id == partner_id)
        and (action is None or view.action == action)
        and (outcome is None or view.outcome is outcome)
    ]
    return Items(items=wanted[:limit])


@router.get("/messages/{message_id:path}", tags=["messages"])
async def one_message(_: Reader, desk: AtDesk, message_id: str) -> MessageDetail:
    """One of the last messages with its body."""
    picture = desk.pictures.current()
    line = picture.messages.get(message_id) or picture.heartbeat_messages.get(message_id)
    if line is None:
        raise Problem(404, "Unknown message", f"{message_id!r} is not among the last messages; older ones are in the history")
    return MessageDetail(**message_fields(line), body=shown(line.message.body) if line.message else None)


@router.get("/deliveries", tags=["messages"])
async def list_deliveries(
    _: Reader, desk: AtDesk, partner_id: str | None = None, outcome: Outcome | None = None, limit: Limit = 200
) -> Items[Delivery]:
    """The last attempt of each of the last messages, newest first."""
    found = [line.delivery for line in desk.pictures.current().all_messages() if line.delivery is not None]
    wanted = [
        delivery
        for delivery in found
        if (partner_id is None or delivery.partner_id == partner_id) and (outcome is None or delivery.outcome is outcome)
    ]
    newest = sorted(wanted, key=lambda delivery: delivery.at, reverse=True)[:limit]
    return Items(items=[each.model_copy(update={"words": clean(each.words), "url": clean(each.url)}) for each in newest])


@router.get("/inbound", tags=["messages"])
async def list_inbound(_: Reader, desk: AtDesk, limit: Limit = 100) -> Items[ReceivedView]:
    """The last 100 messages partners sent, newest first, heartbeats left out."""
    found = [ReceivedView.model_validate(line, from_attributes=True) for line in desk.pictures.current().inbound]
    return Items(items=found[:limit])


@router.get("/dead-letters", tags=["dead-letters"])
async def list_dead_letters(_: Reader, desk: AtDesk, limit: Limit = 100) -> DeadLetters:
    """The last 100 dead letters, and how many readings or messages they stand for, by reason."""
    picture = desk.pictures.current()
    views = [
        DeadLetterView(
            at=letter.at,
            reason=clean(letter.reason),
            count=letter.count,
            subject=letter.subject,
            topic=letter.topic,
            partition=letter.partition,
            offset=letter.offset,
            size=len(letter.raw),
        )
        for letter in picture.dead_letters[:limit]
    ]
    return DeadLetters(items=views, counts=dict(picture.dead_letter_counts))
