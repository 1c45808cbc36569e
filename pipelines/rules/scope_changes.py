"""Which scopes a change of the configuration concerns, and that each is looked at again (semantics 3.3, 4).

What a flow sees of the configuration may follow the change it was told of a moment later. So each scope is looked at
twice: at once, and again when every view of the configuration has surely followed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from pipelines.records import Tick
from schemas.config import ConfigChange
from schemas.units import from_ms, to_ms


class LookAgain(NamedTuple):
    """The configuration that concerns `scope_id` was changed at `at` by the change `event_id`."""

    scope_id: str
    at: datetime
    event_id: str


@dataclass
class ChangesState:
    """The scope of each group and circuit as last told, and what is to be looked at a second time when."""

    scope_of: dict[str, str] = field(default_factory=dict)
    again: dict[str, tuple[int, LookAgain]] = field(default_factory=dict)


class ScopeChanges:
    """Turns `ConfigChange`s into `LookAgain`s; one key for all, since items refer to each other."""

    def __init__(self, follow_within: timedelta) -> None:
        """`follow_within`: how long after a change a view may still show what was before (clock time)."""
        self._follow_within = follow_within

    def start(self, key: str) -> ChangesState:
        """Nothing told yet."""
        return ChangesState()

    def step(self, state: ChangesState, item: ConfigChange | Tick, now: datetime) -> Iterator[LookAgain]:
        """The scopes concerned, now; and those whose second look is due."""
        if isinstance(item, ConfigChange):
            for scope_id in _concerned(state, item):
                look = LookAgain(scope_id, item.at, item.event_id)
                state.again[scope_id] = (to_ms(now + self._follow_within), look)
                yield look
        due = [scope_id for scope_id, (at_ms, _) in state.again.items() if at_ms <= to_ms(now)]
        for scope_id in due:
            yield state.again.pop(scope_id)[1]

    def due(self, state: ChangesState) -> datetime | None:
        """The first second look."""
        return from_ms(min(at_ms for at_ms, _ in state.again.values())) if state.again else None


def _concerned(state: ChangesState, change: ConfigChange) -> list[str]:
    body = json.loads(change.body) if change.body is not None else {}
    item = f"{change.kind}/{change.id}"
    match change.kind:
        case "groups":
            found = [state.scope_of.pop(item, None), body.get("scope_id")]
            if found[1] is not None:
                state.scope_of[item] = found[1]
        case "scopes":
            found = [change.id]
            if body.get("circuit_id") is not None:
                state.scope_of[f"circuits/{body['circuit_id']}"] = change.id
        case "circuits":
            found = [state.scope_of.get(item)]
        case _:
            found = []
    return list(dict.fromkeys(scope_id for scope_id in found if scope_id is not None))
