"""Polls of several lanes taken as one say the same, about readings and about when they were appended."""

from array import array
from datetime import timedelta

import numpy as np

from pipelines.merging import merged
from pipelines.places import places, stamps
from pipelines.records import Appended, Mark, Poll, Run
from schemas.units import to_ms
from tests.builders import T0

LATER = T0 + timedelta(seconds=1)


def poll(partition: int, count: int, first: int = 0, **more: object) -> Poll:
    payloads = [b"%d-%d" % (partition, first + index) for index in range(count)]
    return Poll(payloads, (Run(partition, 0, count, range(first, first + count)),), (), (0, 1, 2), T0, **more)  # type: ignore[arg-type]


def test_payloads_keep_their_places_and_order() -> None:
    gaps = Poll([b"2-5", b"2-9"], (Run(2, 0, 2, array("q", [5, 9])),), (Mark(1, T0, LATER),), (0, 1, 2), LATER)
    (one,) = merged([poll(0, 3), gaps, poll(0, 2, first=3), poll(0, 0)])
    partition, offset = places(one, np.arange(len(one.payloads), dtype=np.int32))
    assert [b"%d-%d" % place for place in zip(partition.tolist(), offset.tolist(), strict=True)] == list(one.payloads)
    assert list(one.payloads) == [b"0-0", b"0-1", b"0-2", b"2-5", b"2-9", b"0-3", b"0-4"]
    assert (one.marks, one.now, one.partitions) == (gaps.marks, LATER, (0, 1, 2))


def test_each_run_keeps_its_clock() -> None:
    said = Poll([b"2-5", b"2-6"], (Run(2, 0, 2, range(5, 7), Appended([0, 1], [7, 9])),), (), (0, 1, 2), LATER)
    later = Poll([b"0-3"], (Run(0, 0, 1, range(3, 4)),), (), (0, 1, 2), LATER)
    (one,) = merged([poll(0, 3), said, later])
    found = stamps(one, np.arange(6, dtype=np.int32))
    assert found.begin.tolist() == [0, 3, 4, 5]
    assert found.partition.tolist() == [0, 2, 2, 0]
    assert found.offset.tolist() == [0, 5, 6, 3]
    assert found.at.tolist() == [to_ms(T0), 7, 9, to_ms(LATER)]  # its own poll's, where the broker does not say


def test_what_comes_after_a_silence_is_not_taken_for_what_came_before_it() -> None:
    silent = Poll([b"1-0"], (Run(1, 0, 1, range(1)),), (Mark(0, T0, LATER),), (0, 1, 2), LATER)
    assert [len(each.payloads) for each in merged([poll(0, 2), silent, poll(1, 1, first=1), poll(0, 3, first=2), poll(0, 1, first=5)])] == [
        4,
        4,
    ]


def test_readings_are_judged_by_the_clock_of_their_message() -> None:
    gaps = Poll([b""] * 5, (Run(4, 0, 3, array("q", [7, 9, 12]), Appended([0, 2], [30, 31])), Run(6, 3, 2, range(2))), (), (4, 6), T0)
    found = stamps(gaps, np.array([0, 0, 0, 2, 3, 3, 4], np.int32))  # the second message was no reading
    assert (found.begin.tolist(), found.at.tolist()) == ([0, 3, 4], [30, 31, to_ms(T0)])
    assert (found.partition.tolist(), found.offset.tolist()) == ([4, 4, 6], [7, 12, 0])
    nothing = stamps(Poll([], (), (), (4, 6), T0), np.zeros(0, np.int32))
    assert [len(column) for column in (nothing.begin, nothing.partition, nothing.offset, nothing.at)] == [0] * 4


def test_a_large_poll_is_left_as_it_is() -> None:
    large, small = poll(0, 200_000), poll(1, 5)
    assert [len(each.payloads) for each in merged([large, small, small, large, small])] == [200_000, 200_010, 5]
    assert next(merged([large])) is large
    assert list(merged([])) == []
