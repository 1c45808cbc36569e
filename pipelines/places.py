"""Where payloads of a poll lay in the topic, as columns beside those of their readings."""

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Poll


def places(poll: Poll, payload: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The Kafka partition and the offset of some of the poll's payloads, which are named by rising indexes."""
    partition, offset = np.empty(len(payload), np.int32), np.empty(len(payload), np.int64)
    for run in poll.runs:
        share = slice(*np.searchsorted(payload, (run.first, run.first + run.count)).tolist())
        partition[share] = run.partition
        if isinstance(run.offsets, range):
            offset[share] = payload[share] + np.int64(run.offsets.start - run.first)
        else:
            offset[share] = np.asarray(run.offsets)[payload[share] - run.first]
    return partition, offset
