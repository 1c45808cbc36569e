"""What people are told of writing to the legacy platform (semantics 4). Pure."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime

from schemas.connection import CIRCUIT_REFUSED, CIRCUIT_UNREACHABLE, CIRCUIT_WRITTEN, Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.units import rfc3339
from sinks.circuit_lane import Lane, Write
from sinks.circuit_queue import Outcome, Sent
from sinks.circuit_requests import Judgement

NameOf = Callable[[str], str]
"""What people call a circuit, by its id."""


def event_of(sent: Sent, judgement: Judgement, name: str, at: datetime) -> Event:
    """That the platform has a change, or will not have it (an alarm)."""
    written = judgement.outcome is Outcome.WRITTEN
    kind = CIRCUIT_WRITTEN if written else CIRCUIT_REFUSED
    told = f"{sent.write.words}{'' if sent.own else ', asserted again after a start'}"
    words = f"circuit {name} was told {told}" if written else f"circuit {name} was not told {told}: the platform {judgement.words}"
    data = {
        "status": judgement.status,
        "attempts": sent.attempt,
        "duration_ms": judgement.duration_ms,
        "asserted": not sent.own,
    }
    severity = Severity.INFO if written else Severity.ALARM
    return _event(kind, severity, sent.lane.circuit_id, sent.write, sent.key, words, data, at)


def unreachable(lane: Lane, write: Write, key: str, name: str, at: datetime) -> Event:
    """That nothing of a circuit has got through for a while; it is tried on. May be told again, at another instant."""
    why = lane.why or "its turn has not come yet"
    words = f"circuit {name} could not be told {write.words} for a while now, and is tried until it can: {why}"
    key = f"{key} {rfc3339(at)}"
    return _event(CIRCUIT_UNREACHABLE, Severity.WARNING, lane.circuit_id, write, key, words, {"attempts": lane.attempts}, at)


def _event(
    kind: str, severity: Severity, circuit_id: str, write: Write, key: str, words: str, data: Mapping[str, object], at: datetime
) -> Event:
    about = {"change_id": write.change_id, "effective_from": rfc3339(write.effective_from)}
    return Event(
        event_id=derived_id(kind, key),
        at=at,
        cause_id=write.change_id,
        subject_kind=SubjectKind.CIRCUIT,
        subject_id=circuit_id,
        kind=kind,
        severity=severity,
        words=words,
        data=json.dumps({**about, **data}),
    )
