"""A rule that fails at one item must not end the flow, and with it everything else its process does: the item is left out, told, and
the other keys go on. A rule that fails at everything is a bad deploy, and ends it (architecture: errors).

What of the item had been taken into its key's state by then stays there: nothing is known of it but that it is odd.
"""

import logging
from datetime import datetime, timedelta

from pipelines.records import Out
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.outbound import DeadLetter
from schemas.topics import DEAD_LETTERS, EVENTS
from schemas.units import rfc3339

MOST_IN_A_ROW = 20
"""After so many failures without one success between them the flow ends."""
MUTED = timedelta(minutes=1)
"""So long (clock) a key whose timer failed is not woken by it again."""
LONGEST_WORDS = 300
log = logging.getLogger(__name__)


class Containment:
    """The failures of one step's rule, over all its keys. For the engine's thread only."""

    def __init__(self, step_id: str) -> None:
        self._step_id, self._in_a_row = step_id, 0

    def went_well(self) -> None:
        """An item was taken in."""
        self._in_a_row = 0

    def failed(self, key: str, item: object, error: Exception, now: datetime) -> list[Out]:
        """The dead letter and the alarm about an item that was left out. Raises the error when there have been too many in a row."""
        self._in_a_row += 1
        if self._in_a_row > MOST_IN_A_ROW:
            raise error
        log.error("%s failed at %s of %s, which is left out", self._step_id, type(item).__name__, key, exc_info=error)
        cause_id = getattr(item, "event_id", None)
        words = f"{self._step_id} cannot work on a {type(item).__name__}: {type(error).__name__}: {error}"[:LONGEST_WORDS]
        identity = derived_id("rule failed", self._step_id, key, cause_id or rfc3339(now), type(error).__name__)
        letter = DeadLetter(
            event_id=identity, at=now, cause_id=cause_id, reason=words, subject=key, topic="", partition=0, offset=0, raw=b""
        )  # fmt: skip
        alarm = Event(
            event_id=derived_id("rule failed alarm", identity),
            at=now,
            cause_id=cause_id,
            subject_kind=SubjectKind.SYSTEM,
            subject_id=self._step_id,
            kind="rule.failed",
            severity=Severity.ALARM,
            words=f"{words}; what concerns {key} may be wrong until it is looked at, everything else goes on",
        )
        return [Out(DEAD_LETTERS, self._step_id, letter), Out(EVENTS, self._step_id, alarm)]
