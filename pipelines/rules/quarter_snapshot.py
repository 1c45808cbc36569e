"""A shard as bytes and back: what a recovery store keeps of it. Arrays and plain types only, with a version."""

import pickle
from typing import Any

from pipelines.rules.quarter_blocks import Block
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_lane import Lane
from pipelines.rules.quarter_state import Shard
from pipelines.rules.quarter_written import Written
from pipelines.rules.watermarks import PartitionTime, Watermarks

VERSION = 1
_KEYS = ("assets", "by_asset", "asset", "phase", "closed", "last_register", "reached_until", "dirty", "touched", "max_w")
_TIME = ("newest", "watermark", "silence", "base", "quiet_at")


def dump(shard: Shard) -> bytes:
    """The shard's state by value. `load` of it goes on as the shard itself would."""
    state = {
        "version": VERSION,
        "home": shard.home,
        "tick": shard.tick,
        "stray": shard.stray,
        "settled": shard.settled,
        "until": (shard.absent_until, shard.overdue_until, shard.overdue_next),
        "times": {partition: tuple(getattr(time, name) for name in _TIME) for partition, time in shard.times.times.items()},
        "lanes": {partition: _lane(lane) for partition, lane in shard.lanes.items()},
    }
    return pickle.dumps(state, protocol=5)


def load(snapshot: bytes) -> Shard:
    """The shard of a snapshot; ValueError, with the cure, for one of another version."""
    state = pickle.loads(snapshot)  # noqa: S301 - our own recovery store
    if state["version"] != VERSION:
        raise ValueError(
            f"the telemetry flow's recovery store has state of version {state['version']}, this program reads version {VERSION}; "
            "move the store away: the flow then reads again what Kafka holds and writes the same rows"
        )
    shard = Shard()
    shard.home, shard.tick, shard.stray, shard.settled = state["home"], state["tick"], state["stray"], state["settled"]
    shard.absent_until, shard.overdue_until, shard.overdue_next = state["until"]
    shard.times = Watermarks({partition: PartitionTime(*values) for partition, values in state["times"].items()})
    shard.lanes = {partition: _loaded(lane) for partition, lane in state["lanes"].items()}
    return shard


def _lane(lane: Lane) -> dict[str, Any]:
    return {
        "keys": {name: getattr(lane.keys, name) for name in _KEYS},
        "at": (lane.watermark, lane.cut, lane.next_close),
        "blocks": {start: (block.ordered, block.rows()) for start, block in lane.blocks.items()},
        "written": lane.written.quarters,
        "carried": (lane.base, lane.tail),
    }


def _loaded(state: dict[str, Any]) -> Lane:
    lane = Lane()
    lane.keys = Keys()
    for name, value in state["keys"].items():
        setattr(lane.keys, name, value)
    lane.watermark, lane.cut, lane.next_close = state["at"]
    lane.blocks = {start: Block(rows, ordered) for start, (ordered, rows) in state["blocks"].items()}
    lane.written = Written()
    lane.written.quarters = state["written"]
    lane.base, lane.tail = state["carried"]
    return lane
