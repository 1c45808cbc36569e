"""A poll of payloads off a lane, at the least cost a message: thousands come at once, and nothing is called for one in Python."""

import gc
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, groupby
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from pipelines.lanes import Lane, Part
from pipelines.records import Appended, Offsets, Run
from schemas.clock import Clock, wall_seconds
from schemas.units import from_ms, to_ms
from sinks.payloads import Payloads

_VALUE: Callable[[Any], Any] = Message.value
_OFFSET: Callable[[Any], Any] = Message.offset

GRAIN_MS = 1_000
"""Append times are taken up to the next whole second of the clock: it is no matter for what they are for, and thousands have the same."""
_FEW = 8
"""Where so many messages, on average, have the same time or more, the places where it changes are looked for; else all are asked."""
_NOT_SAID = -1

_Stamps = list[tuple[int, int]]
"""Append times (wall, in grains; or `_NOT_SAID`) and how many messages have each, in order."""

SLICE = 1_000
"""So many messages are taken at once: as many as stay in the processor's cache until their values have been taken out of them."""


class Fetched(NamedTuple):
    """Payloads and whose they are, as a `Poll` has them; and the partitions that brought them."""

    payloads: Payloads
    runs: tuple[Run, ...]
    parts: tuple[Part, ...]


class _Share:
    """What has been taken of one partition: payloads in pieces, and the size of each."""

    __slots__ = ("offsets", "pieces", "sizes", "stamps")

    def __init__(self) -> None:
        self.pieces, self.sizes = list[bytes](), array("q")
        self.offsets, self.stamps = list[Offsets](), _Stamps()

    def take(self, messages: list[Any], grain: int) -> None:
        values = list(map(_VALUE, messages))
        try:
            self.pieces.append(b"".join(values))
        except TypeError:  # records without a value
            values = [value or b"" for value in values]
            self.pieces.append(b"".join(values))
        self.sizes.extend(map(len, values))
        self.offsets.append(_offsets(messages))
        self.stamps += _stamps(messages, grain)


def fetch(lane: Lane, most: int, wait_s: float, clock: Clock) -> Fetched:
    """At most so many records off the lane, by partition, and in each by offset; waits out `wait_s` for more.

    A record without a value is an empty payload. Each run says what `clock` read when the broker appended its records; where
    the topic has its producers' timestamps instead of the broker's, what it reads now: a producer may write there what it likes.
    """
    grain = max(1, int(GRAIN_MS / max(1.0, clock.speed)))  # wall ms
    with _uncollected():
        shares = _read(lane, most, wait_s, grain)
    pieces, sizes, runs = list[bytes](), array("q"), list[Run]()
    every = {stamp for share in shares.values() for stamp, _ in share.stamps}
    read = {stamp: to_ms(clock.now() if stamp == _NOT_SAID else clock.at_wall(from_ms(stamp * grain))) for stamp in every}
    for part, share in sorted(shares.items()):
        runs.append(Run(part[1], len(sizes), len(share.sizes), _joined(share.offsets), _appended(share.stamps, read)))
        pieces += share.pieces
        sizes += share.sizes
    return Fetched(Payloads.of(pieces, sizes), tuple(runs), tuple(shares))


def _read(lane: Lane, most: int, wait_s: float, grain: int) -> dict[Part, _Share]:
    """The records by partition, taken by the slice: a few messages and their values stay in the processor's cache."""
    shares = dict[Part, _Share]()
    left, deadline = most, wall_seconds() + wait_s
    while left > 0:
        wanted, got = min(left, SLICE), 0
        for part, messages in lane.poll(wanted, max(0.0, deadline - wall_seconds())):
            shares.setdefault(part, _Share()).take(messages, grain)
            got += len(messages)
        left -= got
        if got < wanted:
            break
    return shares


def _stamps(messages: list[Any], grain: int) -> _Stamps:
    """Their append times, which rise: where the ends of a stretch agree, nobody between is asked.

    So a broker's clock that was set back, and has caught up by the end of the stretch, may go unnoticed.
    """

    def stamp(message: Any) -> int:
        kind, ms = message.timestamp()
        return -(-ms // grain) if kind == TIMESTAMP_LOG_APPEND_TIME else _NOT_SAID

    first, last = stamp(messages[0]), stamp(messages[-1])
    if first == last:
        return [(first, len(messages))]
    if first == _NOT_SAID or not 0 < last - first < len(messages) // _FEW:
        return [(same, len(list(some))) for same, some in groupby(messages, stamp)]
    found, place = _Stamps(), 0
    while place < len(messages):
        here = stamp(messages[place])
        after = bisect_right(messages, here, place, key=stamp)
        found.append((here, after - place))
        place = after
    return found


def _appended(stamps: _Stamps, read: Mapping[int, int]) -> Appended:
    """What the clock read then, equal neighbours as one."""
    first, at, place, before = list[int](), list[int](), 0, None
    for stamp, count in stamps:
        if stamp != before:
            first.append(place)
            at.append(read[stamp])
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
