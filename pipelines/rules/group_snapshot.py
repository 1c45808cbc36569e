"""A group shard as bytes and back: what a recovery store keeps of it. Arrays and plain types only, with a version."""

import pickle
from typing import Any

from pipelines.rules.group_quarters import Kept, Quarter
from pipelines.rules.group_shard import GroupShard

VERSION = 3
"""1 was a state of its own for each scope, and did not say so; 2 had the bindings too, which the configuration tells now."""
_READ = (2, VERSION)

_SEATS = ("marks", "settled", "place", "since")
_KEPT = ("numbers", "samples", "marks")


def dump(shard: GroupShard) -> bytes:
    """The shard's state by value. `load` of it goes on as the shard itself would."""
    state = {
        "version": VERSION,
        "number": shard.number,
        "until": (shard.overdue, shard.gone, shard.ticked),
        "told": shard.told,
        "seats": [getattr(shard.seats, name) for name in _SEATS],
        "quarters": {start: (_kept(one.final), _kept(one.running), one.said) for start, one in shard.quarters.items()},
    }
    return pickle.dumps(state, protocol=5)


def load(snapshot: bytes) -> GroupShard:
    """The shard of a snapshot; ValueError, with the cure, for one of another version."""
    state = pickle.loads(snapshot)  # noqa: S301 - our own recovery store
    version = state.get("version", 1)
    if version not in _READ:
        raise ValueError(
            f"the telemetry flow's recovery store has groups of version {version}, this program reads version {VERSION}; "
            "move the store away: the flow then reads again what Kafka holds and writes the same rows"
        )
    shard = GroupShard(state["number"])
    shard.overdue, shard.gone, shard.ticked = state["until"]
    shard.told = state["told"]
    for name, column in zip(_SEATS, state["seats"], strict=True):
        setattr(shard.seats, name, column)
    shard.seats.sort()
    for start, (final, running, said) in state["quarters"].items():
        quarter = shard.quarters[start] = Quarter(start)
        _fill(quarter.final, final)
        _fill(quarter.running, running)
        quarter.said = said
    return shard


def _kept(kept: Kept) -> Any:
    return [getattr(kept, name) for name in _KEPT]


def _fill(kept: Kept, columns: Any) -> None:
    for name, column in zip(_KEPT, columns, strict=True):
        setattr(kept, name, column)
