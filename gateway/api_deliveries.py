"""Attempts to deliver, what partners sent, and what could not be used (semantics 7, 8)."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api_common import Items
from gateway.desk import AtDesk, Reader
from gateway.redaction import clean
from schemas.outbound import Delivery, Outcome
from schemas.units import Instant

router = APIRouter()

Limit = Annotated[int, Query(ge=1, le=1000)]


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
