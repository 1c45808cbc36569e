"""What went before about a quarter, for as long as it may be corrected (semantics 7.2, 7.5).

A message's id says what went before it (`reporting_quarters.GroupQuarter.after`). Of quarters that are not remembered otherwise
twelve bytes each are kept: of 1,000 groups and a week there are 700,000.
"""

import struct
from collections.abc import Iterable

from schemas.facts import digest
from schemas.intervals import QUARTER_MS
from schemas.outbound import OutboundMessage

_ONE = struct.Struct("<I8s")
_DIGITS = 16
"""So many hexadecimal digits are enough to tell what went before another message of the same quarter."""


def chained(messages: Iterable[OutboundMessage]) -> str:
    """What stands for messages that went together, and by their ids for all before them."""
    return digest("".join(message.message_id for message in messages))[:_DIGITS]


def noted(past: bytes, start_ms: int, after: str, since_ms: int) -> bytes:
    """`past` with what went last about the quarter that starts at `start_ms`; quarters before `since_ms` that were noted first go."""
    first = 0
    while first < len(past) and _ONE.unpack_from(past, first)[0] * QUARTER_MS < since_ms:
        first += _ONE.size
    return past[first:] + _ONE.pack(start_ms // QUARTER_MS, bytes.fromhex(after))


def last_about(past: bytes, start_ms: int) -> str:
    """What went last about the quarter that starts then, "" where that is not known."""
    found = b""
    for number, after in _ONE.iter_unpack(past):
        if number == start_ms // QUARTER_MS:
            found = after
    return found.hex()
