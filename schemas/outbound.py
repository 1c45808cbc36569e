"""What we owe a partner, what became of it, and what could not be read (semantics 7, 8)."""

from enum import StrEnum

from schemas.facts import Fact
from schemas.units import Instant


class OutboundMessage(Fact):
    """A message owed to a partner. `message_id` is its X-Request-ID on every attempt.

    `body` is JSON text; in a Register our own token stands as the reference `{"$token": cause}`, which
    dispatch resolves when it sends. Order is kept within (partner, group_id, action).
    """

    message_id: str
    partner_id: str
    action: str
    method: str = "POST"
    group_id: str | None = None
    correlation_id: str | None = None
    body: str
    not_before: Instant
    expires_at: Instant


class Outcome(StrEnum):
    """What became of one attempt, or of the message."""

    DELIVERED = "DELIVERED"
    RETRY = "RETRY"
    HELD = "HELD"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"
    PARKED = "PARKED"
    DROPPED = "DROPPED"


FINAL_OUTCOMES = frozenset({Outcome.DELIVERED, Outcome.REFUSED, Outcome.EXPIRED, Outcome.DROPPED})
"""After one of these a message is not sent again."""


class Delivery(Fact):
    """One attempt's outcome; the last value of `message_id` says where the message stands.

    `url` is where it was sent, without a query; empty where nothing was sent.
    """

    message_id: str
    partner_id: str
    action: str
    group_id: str | None = None
    correlation_id: str | None = None
    attempt: int
    outcome: Outcome
    status: int | None = None
    words: str = ""
    duration_ms: int = 0
    method: str = "POST"
    url: str = ""


class DeadLetter(Fact):
    """Bytes (or a reading) that could not be used. One letter may stand for `count` of a kind; the bytes are the first's."""

    reason: str
    count: int = 1
    subject: str = ""
    topic: str
    partition: int
    offset: int
    raw: bytes
