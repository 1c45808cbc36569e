"""A shard as bytes and back: what a recovery store keeps of it. Arrays and plain types only, with a version.

What is open goes into each snapshot, no minutes that have not begun included. Quarters that are closed change only by late
readings: each partition's share of one is a segment, which is handed out to be stored when it was closed or touched, and
named in the snapshots after.
"""

import pickle
from typing import Any

from pipelines.rules.quarter_state import Shard

VERSION = 2


def dump(shard: Shard) -> bytes:
    """The shard's state by value. `load` of it goes on as the shard itself would."""
    return pickle.dumps({"version": VERSION, "shard": shard.__dict__ | {"_roster": None}}, protocol=5)


def load(snapshot: bytes) -> Shard:
    """The shard of a snapshot; ValueError, with the cure, for one of another version."""
    state: dict[str, Any] = pickle.loads(snapshot)  # noqa: S301 - our own recovery store
    if state["version"] != VERSION:
        raise ValueError(
            f"the telemetry flow's recovery store has state of version {state['version']}, this program reads version {VERSION}; "
            "move the store away: the flow then reads again what Kafka holds and writes the same rows"
        )
    shard = Shard()
    shard.__dict__.update(state["shard"])
    return shard
