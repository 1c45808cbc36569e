"""Where each payload of a poll lay in the topic, as columns beside those of its readings."""

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Poll


def places(poll: Poll) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The Kafka partition and the offset of each of the poll's payloads."""
    partition, offset = np.zeros(len(poll.payloads), np.int32), np.zeros(len(poll.payloads), np.int64)
    for run in poll.runs:
        share, found = slice(run.first, run.first + run.count), run.offsets
        partition[share] = run.partition
        offset[share] = np.arange(found.start, found.stop) if isinstance(found, range) else found
    return partition, offset
