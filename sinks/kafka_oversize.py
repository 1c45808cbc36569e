"""What is said instead of a message that is larger than its topic takes: nothing behind it is held up by it.

A flow that ended over it would come back to it for ever: its input is read again, and makes the same message again.
"""

import json
import logging
from datetime import UTC, datetime

from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import Fact, Value, derived_id, digest
from schemas.outbound import DeadLetter
from schemas.topics import Topic

log = logging.getLogger(__name__)

KEPT_BYTES = 64 * 1024
"""So much of the beginning of a message that is too large stands in its dead letter."""

KIND = "message.too-large"
"""The kind of the event that tells of it."""


def words_of(topic: Topic, size: int) -> str:
    """Why a message of so many bytes is not written."""
    return f"a message of {size} bytes is more than the {topic.max_bytes} that {topic.name} takes"


def instead_of(topic: Topic, key: str, value: Value | bytes, raw: bytes) -> tuple[DeadLetter, Event]:
    """The dead letter with the beginning of a message's bytes, and the alarm; it is logged, too.

    Their ids are the same each time the same message comes. `value` is what `raw` was made from.
    """
    identity = value.event_id if isinstance(value, Fact) else digest(raw)
    at = value.at if isinstance(value, Fact) else datetime.now(UTC)
    reason = words_of(topic, len(raw))
    letter = DeadLetter(
        event_id=derived_id("dead-letter", KIND, topic.name, key, identity),
        at=at,
        cause_id=identity if isinstance(value, Fact) else None,
        reason=reason,
        subject=key,
        topic=topic.name,
        partition=0,
        offset=0,
        raw=raw[:KEPT_BYTES],
    )
    alarm = Event(
        event_id=derived_id("event", KIND, topic.name, key, identity),
        at=at,
        cause_id=letter.event_id,
        subject_kind=SubjectKind.SYSTEM,
        subject_id=topic.name,
        kind=KIND,
        severity=Severity.ALARM,
        words=f"{topic.name}, key {key}: {reason}; it was left out, and its beginning is in the dead letters",
        data=json.dumps({"topic": topic.name, "key": key, "bytes": len(raw), "most_bytes": topic.max_bytes}),
    )
    log.error("%s", alarm.words)
    return letter, alarm
