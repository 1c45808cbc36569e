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


class Whereabouts(NamedTuple):
    """Since when a partner is, or is no longer, away, and the id of the fact that said so."""

    partner_id: str
    away: bool
    since: datetime
    event_id: str


class LookAgain(NamedTuple):
    """The configuration that concerns `scope_id` was changed at `at` by the change `event_id`.

    `partners` is where the partners of its groups were last known to be: a group may be new to a scope whose partner
    went away before.
    """

    scope_id: str
    at: datetime
    event_id: str
    partners: tuple[Whereabouts, ...] = ()


@dataclass
class ChangesState:
    """The scope of each group and circuit as last told, each scope's groups with their partners, where each partner is,
    and what is to be looked at a second time when (ms; the earliest first)."""

    scope_of: dict[str, str] = field(default_factory=dict)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    partners: dict[str, Whereabouts] = field(default_factory=dict)
    again: dict[str, tuple[int, LookAgain]] = field(default_factory=dict)


class ScopeChanges:
    """Turns `ConfigChange`s into `LookAgain`s; one key for all, since items refer to each other."""

    def __init__(self, follow_within: timedelta) -> None:
        """`follow_within`: how long after a change a view may still show what was before (clock time)."""
        self._follow_within = follow_within

    def start(self, key: str) -> ChangesState:
        """Nothing told yet."""
        return ChangesState()

    def step(self, state: ChangesState, item: ConfigChange | Whereabouts | Tick, now: datetime) -> Iterator[LookAgain]:
        """The scopes concerned, now; and those whose second look is due."""
        if isinstance(item, Whereabouts):
            state.partners[item.partner_id] = item
        elif isinstance(item, ConfigChange):
            for scope_id in _concerned(state, item):
                look = LookAgain(scope_id, item.at, item.event_id)
                state.again.pop(scope_id, None)
                state.again[scope_id] = (to_ms(now + self._follow_within), look)
                yield _informed(state, look)
        while state.again and (first := next(iter(state.again.items())))[1][0] <= to_ms(now):
            del state.again[first[0]]
            yield _informed(state, first[1][1])

    def due(self, state: ChangesState) -> datetime | None:
        """The first second look."""
        return from_ms(next(iter(state.again.values()))[0]) if state.again else None


def _informed(state: ChangesState, look: LookAgain) -> LookAgain:
    partner_ids = dict.fromkeys(state.groups.get(look.scope_id, {}).values())
    return look._replace(partners=tuple(state.partners[one] for one in partner_ids if one in state.partners))


def _concerned(state: ChangesState, change: ConfigChange) -> list[str]:
    body = json.loads(change.body) if change.body is not None else None
    match change.kind:
        case "groups":
            found = [_taken(state, change.id)]
            if body is not None:
                found.append(body["scope_id"])
                state.scope_of[f"groups/{change.id}"] = body["scope_id"]
                state.groups.setdefault(body["scope_id"], {})[change.id] = body["partner_id"]
        case "scopes":
            found = [change.id]
            if body is not None and body.get("circuit_id") is not None:
                state.scope_of[f"circuits/{body['circuit_id']}"] = change.id
        case "circuits":
            found = [state.scope_of.get(f"circuits/{change.id}")]
        case _:
            found = []
    return list(dict.fromkeys(scope_id for scope_id in found if scope_id is not None))


def _taken(state: ChangesState, group_id: str) -> str | None:
    before = state.scope_of.pop(f"groups/{group_id}", None)
    if before is not None:
        del state.groups[before][group_id]
    return before
