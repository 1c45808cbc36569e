"""Event time, one a Kafka partition (semantics 1.9). Instants and durations are ms; 0 is "before everything"."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import Flags, Ints

_COLUMNS = ("known", "newest", "clock", "watermark", "silence", "base", "quiet_at")


class Watermarks:
    """The event time of the partitions a shard has heard of, as columns by partition.

    `known` says that a partition exists. `newest` is the newest instant seen, or passed in silence; `clock` what the clock
    read when the broker appended the last message read, or last confirmed that there is no other; `watermark` never falls.
    `silence` is the confirmed silence counted so far, `base` where event time stood when its count began. `quiet_at` is
    when a partition that never spoke was last known to be silent.
    """

    def __init__(self) -> None:
        self.known: Flags = np.zeros(0, np.bool_)
        self.newest: Ints = np.zeros(0, np.int64)
        self.clock: Ints = np.zeros(0, np.int64)
        self.watermark: Ints = np.zeros(0, np.int64)
        self.silence: Ints = np.zeros(0, np.int64)
        self.base: Ints = np.zeros(0, np.int64)
        self.quiet_at: Ints = np.zeros(0, np.int64)
        self._seen: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.known)

    def of(self, partition: int) -> int:
        """The partition's watermark; 0 if it never spoke."""
        return int(self.watermark[partition]) if partition < len(self) else 0

    def know(self, partitions: Iterable[int]) -> None:
        """These partitions exist, whether or not they speak."""
        partitions = tuple(partitions)
        if partitions == self._seen:
            return
        more = max(partitions, default=-1) + 1 - len(self)
        if more > 0:
            for name in _COLUMNS:
                column: NDArray[np.generic] = getattr(self, name)
                setattr(self, name, np.concatenate((column, np.zeros(more, column.dtype))))
        self.known[list(partitions)] = True
        self._seen = partitions

    def _know_also(self, partitions: Ints) -> None:
        if partitions.max() >= len(self) or not self.known[partitions].all():
            self.know((*np.flatnonzero(self.known).tolist(), *partitions.tolist()))

    def see(self, newest: Ints, clock: Ints) -> None:
        """Readings up to `newest` came, and messages appended up to `clock` (both by partition, 0: none)."""
        heard = np.flatnonzero(clock)
        if len(heard):
            self._know_also(heard)
            self.clock[heard] = np.maximum(self.clock[heard], clock[heard])
        spoke = np.flatnonzero(newest)
        if len(spoke):
            self._know_also(spoke)
            self.newest[spoke] = np.maximum(self.newest[spoke], newest[spoke])
            self.base[spoke], self.silence[spoke] = self.newest[spoke], 0

    def silent(self, partition: int, since: int, now: int, idle_after: int) -> None:
        """All the partition holds had been read at `since`, and nothing has come until `now`.

        After `idle_after` event time moves on from where it stood, at the clock's pace: it never jumps. A count that
        begins anew (after a restart, after payloads that are no readings) adds to what was counted before.
        """
        self._know_also(np.array([partition]))
        self.clock[partition] = max(self.clock[partition], now)
        silence = now - since
        if silence < self.silence[partition]:
            self.base[partition] = self.newest[partition]
        self.silence[partition] = silence
        if silence < idle_after:
            return
        if self.newest[partition] == 0:
            self.quiet_at[partition] = max(self.quiet_at[partition], now)
        else:
            self.newest[partition] = max(self.newest[partition], self.base[partition] + silence)

    def advance(self, lateness: int) -> None:
        """Move every watermark to min(newest instant seen, clock) - lateness."""
        reached = np.maximum(self.watermark, np.minimum(self.newest, self.clock) - lateness)
        self.watermark = np.where(self.newest > 0, reached, self.watermark)

    def restore(self, columns: dict[str, Any]) -> None:
        """Stand where a snapshot says; an earlier one does not know what the clock read, and then what is read next says it."""
        self.__dict__.update(columns)
        if len(self.clock) < len(self):
            self.clock = np.zeros(len(self), np.int64)

    def slowest(self, lateness: int) -> int:
        """What all partitions have passed; one that never spoke has passed what it was silent through. 0 if unknown."""
        passed = np.where(self.watermark > 0, self.watermark, self.quiet_at - lateness)[self.known]
        return max(0, int(passed.min())) if len(passed) else 0

    def fastest(self) -> int:
        """What any partition has passed."""
        return int(self.watermark.max(initial=0))
