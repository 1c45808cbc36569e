"""Polls of several lanes as one: what a poll costs beside its readings is then paid once for all lanes of a worker."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from pipelines.records import Appended, Poll, Run
from schemas.units import to_ms
from sinks.payloads import Payloads

PAYLOADS_AT_ONCE = 200_000
"""A poll with so many payloads is not joined with further ones."""


def together(polls: Sequence[Poll], *, lanes: bool = False) -> Iterator[Sequence[Poll]]:
    """The polls in their order, as many at once as may be taken for one; with `lanes`, no partition has payloads in two of them.

    In a poll readings come before marks: one with readings of a partition that was silent before begins another.
    """
    first, size, silent, spoke = 0, 0, set[int](), set[int]()
    for place, poll in enumerate(polls):
        speaks = {run.partition for run in poll.runs if run.count}
        if place > first and (size >= PAYLOADS_AT_ONCE or speaks & silent or (lanes and speaks & spoke)):
            yield polls[first:place]
            first, size, silent, spoke = place, 0, set(), set()
        size += len(poll.payloads)
        silent.update(mark.partition for mark in poll.marks)
        spoke |= speaks
    if first < len(polls):
        yield polls[first:]


def merged(polls: Sequence[Poll]) -> Iterator[Poll]:
    """The polls in their order, as few as may be; the order within each partition stays."""
    for some in together(polls):
        yield some[0] if len(some) == 1 else _one(some)


def _one(polls: Sequence[Poll]) -> Poll:
    runs, before = [], 0
    for poll in polls:
        runs += [_judged(replace(run, first=run.first + before), poll) for run in poll.runs]
        before += len(poll.payloads)
    return Poll(
        payloads=Payloads.joined([poll.payloads for poll in polls]),
        runs=tuple(runs),
        marks=tuple(chain.from_iterable(poll.marks for poll in polls)),
        partitions=tuple(sorted(set(chain.from_iterable(poll.partitions for poll in polls)))),
        now=max(poll.now for poll in polls),
    )


def _judged(run: Run, poll: Poll) -> Run:
    """By its own poll's clock, where nothing better is known."""
    return run if run.appended.first else replace(run, appended=Appended([0], [to_ms(poll.now)]))
