"""A poll of telemetry taken in: bytes to columns, columns judged and dealt to shards, the rest to dead letters (semantics 1.8)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipelines.places import places, stamps
from pipelines.records import Poll
from pipelines.rules.quarter_intake import Columns, rejected, sort
from pipelines.rules.quarter_parts import Part, Silence
from pipelines.rules.quarter_rejects import BAD, GOOD, NO_MINUTE, REASONS, Reject, collapsed
from pipelines.rules.quarter_roster import Roster, Rosters
from schemas.telemetry import Measurement
from schemas.topics import TELEMETRY
from schemas.units import from_ms, to_ms
from sinks.codec import encode
from sinks.columns import PHASES, QUALITIES, VALUES, Readings, decode_readings
from sinks.known_ids import KnownIds

Count = Callable[[str, int], None]
"""Told what became of how many: `readings`, each of `REASONS`, `unreadable`."""


class TooManyDeadLetters(RuntimeError):
    """So much of the topic cannot be read that this is a bad deploy, not bad data (architecture, "Errors")."""


@dataclass
class DeadLetterLimit:
    """Past it the flow stops: `run` unreadable messages in a row, or more than `share` of the last `window`."""

    run: int = 100_000
    share: float = 0.9
    window: int = 200_000
    _in_a_row: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)
    _unreadable: int = field(default=0, init=False)

    def check(self, messages: int, unreadable: list[tuple[int, str]]) -> None:
        """Count a poll of so many messages; raises `TooManyDeadLetters` past the limit."""
        if len(unreadable) == messages:
            self._in_a_row += messages
        else:
            broken = {index for index, _ in unreadable}
            self._in_a_row = next(count for count in range(messages) if messages - 1 - count not in broken)
        self._seen, self._unreadable = self._seen + messages, self._unreadable + len(unreadable)
        too_many = self._seen >= self.window and self._unreadable > self.share * self._seen
        if unreadable and (self._in_a_row >= self.run or too_many):
            raise TooManyDeadLetters(
                f"{TELEMETRY.name}: {self._in_a_row} messages in a row cannot be read, {self._unreadable} of the last {self._seen}; "
                f"the last one: {unreadable[-1][1]}. That is a wrong producer or a wrong topic: see `derms dead-letters list`"
            )
        if self._seen >= self.window:
            self._seen = self._unreadable = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """A poll's good readings by shard, and what could not be used: bad readings, and messages that are none."""

    parts: list[Part]
    rejects: tuple[Reject, ...]


class Intake:
    """From a poll's bytes to the shards' parts."""

    def __init__(self, rosters: Rosters, shards: int, limit: DeadLetterLimit, count: Count) -> None:
        self._rosters, self._shards, self._limit, self._count = rosters, shards, limit, count
        self._known: tuple[Roster, KnownIds] | None = None

    def take(self, poll: Poll) -> Taken:
        """Decode, judge and deal a poll out. Raises `TooManyDeadLetters` past the limit."""
        return self.prepare(poll)()

    def prepare(self, poll: Poll) -> Callable[[], Taken]:
        """What is to be done about a poll, in any thread, by the configuration of now: `take` it. One at a time, in order."""
        roster = self._rosters.current()
        if self._known is None or self._known[0] is not roster:
            self._known = (roster, KnownIds(roster.ids))
        return partial(self._take, poll, *self._known)

    def _take(self, poll: Poll, roster: Roster, known: KnownIds) -> Taken:
        readings = decode_readings(poll.payloads, known)
        partition, offset = places(poll, readings.payload)
        silences = tuple(Silence(mark.partition, to_ms(mark.since), to_ms(mark.now)) for mark in poll.marks)
        sorted_ = sort(
            _columns(readings, partition, offset), roster, to_ms(poll.now), poll.partitions, silences, self._shards,
            stamps(poll, readings.payload),
        )  # fmt: skip
        counts = _counts(sorted_.reasons)
        for name, number in zip(("readings", *REASONS[1:], "unreadable"), (*counts, len(readings.broken)), strict=True):
            if number:
                self._count(name, number)
        if poll.payloads:
            self._limit.check(len(poll.payloads), readings.broken)
        rejects: list[Reject] = []
        if readings.broken:
            rejects += _unreadable(poll, readings.broken)
        if counts[GOOD] + counts[BAD] < len(readings):
            rejects += _rejects(poll, readings, sorted_.reasons, partition, offset)
        return Taken(sorted_.parts, tuple(rejects))


def _counts(reasons: NDArray[np.int8]) -> list[int]:
    """How many readings there are of each of `REASONS`."""
    if not reasons.any():
        return [len(reasons), *(0 for _ in REASONS[1:])]
    counts: list[int] = np.bincount(reasons, minlength=len(REASONS)).tolist()
    return counts


def _columns(readings: Readings, partition: NDArray[np.int32], offset: NDArray[np.int64]) -> Columns:
    quality = readings.quality
    return Columns(
        readings.asset, readings.measured_at, readings.phase, readings.present,
        (readings.power_w, readings.import_wh, readings.export_wh, readings.stored_wh),
        quality == QUALITIES.index("BAD"), quality == QUALITIES.index("ESTIMATED"),
        partition, offset,
    )  # fmt: skip


def _rejects(
    poll: Poll, readings: Readings, reasons: NDArray[np.int8], partition: NDArray[np.int32], offset: NDArray[np.int64]
) -> Iterator[Reject]:
    """The poll's bad readings, one reject for each run, with the bytes of the first."""
    bad = rejected(reasons)
    for first, count in collapsed(readings.asset[bad], reasons[bad], readings.measured_at[bad]):
        row = int(bad[first])
        minute = int(readings.measured_at[row]) // 60_000
        subject, reason = readings.ids[readings.asset[row]], REASONS[reasons[row]]
        yield Reject(subject, reason, minute, count, int(partition[row]), int(offset[row]), _bytes(poll, readings, row))


def _unreadable(poll: Poll, broken: list[tuple[int, str]]) -> Iterator[Reject]:
    """The poll's messages that are no readings, one reject for each run of a reason in a partition."""
    where = zip(*(column.tolist() for column in places(poll, np.array([index for index, _ in broken], np.int32))), strict=True)
    runs: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for (index, reason), (partition, offset) in zip(broken, where, strict=True):
        runs.setdefault((partition, reason), []).append((offset, index))
    for (partition, reason), found in runs.items():
        offset, index = found[0]
        yield Reject("", reason, NO_MINUTE, len(found), partition, offset, poll.payloads[index])


def _bytes(poll: Poll, readings: Readings, row: int) -> bytes:
    """The bytes of one reading: its message, or, out of a batch, itself as a message."""
    index = readings.payload[row]
    payload = poll.payloads[int(index)]
    if np.count_nonzero(readings.payload[max(row - 1, 0) : row + 2] == index) == 1:
        return payload
    values = {name: float(getattr(readings, name)[row]) for name, bit in VALUES.items() if readings.present[row] & bit}
    try:
        reading = Measurement(
            asset_id=readings.ids[readings.asset[row]],
            measured_at=from_ms(int(readings.measured_at[row])),
            phase=PHASES[readings.phase[row]],
            quality=QUALITIES[readings.quality[row]],
            **values,
        )
    except (OverflowError, ValidationError):  # an instant no calendar has, or no value: then the whole batch
        return payload
    return encode(reading)


def uncounted(_what: str, _number: int) -> None:
    """A `Count` that nobody reads."""
