"""What is measured: readings of many assets every 5 s, made fast, and what their quarter hours must amount to.

All variants get the same bytes. Everything follows from a formula, so the truth needs no second implementation of the
metering rule: powers are whole watts (sums are exact), registers are read at known instants and interpolated to the
quarters' ends by hand. Instants are ms since 1970 UTC.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.telemetry import Measurement, MeasurementBatch
from sinks.codec import MARKER, fingerprint_of
from tests.benchmarks.kafka_bytes import PARTITIONS, partitions_of, varint

EVERY_MS = 5_000
QUARTER_MS = 900_000
TAIL_MS = 70_000
"""Input goes on for so long after the end of the last quarter that is expected: every asset is then past the lateness of 60 s."""
END_MS = 1_792_497_600_000
"""2026-10-20T12:00:00Z, the end of the last expected quarter."""
BATCH = 100

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SINGLE_HEAD = np.frombuffer(MARKER + fingerprint_of(Measurement), np.uint8)
_BATCH_HEAD = MARKER + fingerprint_of(MeasurementBatch)
_DATUM = np.dtype(
    [
        ("id_length", "u1"), ("id", "S12"), ("measured_at", "u1", 6),
        ("has_power", "u1"), ("power_w", "<f8"), ("has_import", "u1"), ("import_wh", "<f8"), ("has_export", "u1"), ("export_wh", "<f8"),
        ("stored_phase_quality", "u1", 3),
    ]
)  # fmt: skip
_SINGLE = np.dtype([("head", "u1", 10), ("datum", _DATUM)])


@dataclass(frozen=True)
class Fleet:
    """`assets` assets that together send at least `readings` readings, the last expected quarter ending at `end`."""

    assets: int
    readings: int
    end: int = END_MS
    name: str = "asset"

    @cached_property
    def ids(self) -> NDArray[np.bytes_]:
        """12 bytes each."""
        return np.array([f"{self.name:->5}-{number:06d}" for number in range(self.assets)], "S12")

    @property
    def ticks(self) -> int:
        """How often every asset speaks."""
        return -(-self.readings // self.assets)

    @property
    def total(self) -> int:
        """How many readings there are: whole ticks."""
        return self.ticks * self.assets

    @property
    def start(self) -> int:
        """The instant of the first tick."""
        return self.end + TAIL_MS - self.ticks * EVERY_MS

    @cached_property
    def offsets(self) -> Ints:
        """Where within the 5 s each asset speaks; some exactly on the quarter."""
        return (np.arange(self.assets, dtype=np.int64) * 1237) % EVERY_MS

    @cached_property
    def partitions(self) -> Ints:
        """The Kafka partition of each asset."""
        return partitions_of(self.ids)

    def members(self, partition: int) -> Ints:
        """The assets of a partition in the order in which they speak."""
        found = np.flatnonzero(self.partitions == partition)
        return found[np.argsort(self.offsets[found], kind="stable")]

    def power(self, asset: Ints, tick: Ints | int) -> Ints:
        """W, whole."""
        return 100 + (asset * 7 + tick * 13) % 900

    def registers(self, asset: Ints, tick: Ints | int) -> tuple[Floats, Floats]:
        """Import and export in Wh: never falling, unevenly rising."""
        step = 1.5 + (asset % 64) / 32.0
        wobble = (tick * 7 + asset) % 11
        imported: Any = 1e6 + asset + step * tick + wobble * 0.125
        exported: Any = 1e3 + (asset % 7) * 0.25 * tick
        return imported, exported

    @property
    def quarters(self) -> Ints:
        """The starts of the quarters whose rows are expected; the first may be cut short by the beginning of the input."""
        first = self.start // QUARTER_MS * QUARTER_MS
        return np.arange(first, self.end, QUARTER_MS, dtype=np.int64)

    def ticks_of(self, quarter: int) -> tuple[int, int]:
        """The first tick inside a quarter and the first after it; the same for all assets."""
        return max(0, (quarter - self.start) // EVERY_MS), (quarter + QUARTER_MS - self.start) // EVERY_MS

    def datums(self, asset: Ints, tick: Ints) -> NDArray[np.void]:
        """The Avro datums of these readings."""
        out = np.empty(len(asset), _DATUM)
        out["id_length"], out["id"] = 24, self.ids[asset]
        out["measured_at"] = _instants(self.start + tick * EVERY_MS + self.offsets[asset])
        out["has_power"] = out["has_import"] = out["has_export"] = 2
        out["power_w"] = self.power(asset, tick)
        out["import_wh"], out["export_wh"] = self.registers(asset, tick)
        out["stored_phase_quality"] = 0
        return out

    def messages(self, asset: Ints, tick: Ints) -> tuple[NDArray[np.bytes_], NDArray[np.uint8]]:
        """Keys and values (a row of bytes each) of single readings."""
        out = np.empty(len(asset), _SINGLE)
        out["head"], out["datum"] = _SINGLE_HEAD, self.datums(asset, tick)
        return self.ids[asset], out.view(np.uint8).reshape(len(asset), -1)

    def singles(self, partition: int, at_once: int = 64_000) -> Iterator[tuple[NDArray[np.bytes_], NDArray[np.uint8]]]:
        """Keys and values of a partition's single readings, in their order, in portions of `at_once`."""
        for asset, tick in self._portions(partition, at_once):
            yield self.messages(asset, tick)

    def batches(self, partition: int, until: int | None = None, at_once: int = 64_000) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """The same as messages of `BATCH` readings (the last one of fewer), under the key of a gateway; at most to tick `until`."""
        key = b"gateway-%04d" % partition
        for asset, tick in self._portions(partition, at_once // BATCH * BATCH, until):
            datums = self.datums(asset, tick).tobytes()
            size = _DATUM.itemsize
            values = []
            for first in range(0, len(asset), BATCH):
                count = min(BATCH, len(asset) - first)
                values.append(b"".join((_BATCH_HEAD, varint(count), datums[first * size : (first + count) * size], b"\0")))
            yield [key] * len(values), values

    def _portions(self, partition: int, at_once: int, until: int | None = None) -> Iterator[tuple[Ints, Ints]]:
        members = self.members(partition)
        if not len(members):
            return
        end = len(members) * (self.ticks if until is None else until)
        for first in range(0, end, at_once):
            place = np.arange(first, min(first + at_once, end), dtype=np.int64)
            yield members[place % len(members)], place // len(members)


def _instants(at: Ints) -> NDArray[np.uint8]:
    """ms as Avro longs of 6 bytes (any instant from 1987 to 2109 takes so many)."""
    zigzag = at * 2
    shifts = np.arange(0, 42, 7, dtype=np.int64)
    out = ((zigzag[:, None] >> shifts) & 0x7F).astype(np.uint8)
    out[:, :5] |= 0x80
    return out


@dataclass(frozen=True)
class Truth:
    """What the rows of one quarter must say, by asset: all arrays have one value an asset."""

    quarter: int
    count: int
    power_sum: Ints
    import_wh: Floats
    export_wh: Floats


def truth(fleet: Fleet, quarters: Iterable[int] | None = None) -> Iterator[Truth]:
    """The expected rows, a quarter at a time; of the fleet's quarters or of those given."""
    asset = np.arange(fleet.assets, dtype=np.int64)
    for quarter in fleet.quarters.tolist() if quarters is None else quarters:
        first, last = fleet.ticks_of(quarter)
        power = np.zeros(fleet.assets, np.int64)
        for tick in range(first, last):
            power += fleet.power(asset, tick)
        begin, end = _registers_at(fleet, asset, first), _registers_at(fleet, asset, last)
        yield Truth(quarter, last - first, power, end[0] - begin[0], end[1] - begin[1])


def _registers_at(fleet: Fleet, asset: Ints, tick: int) -> tuple[Floats, Floats]:
    """The registers at the instant at which a tick begins: as read then, else on the line from the reading before."""
    here = fleet.registers(asset, tick)
    if tick == 0:
        return here  # nothing before: the first reading inside counts (semantics 1.1)
    before = fleet.registers(asset, tick - 1)
    part = (EVERY_MS - fleet.offsets) / EVERY_MS
    return before[0] + (here[0] - before[0]) * part, before[1] + (here[1] - before[1]) * part


ALL_PARTITIONS = range(PARTITIONS)
