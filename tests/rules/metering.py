"""Feeds the metering rule without an engine: readings of the slow reference in, rows out."""

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from pipelines.rules.append_times import Stamps
from pipelines.rules.quarter_closing import take_step
from pipelines.rules.quarter_hours import CONTENT, METHODS, MeterTiming, judged, rows_of
from pipelines.rules.quarter_intake import Columns, Sorted, sort
from pipelines.rules.quarter_parts import Silence
from pipelines.rules.quarter_readings import BITS, ESTIMATED, VALUES, Table, no_readings
from pipelines.rules.quarter_rejects import FUTURE
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.quarter_snapshot import dump, load
from pipelines.rules.quarter_state import Shard
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.units import to_ms
from tests.builders import T0
from tests.rules.reference_quarter_hours import QUARTER, Reading

START = to_ms(T0)
FAR = START + 10 * 86_400_000
"""A clock so far ahead that it never holds event time back."""
Key = tuple[str, int, int]
NO_CONTENT = ("last_minute_w", "left_out")
"""What a row says beside its content: it may change without a revision."""


def roster(assets: Iterable[str], max_w: float | None = None, **timing: Any) -> Roster:
    """Assets of one scope without groups."""
    items = [{"id": asset, "scope_id": "s", "category": "CONSUMPTION", "max_w": max_w} for asset in sorted(assets)]
    config = Configuration.model_validate({"scopes": [{"id": "s"}], "assets": items, "timing": timing})
    return Roster.of(config, FrozenClock(T0))


def values_of(reading: Reading) -> tuple[float | None, ...]:
    return reading.power, reading.imported, reading.exported, reading.stored


def columns(readings: Sequence[Reading], roster: Roster, offset: int = 0) -> Columns:
    """A poll of these readings, in order, each in a message of its own."""
    ids = list(dict.fromkeys([*roster.ids, *(reading.asset for reading in readings)]))
    values = [[math.nan if value is None else value for value in values_of(reading)] for reading in readings]
    return Columns(
        np.array([ids.index(reading.asset) for reading in readings], np.int32),
        np.array([reading.at for reading in readings], np.int64),
        np.array([reading.phase for reading in readings], np.int8),
        np.array([sum(b for b, v in zip(BITS, values_of(r), strict=True) if v is not None) for r in readings], np.uint8),
        tuple(np.array(values, np.float64).reshape(-1, 4).T),
        np.array([reading.quality == "BAD" for reading in readings], np.bool_),
        np.array([reading.quality == "ESTIMATED" for reading in readings], np.bool_),
        np.array([reading.partition for reading in readings], np.int32),
        np.arange(offset, offset + len(readings), dtype=np.int64),
    )


def stamped(columns: Columns, clocks: Sequence[int]) -> Stamps:
    """When each reading's message was appended."""
    return Stamps(np.arange(len(columns.at)), columns.partition, columns.offset, np.array(clocks, np.int64))


def dealt(readings: Sequence[Reading], roster: Roster, now: int, partitions: tuple[int, ...] = (0,), shards: int = 1) -> Sorted:
    """A poll of readings that were appended at the clock's `now`, without silences."""
    poll = columns(readings, roster)
    return sort(poll, roster, now, partitions, (), shards, stamped(poll, [now] * len(readings)))


