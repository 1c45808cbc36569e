"""What becomes an `OutboundMessage`: its id, how long it is owed, and when it may go (semantics 7.5, 8.3)."""

from datetime import datetime, timedelta

from pipelines.rules.reporting_entries import Row, bodies
from schemas.facts import derived_id, digest
from schemas.oscp.v20 import Action
from schemas.outbound import OutboundMessage
from schemas.telemetry import Level
from schemas.topology import Group
from schemas.units import from_ms, rfc3339

MEASUREMENTS_OWED = timedelta(days=7)
WORDS_OWED = timedelta(hours=24)
"""Compliance errors and adjustments are of no use to the partner after this."""
Changed = tuple[list[Row], str]
"""An entry as text, and the rows it is of."""


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


def measurements(
    group: Group, action: Action, start_ms: int, after: str, batch: list[Row], changed: list[Changed], now: datetime
) -> list[OutboundMessage]:
    """The changed entries as messages, expired ones too.

    They are about the group's quarter in just these revisions, so that a value that returns is told again, and `after` just what was
    told before: a replay that puts rows together differently tells all from there on anew, and ends with the newest.
    """
    of = [row for rows, _ in changed for row in rows]
    revisions = ";".join(sorted({f"{row.id}:{row.phase}:{row.revision}" for row in of}))
    return [
        message(
            partner_id=group.partner_id,
            group_id=group.group_id,
            action=action.value,
            about=f"{group.group_id}/{rfc3339(from_ms(start_ms))}/{revisions}{after and f'/{after}'}",
            body=body,
            now=now,
            stated_at=from_ms(max(row.at_ms for row in of)),
            owed_for=MEASUREMENTS_OWED,
            cause_id=next((row.event_id for row in batch if row.level == Level.GROUP.value), batch[0].event_id),
        )
        for body in bodies(group.group_id, [text for _, text in changed])
    ]
