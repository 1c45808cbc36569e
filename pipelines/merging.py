"""Polls of several lanes as one: what a poll costs beside its readings is then paid once for all lanes of a worker."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import TypeVar, overload

from pipelines.records import Appended, Poll, Run
from schemas.units import to_ms

X = TypeVar("X")

PAYLOADS_AT_ONCE = 200_000
"""A poll with so many payloads is not joined with further ones."""


def merged(polls: Sequence[Poll]) -> Iterator[Poll]:
    """The polls in their order, as few as may be; the order within each partition stays.

    In a poll readings come before marks: one with readings of a partition that was silent before begins another.
    """
    first = 0
    while first < len(polls):
        last, size = first + 1, len(polls[first].payloads)
        silent = {mark.partition for mark in polls[first].marks}
        while last < len(polls) and size < PAYLOADS_AT_ONCE and not any(run.partition in silent for run in polls[last].runs):
            size += len(polls[last].payloads)
            silent.update(mark.partition for mark in polls[last].marks)
            last += 1
        yield polls[first] if last == first + 1 else _one(polls[first:last])
        first = last


def _one(polls: Sequence[Poll]) -> Poll:
    runs, before = [], 0
    for poll in polls:
        runs += [_judged(replace(run, first=run.first + before), poll) for run in poll.runs]
        before += len(poll.payloads)
    return Poll(
        payloads=_Lists([poll.payloads for poll in polls]),
        runs=tuple(runs),
        marks=tuple(chain.from_iterable(poll.marks for poll in polls)),
        partitions=tuple(sorted(set(chain.from_iterable(poll.partitions for poll in polls)))),
        now=max(poll.now for poll in polls),
        decoded=tuple(chain.from_iterable(poll.decoded for poll in polls)) if all(map(_known, polls)) else (),
    )


def _known(poll: Poll) -> bool:
    return bool(poll.decoded) or not poll.payloads


class _Lists(Sequence[bytes]):
    """Lists of payloads as one, without copying them: what has been decoded ahead is hardly looked at any more."""

    def __init__(self, lists: list[Sequence[bytes]]) -> None:
        self._lists = lists
        self._begins = [0, *accumulate(map(len, lists))]

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return list(self)[place]
        if not 0 <= place < len(self):
            raise IndexError("no such payload")
        which = bisect_right(self._begins, place) - 1
        return self._lists[which][place - self._begins[which]]

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._lists)

    def __len__(self) -> int:
        return self._begins[-1]


def _judged(run: Run, poll: Poll) -> Run:
    """By its own poll's clock, where nothing better is known."""
    return run if run.appended.first else replace(run, appended=Appended([0], [to_ms(poll.now)]))


def each_merged(work: Callable[[Poll], X]) -> Callable[[list[Poll]], list[X]]:
    """What `work` makes of the polls that come at once, merged."""

    def run(polls: list[Poll]) -> list[X]:
        return [work(poll) for poll in merged(polls)]

    return run