class Meter:
    """The rule over some shards; collects what they say. `restart` goes through the bytes of a snapshot."""

    def __init__(self, roster: Roster, shards: int = 1, partitions: tuple[int, ...] = (0, 1), *, files: bool = False) -> None:
        self.files: dict[str, bytes] | None = {} if files else None
        self.roster, self.partitions = roster, partitions
        self.shards = [Shard() for _ in range(shards)]
        self.rows: dict[Key, dict[str, Any]] = {}
        self.revisions: dict[Key, int] = {}
        self.running: list[dict[str, Any]] = []
        self.late: list[int] = []
        self.future: list[int] = []
        self.conflicts = 0
        self._offset = 0

    def poll(self, readings: Sequence[Reading], now: int = FAR, silences: tuple[Silence, ...] = ()) -> None:
        """Readings that are read and were appended at the clock's `now`."""
        poll = columns(readings, self.roster, self._offset)
        self._offset += len(readings)
        self._take(poll, now, silences, [now] * len(readings))

    def replay(self, log: Sequence[tuple[int, int, Reading]], now: int) -> None:
        """Of a log some (offset, the clock when it was appended, reading), read at the clock's `now`."""
        poll = columns([reading for _, _, reading in log], self.roster)
        poll.offset[:] = [offset for offset, _, _ in log]
        self._take(poll, now, (), [clock for _, clock, _ in log])

    def _take(self, poll: Columns, now: int, silences: tuple[Silence, ...], clocks: Sequence[int]) -> None:
        dealt = sort(poll, self.roster, now, self.partitions, silences, len(self.shards), stamped(poll, clocks))
        self.future += poll.offset[dealt.reasons == FUTURE].tolist()
        for shard, part in zip(self.shards, dealt.parts, strict=True):
            step, keys = take_step(shard, part, self.roster), shard.keys
            for rows, revisions in zip(step.rows, step.revisions, strict=True):
                for row, revision in zip(rows, revisions.tolist(), strict=True):
                    key = (keys.assets[keys.asset[row["key"]]], int(keys.phase[row["key"]]), int(row["start"]))
                    assert revision == self.revisions.get(key, 0) + 1
                    self.revisions[key], self.rows[key] = revision, {k: v for k, v in plain(row).items() if k not in NO_CONTENT}
            self.running += [
                plain(row) | {"asset": keys.assets[keys.asset[row["key"]]], "start": int(row["start"])}
                for some in step.running
                for row in some
            ]
            self.late += [one for _, offsets, _ in step.late for one in offsets.tolist()]
            self.conflicts += sum(len(key) for key, _ in step.conflicts)

    def close(self, hours: float = 3) -> None:
        """All partitions fall silent until everything is closed."""
        later = FAR + round(hours * 3_600_000)
        self.poll([], later, tuple(Silence(partition, FAR, later) for partition in self.partitions))

    def restart(self) -> None:
        """Through the bytes of a snapshot: all of it in one, or closed quarters in files of their own that later snapshots name again."""
        if self.files is None:
            self.shards = [load(dump(shard)) for shard in self.shards]
        else:
            self.shards = [load(dump(shard, self.files.__setitem__), self.files.__getitem__) for shard in self.shards]


def table(readings: Sequence[Reading]) -> Table:
    """The good readings as a table with one key an asset and phase, in order of arrival."""
    good = [reading for reading in readings if reading.quality != "BAD"]
    keys = sorted({(reading.asset, reading.phase) for reading in good})
    out = no_readings(len(good))
    for row, reading in enumerate(good):
        out["key"][row], out["at"][row] = keys.index((reading.asset, reading.phase)), reading.at
        out["flags"][row] = ESTIMATED if reading.quality == "ESTIMATED" else 0
        for name, bit, value in zip(VALUES, BITS, values_of(reading), strict=True):
            if value is not None:
                out[name][row] = value
                out["flags"][row] |= bit
    return out


def whole(readings: Sequence[Reading], max_w: float = 1e6) -> dict[Key, dict[str, Any]]:
    """The rows of all quarters of a set of readings, from the arithmetic alone: no shards, no time."""
    keys = sorted({(reading.asset, reading.phase) for reading in readings if reading.quality != "BAD"})
    first, last = (pick(reading.at for reading in readings) // QUARTER for pick in (min, max))
    starts = np.arange(first - 5, last + 6) * QUARTER
    key = np.repeat(np.arange(len(keys), dtype=np.int32), len(starts))
    known = judged(table(readings), np.full(len(keys), max_w))
    return {(*keys[row["key"]], int(row["start"])): plain(row) for row in rows_of(known, key, np.tile(starts, len(keys)), MeterTiming())}


def plain(row: Any) -> dict[str, Any]:
    """A row's content as plain values, None where there is nothing."""
    numbers = {name: None if math.isnan(row[name]) else float(row[name]) for name in (*CONTENT, "last_minute_w")}
    flags = {name: bool(row[name]) for name in ("estimated", "reset")}
    return numbers | flags | {"samples": int(row["samples"]), "left_out": int(row["left_out"]), "method": METHODS[row["method"]].value}


def differences(got: dict[Key, dict[str, Any]], want: dict[Key, dict[str, Any]]) -> list[Any]:
    """What is not as it should be: rows, and of each row its fields, numbers to 1e-9 of the largest one about."""
    out: list[Any] = [(key, "missing") for key in want.keys() - got.keys()] + [(key, "too much") for key in got.keys() - want.keys()]
    for key in want.keys() & got.keys():
        for name, value in want[key].items():
            mine = got[key][name]
            if isinstance(value, float) and isinstance(mine, float):
                if not math.isclose(mine, value, rel_tol=1e-9, abs_tol=1e-6):
                    out.append((key, name, mine, value))
            elif mine != value:
                out.append((key, name, mine, value))
    return out


def minutes(number: float) -> int:
    """ms of so many minutes."""
    return timedelta(minutes=number) // timedelta(milliseconds=1)
