"""Polls of several lanes taken as one say the same."""

from array import array
from datetime import timedelta

import numpy as np

from pipelines.merging import merged
from pipelines.places import places
from pipelines.records import Mark, Poll, Run
from tests.builders import T0

LATER = T0 + timedelta(seconds=1)


def poll(partition: int, count: int, first: int = 0, **more: object) -> Poll:
    payloads = [b"%d-%d" % (partition, first + index) for index in range(count)]
    return Poll(payloads, (Run(partition, 0, count, range(first, first + count)),), (), (0, 1, 2), T0, **more)  # type: ignore[arg-type]


def test_payloads_keep_their_places_and_order() -> None:
    gaps = Poll([b"2-5", b"2-9"], (Run(2, 0, 2, array("q", [5, 9])),), (Mark(1, T0, LATER),), (0, 1, 2), LATER)
    (one,) = merged([poll(0, 3), gaps, poll(0, 2, first=3), poll(1, 0)])
    partition, offset = places(one, np.arange(len(one.payloads), dtype=np.int32))
    assert [b"%d-%d" % place for place in zip(partition.tolist(), offset.tolist(), strict=True)] == one.payloads
    assert one.payloads == [b"0-0", b"0-1", b"0-2", b"2-5", b"2-9", b"0-3", b"0-4"]
    assert (one.marks, one.now, one.partitions) == (gaps.marks, LATER, (0, 1, 2))


def test_a_large_poll_is_left_as_it_is() -> None:
    large, small = poll(0, 100_000), poll(1, 5)
    assert [len(each.payloads) for each in merged([large, small, small, large, small])] == [100_000, 100_010, 5]
    assert next(merged([large])) is large
    assert list(merged([])) == []
