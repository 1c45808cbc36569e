"""Folds what passes between us and partners into the live picture: messages, deliveries, forecasts, wishes for another capacity. Pure."""

from dataclasses import replace
from datetime import datetime

from gateway import picture as p
from gateway.picture import Heartbeats, MessageLine, Picture, Received
from schemas.adjustment import Adjustment
from schemas.connection import InboundMessage
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage, Outcome


def fold_outbound(picture: Picture, value: OutboundMessage) -> None:
    """A message we owe."""
    picture.timelines.take(value)
    lines, keep = _lines(picture, value.action)
    _put(lines, value.message_id, replace(lines.get(value.message_id, MessageLine(value.message_id)), message=value), keep)


def fold_delivery(picture: Picture, value: Delivery) -> None:
    """What became of one attempt."""
    picture.asked.attempted(value)
    picture.timelines.take(value)
    lines, keep = _lines(picture, value.action)
    known = lines.get(value.message_id, MessageLine(value.message_id))
    if known.delivery is not None and known.delivery.event_id == value.event_id:
        return
    _put(lines, value.message_id, replace(known, delivery=value), keep)
    outcome = (value.partner_id, value.action, value.outcome.value)
    picture.outcomes[outcome] = picture.outcomes.get(outcome, 0) + 1
    if value.outcome is Outcome.REFUSED:
        picture.refused_at[value.partner_id] = _later(picture.refused_at.get(value.partner_id), value.at)
    if value.action == Action.HEARTBEAT and value.outcome is Outcome.DELIVERED:
        beats = picture.heartbeats.get(value.partner_id, Heartbeats())
        picture.heartbeats[value.partner_id] = replace(beats, delivered_at=_later(beats.delivered_at, value.at))


def fold_inbound(picture: Picture, value: InboundMessage) -> None:
    """A segment is shown on its partner's timeline; what counts is the whole message."""
    picture.timelines.take(value)
    if value.is_segment:
        return
    count = (value.partner_id, value.action)
    picture.inbound_counts[count] = picture.inbound_counts.get(count, 0) + 1
    if value.action == Action.HEARTBEAT:
        beats = picture.heartbeats.get(value.partner_id, Heartbeats())
        picture.heartbeats[value.partner_id] = replace(beats, received_at=_later(beats.received_at, value.received_at))
        return
    if value.action == Action.UPDATE_GROUP_CAPACITY_FORECAST:
        picture.forecasts.take(value)
    line = Received(value.partner_id, value.action, value.request_id, value.correlation_id, value.group_id, value.received_at)
    picture.inbound = (line, *picture.inbound)[: p.KEEP_INBOUND]


def fold_adjustment(picture: Picture, value: Adjustment) -> None:
    """Where a wish for another capacity stands; the highest revision holds."""
    known = picture.adjustments.pop(value.adjustment_id, None)
    picture.adjustments[value.adjustment_id] = known if known is not None and known.revision >= value.revision else value
    if len(picture.adjustments) > p.KEEP_ADJUSTMENTS:
        del picture.adjustments[next(iter(picture.adjustments))]


def _lines(picture: Picture, action: str) -> tuple[dict[str, MessageLine], int]:
    """Heartbeats are kept apart, so that they do not push out what people look for."""
    if action == Action.HEARTBEAT:
        return picture.heartbeat_messages, p.KEEP_HEARTBEATS
    return picture.messages, p.KEEP_MESSAGES


def _put(lines: dict[str, MessageLine], message_id: str, line: MessageLine, keep: int) -> None:
    lines[message_id] = line
    if len(lines) > keep:
        del lines[next(iter(lines))]


def _later(known: datetime | None, instant: datetime) -> datetime:
    return instant if known is None else max(known, instant)
