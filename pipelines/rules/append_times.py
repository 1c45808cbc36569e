"""By what clock readings are judged: the one at which the broker appended them (semantics 1.8, 1.9, 1.11).

So what they are and what event time they meet depends on the log alone, not on when it is read or how it is cut into
polls. Instants are ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_readings import Ints, position
from pipelines.rules.quarter_readings import instant as instant_of


@dataclass(frozen=True, slots=True)
class Stamps:
    """The clock's readings of a poll, `at[i]` for its readings from number `begin[i]` on (which begins with 0 and does not
    fall): those of the messages of `partition[i]` from `offset[i]` on. Every message of the poll has one, also one that is no reading.
    """

    begin: Ints
    partition: NDArray[Any]
    offset: Ints
    at: Ints


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clock's readings by partition: from `offset[i]` on `at[i]`, for `i` from `bound[partition]` up to `bound[partition + 1]`.

    Within a partition it never falls, whatever the brokers' clocks did when its leader changed.
    """

    bound: Ints
    offset: Ints
    at: Ints

    @staticmethod
    def of(stamps: Stamps) -> "Clocks":
        """The clocks of a poll; its offsets rise within each partition."""
        order = np.argsort(stamps.partition, kind="stable")
        partition = stamps.partition[order]
        bound = np.searchsorted(partition, np.arange(int(partition[-1]) + 2 if len(partition) else 1))
        reached = np.maximum.accumulate(position(partition, stamps.at[order]))
        return Clocks(bound, stamps.offset[order], instant_of(reached))

    @staticmethod
    def joined(some: "Sequence[Clocks]") -> "Clocks":
        """Those of polls of which no two have messages of one partition."""
        partition = np.concatenate([np.repeat(np.arange(len(one.bound) - 1), np.diff(one.bound)) for one in some])
        order = np.argsort(partition, kind="stable")
        bound = np.searchsorted(partition[order], np.arange(max(len(one.bound) for one in some)))
        return Clocks(bound, np.concatenate([one.offset for one in some])[order], np.concatenate([one.at for one in some])[order])

    def newest(self) -> Ints:
        """The last reading of each partition; 0 where there is none."""
        last = np.zeros(len(self.bound) - 1, np.int64)
        some = self.bound[1:] > self.bound[:-1]
        last[some] = self.at[self.bound[1:][some] - 1]
        return last
