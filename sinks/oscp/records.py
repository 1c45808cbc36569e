"""What is put on record of a message that is owed: each attempt, what people are told, what was refused (semantics 8.3). Pure."""

import json
from datetime import datetime

from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.outbound import DeadLetter, Delivery, OutboundMessage
from schemas.topics import OUTBOUND
from sinks.oscp.answers import Judgement
from sinks.oscp.waiting import Notice, Waiting


def delivery_of(waiting: Waiting, partner_id: str, judgement: Judgement, at: datetime, about: str = "") -> Delivery:
    """What became of an attempt, or of a message without one; `about` tells apart what operators asked of the same attempt."""
    return Delivery(
        event_id=derived_id("delivery", waiting.message_id, waiting.attempts, judgement.outcome.value, about),
        at=at,
        cause_id=waiting.message_id,
        message_id=waiting.message_id,
        partner_id=partner_id,
        action=waiting.action,
        group_id=waiting.group_id,
        correlation_id=waiting.correlation_id,
        attempt=waiting.attempts,
        outcome=judgement.outcome,
        status=judgement.status,
        words=judgement.words,
        duration_ms=judgement.duration_ms,
        method=judgement.method,
        url=judgement.url,
    )


def event_of(waiting: Waiting, partner_id: str, notice: Notice, status: int | None, at: datetime) -> Event:
    """What people are told after an attempt."""
    return Event(
        event_id=derived_id("dispatch", notice.kind, waiting.message_id, waiting.attempts),
        at=at,
        cause_id=waiting.message_id,
        subject_kind=SubjectKind.PARTNER,
        subject_id=partner_id,
        kind=notice.kind,
        severity=Severity.ALARM if notice.alarm else Severity.WARNING,
        words=notice.words,
        data=json.dumps({"message_id": waiting.message_id, "action": waiting.action, "status": status}),
    )


def letter_of(waiting: Waiting, message: OutboundMessage, reason: str, at: datetime) -> DeadLetter:
    """A message that was refused, with its body as stored."""
    return DeadLetter(
        event_id=derived_id("dead-letter", "refused", waiting.message_id),
        at=at,
        cause_id=waiting.message_id,
        reason=reason,
        subject=waiting.message_id,
        topic=OUTBOUND.name,
        partition=waiting.partition,
        offset=waiting.offset,
        raw=message.body.encode(),
    )


def refusal(waiting: Waiting, judgement: Judgement) -> Notice:
    """What people are told of a message that was refused, by the partner or by ourselves."""
    if judgement.defect:
        words = f"{waiting.action} {waiting.message_id} was {judgement.words}; this is a defect of ours, the message is in the dead letters"
        return Notice("message.invalid", words, alarm=True)
    if judgement.too_large:
        words = f"{waiting.action} {waiting.message_id} was {judgement.words}; the message is in the dead letters"
        return Notice("message.too-large", words, alarm=True)
    return Notice("message.refused", f"{waiting.action} was refused: {judgement.words}")
