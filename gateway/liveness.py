"""Until when a partner is taken to be there: its connection says it, and each heartbeat since moves it on (semantics 6.5). Pure."""

from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from gateway.partner_timeline import Shelf
from gateway.picture import Picture
from pipelines.rules.heartbeats import deadline_of, interval_of
from schemas.config import Configuration
from schemas.oscp.v20 import Heartbeat
from schemas.units import from_ms


class Vouched(NamedTuple):
    """A partner's last heartbeat: when it came, and until when the partner vouched for itself in it."""

    received_at: datetime
    until: datetime


def last_vouched(picture: Picture, partner_id: str) -> Vouched | None:
    """What the partner's last heartbeat said; None where none is kept or it cannot be read."""
    beats = picture.timelines.messages.get((partner_id, Shelf.BEATS_IN), ())
    if not beats or beats[-1].body is None:
        return None
    try:
        return Vouched(from_ms(beats[-1].at_ms), Heartbeat.model_validate_json(beats[-1].body).offline_mode_at)
    except ValidationError:
        return None


def liveness_deadline(picture: Picture, config: Configuration, partner_id: str) -> datetime | None:
    """When silence means OFFLINE; None where it means nothing. Where the clock runs fast, the lifecycle allows somewhat more."""
    connection, partner = picture.connections.get(partner_id), config.partner(partner_id)
    if connection is None or connection.liveness_deadline is None:
        return None
    vouched, asked = last_vouched(picture, partner_id), connection.our_required_heartbeat_s
    if vouched is None or partner is None or asked is None or vouched.received_at < connection.since:
        return connection.liveness_deadline
    moved, _ = deadline_of(vouched.until, vouched.received_at, interval=interval_of(asked), grace=partner.heartbeat_grace)
    return max(moved, connection.liveness_deadline)
