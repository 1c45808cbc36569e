"""What becomes an `OutboundMessage`: its id, how long it is owed, and when it may go (semantics 7.5, 8.3)."""

from datetime import datetime, timedelta

from schemas.facts import derived_id, digest
from schemas.outbound import OutboundMessage

MEASUREMENTS_OWED = timedelta(days=7)
WORDS_OWED = timedelta(hours=24)
"""Compliance errors and adjustments are of no use to the partner after this."""


def message(
    *,
    partner_id: str,
    group_id: str,
    action: str,
    about: str,
    body: str,
    now: datetime,
    stated_at: datetime,
    owed_for: timedelta,
    cause_id: str | None,
    correlation_id: str | None = None,
) -> OutboundMessage:
    """The message; whether its time is over already (a replay of long ago) its `expires_at` says.

    The id follows from partner, action, what it is about and the body; the expiry from `stated_at`, when
    the cause was stated: both are the same on every run.
    """
    message_id = derived_id(partner_id, action, about, digest(body))
    return OutboundMessage(
        event_id=message_id,
        at=now,
        cause_id=cause_id,
        message_id=message_id,
        partner_id=partner_id,
        action=action,
        group_id=group_id,
        correlation_id=correlation_id,
        body=body,
        not_before=now,
        expires_at=stated_at + owed_for,
    )


def owed(*messages: OutboundMessage) -> list[OutboundMessage]:
    """Those of the messages that are still of use when they are made."""
    return [each for each in messages if each.expires_at > each.at]
