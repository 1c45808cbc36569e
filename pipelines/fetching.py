"""A poll of payloads off a lane, at the least cost a message: thousands come at once, and nothing is called for one in Python."""

import gc
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, groupby
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from pipelines.lanes import Lane, Part
from pipelines.records import Appended, Offsets, Run
from schemas.clock import Clock, wall_seconds
from schemas.units import from_ms, to_ms

_VALUE: Callable[[Any], Any] = Message.value
_OFFSET: Callable[[Any], Any] = Message.offset
_TIMESTAMP: Callable[[Any], tuple[int, int]] = Message.timestamp
_STRIDE = 16
"""Where append times differ, one message in so many is asked first: producers' batches mostly have more, and one time each."""
_NOT_SAID = -1

_Stamps = list[tuple[int, int]]
"""Append times (wall, ms; or `_NOT_SAID`) and how many messages have each, in order."""

SLICE = 1_000
"""So many messages are taken at once: as many as stay in the processor's cache until their values have been taken out of them."""


class Fetched(NamedTuple):
    """Payloads and whose they are, as a `Poll` has them; the partitions that brought them; and their bytes together."""

    payloads: list[bytes]
    runs: tuple[Run, ...]
    parts: tuple[Part, ...]
    size: int


class _Share:
    """What has been taken of one partition."""

    __slots__ = ("offsets", "stamps", "values")

    def __init__(self) -> None:
        self.values, self.offsets, self.stamps = list[bytes](), list[Offsets](), _Stamps()


def fetch(lane: Lane, most: int, wait_s: float, clock: Clock) -> Fetched:
    """At most so many records off the lane, by partition, and in each by offset; waits out `wait_s` for more.

    A record without a value is an empty payload. Each run says what `clock` read when the broker appended its records; where
    the topic has its producers' timestamps instead of the broker's, what it reads now: a producer may write there what it likes.
    """
    with _uncollected():
        shares = _read(lane, most, wait_s)
    payloads, runs, now = list[bytes](), list[Run](), to_ms(clock.now())
    for part, share in sorted(shares.items()):
        appended = _appended(share.stamps, clock, now)
        runs.append(Run(part[1], len(payloads), len(share.values), _joined(share.offsets), appended))
        payloads += share.values
    if not all(payloads):
        payloads = [payload or b"" for payload in payloads]
    return Fetched(payloads, tuple(runs), tuple(shares), sum(map(len, payloads)))


def _read(lane: Lane, most: int, wait_s: float) -> dict[Part, _Share]:
    """The records by partition, taken by the slice: a few messages stay in the processor's cache."""
    shares = dict[Part, _Share]()
    left, deadline = most, wall_seconds() + wait_s
    while left > 0:
        wanted, got = min(left, SLICE), 0
        for part, messages in lane.poll(wanted, max(0.0, deadline - wall_seconds())):
            share = shares.setdefault(part, _Share())
            share.values.extend(map(_VALUE, messages))
            share.offsets.append(_offsets(messages))
            share.stamps += _stamps(messages)
            got += len(messages)
        left -= got
        if got < wanted:
            break
    return shares


def _stamps(messages: list[Any]) -> _Stamps:
    """Their append times. All records of a batch have the same: where the ends of a stretch agree, nobody between is asked.

    So a broker's clock that was set back and caught up again within a stretch goes unnoticed.
    """
    first, last = messages[0].timestamp(), messages[-1].timestamp()
    if first == last or (first[0] != TIMESTAMP_LOG_APPEND_TIME and last[0] != TIMESTAMP_LOG_APPEND_TIME):
        return [(_said(first), len(messages))]
    found, begin = _Stamps(), first
    for place in range(0, len(messages), _STRIDE):
        after = place + _STRIDE
        end = messages[after].timestamp() if after < len(messages) else last
        if begin == end:
            found.append((_said(begin), min(_STRIDE, len(messages) - place)))
        else:
            found += [(_said(stamp), len(list(same))) for stamp, same in groupby(messages[place:after], _TIMESTAMP)]
        begin = end
    return found


def _said(timestamp: tuple[int, int]) -> int:
    return timestamp[1] if timestamp[0] == TIMESTAMP_LOG_APPEND_TIME else _NOT_SAID


def _appended(stamps: _Stamps, clock: Clock, now: int) -> Appended:
    """What the clock read then, equal neighbours as one."""
    first, at, place, before = list[int](), list[int](), 0, None
    for stamp, count in stamps:
        if stamp != before:
            first.append(place)
            at.append(now if stamp == _NOT_SAID else to_ms(clock.at_wall(from_ms(stamp))))
        place, before = place + count, stamp
    return Appended(first, at)


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
