"""Schedules: what one source has said about one limit, piecewise constant over time (semantics 3.1).

A schedule is a list of spans in order of time and without overlap. Instants are milliseconds since 1970 UTC.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from pipelines.rules.limits import FOREVER_MS, MOST_W
from schemas.capacity import CapacityBlock
from schemas.units import to_ms


class Origin(NamedTuple):
    """The message a span comes from: its opaque cause, the digest of its body, when it was received."""

    cause: str
    digest: str
    received_ms: int


class Span(NamedTuple):
    """A limit in W for [start_ms, end_ms)."""

    start_ms: int
    end_ms: int
    limit_w: float
    origin: Origin


Schedule = list[Span]

LIFTED = math.inf
"""The limit of a span that lifts what the same source said about its time: it is spliced as any other, and leaves nothing."""


def lowest(blocks: Iterable[CapacityBlock], origin: Origin) -> tuple[Schedule, bool]:
    """One message's blocks of one phase as a schedule, and whether blocks overlapped: there the lower limit wins.

    A block without limit becomes a span that is `LIFTED`; where it overlaps a limit, the limit wins.
    """
    ends = ((to_ms(block.start), min(to_ms(block.end), FOREVER_MS), _watts(block.limit_w)) for block in blocks)
    spans = sorted(Span(start, end, limit, origin) for start, end, limit in ends if start < end)
    if all(one.end_ms <= other.start_ms for one, other in pairwise(spans)):
        return merged(spans), False
    found: Schedule = []
    ahead = iter([*spans, Span(FOREVER_MS + 1, FOREVER_MS + 1, 0.0, origin)])
    coming = next(ahead)
    open_spans: list[tuple[float, int]] = []  # a heap of (limit, end); what has ended is dropped when it comes up
    for start, end in pairwise(sorted({mark for span in spans for mark in span[:2]})):
        while coming.start_ms <= start:
            heappush(open_spans, (coming.limit_w, coming.end_ms))
            coming = next(ahead)
        while open_spans and open_spans[0][1] <= start:
            heappop(open_spans)
        if open_spans:
            found.append(Span(start, end, open_spans[0][0], origin))
    return merged(found), True


def splice(older: Sequence[Span], newer: Sequence[Span]) -> Schedule:
    """The newer schedule where it speaks, the older one elsewhere; a hole where the newer one lifts."""
    starts, ends = [span.start_ms for span in older], [span.end_ms for span in older]
    found = [span for span in newer if span.limit_w != LIFTED]
    at: float = -math.inf
    for start, end in (*_union(newer), (math.inf, math.inf)):
        found += _cut(older[bisect_right(ends, at) : bisect_left(starts, start)], at, start)
        at = end
    return merged(sorted(found))


def from_receipt(schedule: Sequence[Span]) -> Schedule:
    """What of a schedule can come to be in force: the part of a block before its receipt never does (semantics 3.3)."""
    return [
        span if span.start_ms >= span.origin.received_ms else span._replace(start_ms=span.origin.received_ms)
        for span in schedule
        if span.end_ms > span.origin.received_ms
    ]


def pruned(schedule: Schedule, before_ms: int) -> Schedule:
    """Without the spans that ended at or before `before_ms`, except the last of them: it may have to be held."""
    ended = bisect_right([span.end_ms for span in schedule], before_ms)
    return schedule[max(ended - 1, 0) :]


def merged(spans: Iterable[Span]) -> Schedule:
    """Adjacent spans of equal limit and origin as one."""
    found: Schedule = []
    for span in spans:
        last = found[-1] if found else None
        if last is not None and last.end_ms == span.start_ms and last[2:] == span[2:]:
            found[-1] = last._replace(end_ms=span.end_ms)
        else:
            found.append(span)
    return found


def _watts(limit_w: float | None) -> float:
    """More than a number can hold is as high as one can be: it is not lifted."""
    return LIFTED if limit_w is None else min(limit_w, MOST_W)


def _union(schedule: Sequence[Span]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for span in schedule:
        if found and found[-1][1] == span.start_ms:
            found[-1] = (found[-1][0], span.end_ms)
        else:
            found.append((span.start_ms, span.end_ms))
    return found


def _cut(spans: Sequence[Span], start_ms: float, end_ms: float) -> Schedule:
    """Spans that all reach into [start_ms, end_ms), as far as they are within it."""
    found = list(spans)
    if found and found[0].start_ms < start_ms:
        found[0] = found[0]._replace(start_ms=int(start_ms))
    if found and found[-1].end_ms > end_ms:
        found[-1] = found[-1]._replace(end_ms=int(end_ms))
    return found
