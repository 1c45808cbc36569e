"""A fleet that speaks now: every reading is appended when the clock reads its instant, and probes that tell how far a reader is."""

import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.telemetry import Measurement
from schemas.units import from_ms
from sinks.codec import encode
from tests.benchmarks.kafka_bytes import batches_of, partitions_of, uniform_batches
from tests.benchmarks.kafka_wire import Connection
from tests.benchmarks.product import PROBE
from tests.benchmarks.readings import ALL_PARTITIONS, EVERY_MS, Fleet

SLOT_MS = 100
_SLOTS = EVERY_MS // SLOT_MS


@dataclass(frozen=True)
class Pace:
    """The product's clock: it reads `origin_ms` at the wall instant `started` (s since 1970) and keeps the wall's pace."""

    origin_ms: int
    started: float

    def wall(self, instant: int) -> float:
        """When the clock reads an instant."""
        return self.started + (instant - self.origin_ms) / 1000


class Feed(threading.Thread):
    """Appends the fleet's readings from tick `first` on as single messages, in slots of 100 ms, until stopped.

    With each slot goes a probe: a reading hours too late, which the flow tells of at once on `derms.late-telemetry`.
    """

    def __init__(self, bootstrap: str, topic: str, fleet: Fleet, first: int, pace: Pace) -> None:
        super().__init__(daemon=True)
        self._connection, self._topic, self._fleet, self._pace = Connection(bootstrap), topic, fleet, pace
        self._slot = first * _SLOTS
        self._over = threading.Event()
        self.probe_partition = int(partitions_of(np.array([PROBE], "S12"))[0])
        self.probes: dict[int, float] = {}
        self.appended: dict[int, float] = {}
        self.behind_s = 0.0
        slots = fleet.offsets // SLOT_MS
        self._turn: list[list[NDArray[np.int64]]] = [
            [members[slots[members] == slot] for members in map(fleet.members, ALL_PARTITIONS)] for slot in range(_SLOTS)
        ]

    def run(self) -> None:
        while not self._over.is_set():
            end = self._fleet.start + (self._slot + 1) * SLOT_MS
            wait = self._pace.wall(end) - time.time()
            if wait > 0 and self._over.wait(wait):
                return
            self.behind_s = max(self.behind_s, -wait)
            tick, slot = divmod(self._slot, _SLOTS)
            pairs = []
            for partition, assets in enumerate(self._turn[slot]):
                if len(assets):
                    keys, values = self._fleet.messages(assets, np.full(len(assets), tick, np.int64))
                    pairs += [(partition, batch) for batch in uniform_batches(keys, values, 8192)]
            self._connection.append(self._topic, [pairs])
            self.appended[end - SLOT_MS] = time.time()
            self._probe(end)
            self._slot += 1

    def _probe(self, at: int) -> None:
        late = Measurement(asset_id=PROBE, measured_at=from_ms(at - 10 * 3_600_000), power_w=1.0)
        (batch,) = batches_of([PROBE.encode()], [encode(late)], 1)
        offset, when = self._connection.append(self._topic, [[(self.probe_partition, batch)]])[self.probe_partition]
        self.probes[offset] = when

    def appended_at(self, instant: int) -> float:
        """When (s since 1970) the slot that holds an instant had been appended; waits for a feed that is behind."""
        slot, deadline = self._fleet.start + (instant - self._fleet.start) // SLOT_MS * SLOT_MS, time.monotonic() + 30
        while slot not in self.appended:
            if time.monotonic() > deadline:
                raise TimeoutError("the feed does not keep up with the clock")
            time.sleep(0.05)
        return self.appended[slot]

    def stop(self) -> None:
        """End after the present slot."""
        self._over.set()
        self.join()
        self._connection.close()
