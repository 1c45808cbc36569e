"""A shard as bytes and back: what a recovery store keeps of it. Arrays and plain types only, with a version.

What is open goes into every snapshot, packed: no minutes that have not begun, no values that nobody sends. Quarters that
are closed change only by late readings: each partition's share of one is a segment, stored once when it closed and again
when it was touched; snapshots name it. A shard without a store for segments puts everything into the snapshot.
"""

import pickle
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np

from pipelines.rules.quarter_arrivals import Buffer
from pipelines.rules.quarter_keys import COLUMNS, Keys
from pipelines.rules.quarter_readings import BITS, VALUES, Flags, Table, no_readings
from pipelines.rules.quarter_slots import Slots
from pipelines.rules.quarter_state import Segment, Shard
from schemas.intervals import QUARTER_MS

VERSION = 3
Put = Callable[[str, bytes], None]
Get = Callable[[str], bytes]
_PLAIN = (
    "watermark", "cut", "next_close", "folded", "tick", "looked", "stray",
    "segments", "number",
)  # fmt: skip


def dump(shard: Shard, put: Put | None = None) -> bytes:
    """The shard's state by value; `load` of it goes on as the shard itself would.

    With `put` the closed quarters that are not stored yet are handed to it as one file, under a name that begins with the
    shard's number and was never used before.
    """
    closed = _closed(shard) if put is not None else {}
    if put is not None:
        fresh = {place: mine for place, mine in closed.items() if place not in shard.segments}
        if fresh:
            name = f"{shard.number}-{uuid4().hex}"
            put(name, _bytes({place: shard.slots.packed(*mine) for place, mine in fresh.items()}))
            shard.segments |= dict.fromkeys(fresh, name)
    shard.segments = {place: name for place, name in shard.segments.items() if place in closed}
    rest = np.ones(shard.slots.slots.shape, np.bool_)
    for (_, start), (_, few) in closed.items():
        rest[np.searchsorted(shard.slots.starts, start), few] = False
    open_starts = {
        int(start): shard.slots.packed(int(start), np.flatnonzero(rest[block] & (shard.slots.slots[block] >= 0)))
        for block, start in enumerate(shard.slots.starts)
    }
    state = {
        "version": VERSION,
        "keys": {name: getattr(shard.keys, name) for name in COLUMNS},
        "assets": (shard.keys.assets, shard.keys.home_of_asset, shard.keys.by_asset),
        "bases": (shard.slots.base_at, shard.slots.base_w),
        "open": open_starts,
        "kept": _packed(shard.kept),
        "buffer": _packed(shard.buffer.rows()),
        "times": shard.times.__dict__,
        **{name: getattr(shard, name) for name in _PLAIN},
    }
    return _bytes(state)


def load(snapshot: bytes, get: Get | None = None) -> Shard:
    """The shard of a snapshot, its closed quarters read by `get`; ValueError, with the cure, for one of another version."""
    state: dict[str, Any] = pickle.loads(snapshot)  # noqa: S301 - our own recovery store
    if state["version"] != VERSION:
        raise ValueError(
            f"the telemetry flow's recovery store has state of version {state['version']}, this program reads version {VERSION}; "
            "move the store away: the flow then reads again what Kafka holds and writes the same rows"
        )
    shard = Shard()
    shard.keys, shard.slots = Keys(), Slots()
    for name, column in state["keys"].items():
        setattr(shard.keys, name, column)
    shard.keys.assets, shard.keys.home_of_asset, shard.keys.by_asset = state["assets"]
    shard.home = {asset: index for index, asset in enumerate(shard.keys.assets)}
    shard.slots.know(len(shard.keys))
    shard.slots.base_at, shard.slots.base_w = state["bases"]
    shard.kept, shard.buffer = _unpacked(state["kept"]), Buffer(_unpacked(state["buffer"]))
    shard.times.restore(state["times"])
    for name in _PLAIN:
        setattr(shard, name, state[name])
    shard.slots.unpack(state["open"].items())
    files = {name: pickle.loads(_stored(get, name)) for name in set(shard.segments.values())}  # noqa: S301
    shard.slots.unpack((start, files[name][partition, start]) for (partition, start), name in shard.segments.items())
    return shard


def _stored(get: Get | None, name: str) -> bytes:
    if get is None:
        raise ValueError("the snapshot names closed quarters that are stored beside it, and no store was given")
    return get(name)


def _closed(shard: Shard) -> dict[Segment, tuple[int, np.ndarray[Any, Any]]]:
    """By partition and start the quarters all of which are closed, and their keys."""
    keys, found = shard.keys, dict[Segment, tuple[int, np.ndarray[Any, Any]]]()
    for block, start in enumerate(shard.slots.starts.tolist()):
        here = np.flatnonzero(shard.slots.slots[block, : len(keys)] >= 0)
        pending = np.unique(keys.home[here[keys.closed[here] < start + QUARTER_MS]])
        for partition in np.setdiff1d(keys.home[here], pending).tolist():
            if shard.watermark[partition] >= start + QUARTER_MS:
                found[partition, start] = (start, here[keys.home[here] == partition])
    return found


def _packed(rows: Table) -> dict[str, Any]:
    """A table of readings without the values they do not have."""
    base = int(rows["at"].min()) if len(rows) else 0
    at = rows["at"] - base
    near = len(rows) == 0 or int(at.max()) < 1 << 32
    values = {name: rows[name][_has(rows, bit)] for name, bit in zip(VALUES, BITS, strict=True)}
    return {"base": base, "at": at.astype(np.uint32) if near else at, "key": rows["key"].copy(), "flags": rows["flags"].copy()} | values


def _unpacked(packed: dict[str, Any]) -> Table:
    rows = no_readings(len(packed["key"]))
    rows["key"], rows["flags"], rows["at"] = packed["key"], packed["flags"], packed["at"].astype(np.int64) + packed["base"]
    for name, bit in zip(VALUES, BITS, strict=True):
        rows[name][_has(rows, bit)] = packed[name]
    return rows


def _has(rows: Table, bit: int) -> Flags:
    has: Flags = (rows["flags"] & bit) != 0
    return has


def _bytes(value: object) -> bytes:
    return pickle.dumps(value, protocol=5)
