"""Event time, one a Kafka partition (semantics 1.9). Instants and durations are ms; 0 is "before everything"."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.rules.quarter_readings import Ints


@dataclass(slots=True)
class PartitionTime:
    """How far one partition has come.

    `newest` is the newest instant seen, or passed in silence; `watermark` never falls. `silence` is the confirmed
    silence counted so far, `base` where event time stood when its count began. `quiet_at` is when a partition that
    never spoke was last known to be silent.
    """

    newest: int = 0
    watermark: int = 0
    silence: int = 0
    base: int = 0
    quiet_at: int = 0


class Watermarks:
    """The event time of the partitions a shard has heard of."""

    def __init__(self, times: Mapping[int, PartitionTime] | None = None) -> None:
        self.times: dict[int, PartitionTime] = dict(times or {})

    def of(self, partition: int) -> int:
        """The partition's watermark; 0 if it never spoke."""
        time = self.times.get(partition)
        return time.watermark if time else 0

    def newest(self, partition: int) -> int:
        """The newest instant the partition reached; 0 if it never spoke."""
        time = self.times.get(partition)
        return time.newest if time else 0

    def passing(self, partition: int, before: Ints, now: int, lateness: int) -> Ints:
        """The watermark as each reading of a poll met it; `before` is the newest instant of the poll's earlier readings."""
        time = self.times.get(partition, PartitionTime())
        met: Ints = np.minimum(np.maximum(before, time.newest), now) - lateness
        return np.maximum(met, time.watermark)

    def know(self, partitions: Iterable[int]) -> None:
        """These partitions exist, whether or not they speak."""
        for partition in partitions:
            self.times.setdefault(partition, PartitionTime())

    def see(self, partition: int, newest: int) -> None:
        """Readings up to `newest` came."""
        time = self.times.setdefault(partition, PartitionTime())
        time.newest = max(time.newest, newest)
        time.base, time.silence = time.newest, 0

    def silent(self, partition: int, since: int, now: int, idle_after: int) -> None:
        """All the partition holds had been read at `since`, and nothing has come until `now`.

        After `idle_after` event time moves on from where it stood, at the clock's pace: it never jumps. A count that
        begins anew (after a restart, after payloads that are no readings) adds to what was counted before.
        """
        time = self.times.setdefault(partition, PartitionTime())
        silence = now - since
        if silence < time.silence:
            time.base = time.newest
        time.silence = silence
        if silence < idle_after:
            return
        if time.newest == 0:
            time.quiet_at = max(time.quiet_at, now)
        else:
            time.newest = max(time.newest, time.base + silence)

    def advance(self, now: int, lateness: int) -> None:
        """Move every watermark to min(newest instant seen, clock) - lateness."""
        for time in self.times.values():
            if time.newest:
                time.watermark = max(time.watermark, min(time.newest, now) - lateness)

    def slowest(self, lateness: int) -> int:
        """What all partitions have passed; one that never spoke has passed what it was silent through. 0 if unknown."""
        return max(0, min((time.watermark or time.quiet_at - lateness for time in self.times.values()), default=0))

    def fastest(self) -> int:
        """What any partition has passed."""
        return max((time.watermark for time in self.times.values()), default=0)
