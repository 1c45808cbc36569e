"""What the envelope's rule says, as facts on their topics (semantics 3)."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pipelines.records import Out
from pipelines.rules.envelope_parts import Found
from pipelines.rules.limits import piece_of
from schemas.capacity import OperatingEnvelope
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id, made
from schemas.topics import ENVELOPES, EVENTS
from schemas.units import from_ms, whole_ms


def envelope(scope_id: str, revision: int, part: Found, effective_ms: int, cause_id: str, now: datetime) -> Out:
    """A revision of a scope's envelope; `part` begins at `effective_ms`."""
    value = made(
        OperatingEnvelope,
        event_id=derived_id("envelope", scope_id, revision, cause_id),
        at=whole_ms(now),
        cause_id=cause_id,
        scope_id=scope_id,
        revision=revision,
        effective_at=from_ms(effective_ms),
        pieces=[piece_of(stretch, phase) for phase in part for stretch in part[phase]],
    )
    return Out(ENVELOPES, scope_id, value)


def oddities(scope_id: str, item_id: str, odd: Iterable[str], now: datetime) -> Iterator[Out]:
    """An event for each thing that was odd about an item, once."""
    for words in dict.fromkeys(odd):
        event = Event(
            event_id=derived_id("forecast odd", scope_id, item_id, words),
            at=now,
            cause_id=item_id,
            subject_kind=SubjectKind.SCOPE,
            subject_id=scope_id,
            kind="forecast odd",
            severity=Severity.WARNING,
            words=words,
        )
        yield Out(EVENTS, scope_id, event)
