"""What people read of groups: that rows of members came when their quarters' groups could no longer be summed again (semantics 2)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from pipelines.records import Out
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.topics import EVENTS
from schemas.units import from_ms, rfc3339

_DAY = timedelta(days=1)
_REMEMBERED = 10_000
"""So many of what has been told are remembered; told again, it has the same id."""


class Behind:
    """Tells it once for each scope and day (UTC), whichever shards and lives say so: the same day has the same id."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, datetime], None] = {}

    def told(self, passed: Mapping[tuple[str, int], int], now: datetime) -> list[Out]:
        """The events for what a step passed by (`GroupShard.passed`), each with what a person can do."""
        outs = []
        for scope, start in sorted(passed):
            day = from_ms(start).replace(hour=0, minute=0, second=0, microsecond=0)
            if (scope, day) in self._told:
                continue
            self._told[scope, day] = None
            if len(self._told) > _REMEMBERED:
                del self._told[next(iter(self._told))]
            words = (
                f"{scope}: rows of assets came days behind those of others, when the rows of its groups were done; once no "
                f"partition is behind any more: derms telemetry repair --from {rfc3339(day)} --to {rfc3339(day + _DAY)}"
            )
            event = Event(
                event_id=derived_id("groups_behind", scope, rfc3339(day)),
                at=now,
                subject_kind=SubjectKind.SCOPE,
                subject_id=scope,
                kind="groups_behind",
                severity=Severity.WARNING,
                words=words,
            )
            outs.append(Out(EVENTS, scope, event))
        return outs
