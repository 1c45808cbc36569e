"""Telling thousands of scopes that their partner is away, or back, without keeping anything else waiting (semantics 3.3).

A partner may have ten thousand groups, and what it means for each takes milliseconds. So they are told a few at a time: in
between, boundaries that have come change their circuits, and the first to be told has fallen back before the last is reached.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pipelines.records import Tick
from pipelines.rules.scope_changes import Whereabouts

AT_ONCE = 50


class Fan(NamedTuple):
    """News of a partner for some scopes."""

    whereabouts: Whereabouts
    scope_ids: tuple[str, ...]


@dataclass
class FanState:
    """What is still to be told, in order, and since when it waits."""

    waiting: list[Fan] = field(default_factory=list)
    since: datetime | None = None


class FanOut:
    """Turns `Fan`s into one `(scope id, Whereabouts)` for each scope, `AT_ONCE` a step; one partner a key, in order."""

    def start(self, key: str) -> FanState:
        """Nothing to tell."""
        return FanState()

    def step(self, state: FanState, item: Fan | Tick, now: datetime) -> Iterator[tuple[str, Whereabouts]]:
        """The next few."""
        if isinstance(item, Fan) and item.scope_ids:
            state.waiting.append(item)
        room = AT_ONCE
        while state.waiting and room:
            whereabouts, scope_ids = state.waiting.pop(0)
            yield from ((scope_id, whereabouts) for scope_id in scope_ids[:room])
            if scope_ids[room:]:
                state.waiting.insert(0, Fan(whereabouts, scope_ids[room:]))
            room = max(0, room - len(scope_ids))
        state.since = now if state.waiting else None

    def due(self, state: FanState) -> datetime | None:
        """At once, while there is something left."""
        return state.since
