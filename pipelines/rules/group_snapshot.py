"""A group shard as bytes and back: what a recovery store keeps of it. Arrays and plain types only, with a version."""

import pickle
from typing import Any

from pipelines.rules.group_bindings import Binding, Bindings
from pipelines.rules.group_quarters import Kept, Quarter
from pipelines.rules.group_shard import GroupShard

VERSION = 2
"""1 was a state of its own for each scope, and did not say so."""

_SEATS = ("marks", "settled", "place", "since")
_KEPT = ("numbers", "samples", "marks")


def dump(shard: GroupShard) -> bytes:
    """The shard's state by value. `load` of it goes on as the shard itself would."""
    state = {
        "version": VERSION,
        "number": shard.number,
        "until": (shard.overdue, shard.gone, shard.ticked),
        "told": shard.told,
        "assets": _bindings(shard.assets),
        "groups": _bindings(shard.groups),
        "seats": [getattr(shard.seats, name) for name in _SEATS],
        "quarters": {start: (_kept(one.final), _kept(one.running), one.said) for start, one in shard.quarters.items()},
    }
    return pickle.dumps(state, protocol=5)


def load(snapshot: bytes) -> GroupShard:
    """The shard of a snapshot; ValueError, with the cure, for one of another version."""
    state = pickle.loads(snapshot)  # noqa: S301 - our own recovery store
    version = state.get("version", 1)
    if version != VERSION:
        raise ValueError(
            f"the telemetry flow's recovery store has groups of version {version}, this program reads version {VERSION}; "
            "move the store away: the flow then reads again what Kafka holds and writes the same rows"
        )
    shard = GroupShard(state["number"])
    shard.overdue, shard.gone, shard.ticked = state["until"]
    shard.told = state["told"]
    shard.assets, shard.groups = _bound(state["assets"]), _bound(state["groups"])
    for name, column in zip(_SEATS, state["seats"], strict=True):
        setattr(shard.seats, name, column)
    shard.seats.sort()
    for start, (final, running, said) in state["quarters"].items():
        quarter = shard.quarters[start] = Quarter(start)
        _fill(quarter.final, final)
        _fill(quarter.running, running)
        quarter.said = said
    return shard


def _bindings(bindings: Bindings) -> Any:
    """In columns: of thousands of small tuples, each costs a microsecond."""
    return bindings.known, *(list(zip(*some, strict=True)) for some in (bindings.current.values(), bindings.past))


def _bound(state: Any) -> Bindings:
    bindings = Bindings()
    bindings.known, current, past = state
    bindings.current = {one.name: one for one in map(Binding._make, zip(*current, strict=True))}
    bindings.past = [*map(Binding._make, zip(*past, strict=True))]
    return bindings


def _kept(kept: Kept) -> Any:
    return [getattr(kept, name) for name in _KEPT]


def _fill(kept: Kept, columns: Any) -> None:
    for name, column in zip(_KEPT, columns, strict=True):
        setattr(kept, name, column)
