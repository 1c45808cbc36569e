"""What people read of repairs: events on the scope's (or asset's) key (semantics 1.10)."""

from collections.abc import Sequence
from datetime import datetime

from pipelines.records import Out
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.repair_schedule import Due
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.telemetry import QuarterHour
from schemas.topics import EVENTS
from schemas.units import from_ms, rfc3339


def told(due: Due, rows: Sequence[QuarterHour], roster: Roster, now: datetime) -> list[Out]:
    """That late readings changed rows of their asset; nothing where they changed none."""
    if not rows:
        return []
    first, last = min(row.start for row in rows), max(row.start for row in rows)
    which = f"the quarter hour from {rfc3339(first)}"
    if first != last:
        which = f"{len(rows)} quarter hours, the first from {rfc3339(first)}, the last from {rfc3339(last)}"
    words = f"{due.asset_id}: late readings changed {which}"
    return [_event("quarters_repaired", Severity.INFO, due, words, roster, now, *(row.event_id for row in rows))]


def gave_up(due: Due, roster: Roster, now: datetime) -> list[Out]:
    """That late readings did not come into the history in time, and what a person can do."""
    first, until = rfc3339(from_ms(due.spans[0][0])), rfc3339(from_ms(due.spans[-1][1]))
    words = (
        f"{due.asset_id}: late readings were not repaired, since the history has not taken them in; once derms run archive works: "
        f"derms telemetry repair --from {first} --to {until} --asset {due.asset_id}"
    )
    return [_event("repair_given_up", Severity.ALARM, due, words, roster, now, due.cause_id, *due.spans)]


def _event(kind: str, severity: Severity, due: Due, words: str, roster: Roster, now: datetime, *of: object) -> Out:
    event = Event(
        event_id=derived_id(kind, due.asset_id, *of),
        at=now,
        cause_id=due.cause_id,
        subject_kind=SubjectKind.ASSET,
        subject_id=due.asset_id,
        kind=kind,
        severity=severity,
        words=words,
    )
    return Out(EVENTS, roster.scope_of(due.asset_id) or due.asset_id, event)
