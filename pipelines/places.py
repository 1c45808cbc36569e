"""Where payloads of a poll lay in the topic and when they came there, as columns beside those of their readings."""

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Poll
from pipelines.rules.append_times import Stamps
from schemas.units import to_ms


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


def stamps(poll: Poll, payload: NDArray[np.int32]) -> Stamps:
    """By what clock the poll's readings are judged; `payload` is the (rising) index of each one's message."""
    first, partition, offset, at, now = list[int](), list[int](), list[int](), list[int](), to_ms(poll.now)
    for run in poll.runs:
        if run.count:
            begins = run.appended.first or (0,)
            first += [run.first + begin for begin in begins]
            partition += [run.partition] * len(begins)
            offset += [run.offsets[begin] for begin in begins]
            at += run.appended.at or (now,)
    begin = np.searchsorted(payload, np.array(first, payload.dtype))
    return Stamps(begin, np.array(partition, np.int64), np.array(offset, np.int64), np.array(at, np.int64))
