"""A poll of payloads off a lane, at the least cost a message: thousands come at once, and nothing is called for one in Python."""

import gc
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

from confluent_kafka import Message

from pipelines.lanes import Lane, Part
from pipelines.records import Offsets, Run
from schemas.clock import wall_seconds

_VALUE: Callable[[Any], Any] = Message.value
_OFFSET: Callable[[Any], Any] = Message.offset

SLICE = 1_000
"""So many messages are taken at once: as many as stay in the processor's cache until their values have been taken out of them."""


class Fetched(NamedTuple):
    """Payloads and whose they are, as a `Poll` has them; the partitions that brought them; and their bytes together."""

    payloads: list[bytes]
    runs: tuple[Run, ...]
    parts: tuple[Part, ...]
    size: int


def fetch(lane: Lane, most: int, wait_s: float) -> Fetched:
    """At most so many records off the lane, by partition, and in each by offset; waits out `wait_s` for more.

    A record without a value is an empty payload.
    """
    with _uncollected():
        values, offsets = _read(lane, most, wait_s)
    payloads, runs = list[bytes](), list[Run]()
    for part in sorted(values):
        runs.append(Run(part[1], len(payloads), len(values[part]), _joined(offsets[part])))
        payloads += values[part]
    if not all(payloads):
        payloads = [payload or b"" for payload in payloads]
    return Fetched(payloads, tuple(runs), tuple(values), sum(map(len, payloads)))


def _read(lane: Lane, most: int, wait_s: float) -> tuple[dict[Part, list[bytes]], dict[Part, list[Offsets]]]:
    """The records' values and offsets by partition, taken by the slice: a few messages stay in the processor's cache."""
    values, offsets = dict[Part, list[bytes]](), dict[Part, list[Offsets]]()
    left, deadline = most, wall_seconds() + wait_s
    while left > 0:
        wanted, got = min(left, SLICE), 0
        for part, messages in lane.poll(wanted, max(0.0, deadline - wall_seconds())):
            values.setdefault(part, []).extend(map(_VALUE, messages))
            offsets.setdefault(part, []).append(_offsets(messages))
            got += len(messages)
        left -= got
        if got < wanted:
            break
    return values, offsets


def _offsets(messages: list[Any]) -> Offsets:
    """Their offsets, which rise: mostly by one each, and then nobody is asked but the ends."""
    first, after = messages[0].offset(), messages[-1].offset() + 1
    return range(first, after) if after - first == len(messages) else array("q", map(_OFFSET, messages))


def _joined(pieces: list[Offsets]) -> Offsets:
    first, after = pieces[0][0], pieces[-1][-1] + 1
    return range(first, after) if after - first == sum(map(len, pieces)) else array("q", chain.from_iterable(pieces))


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is looked for meanwhile: messages are none before the end, and looking through them takes as long as they."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
