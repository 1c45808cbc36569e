"""A message too large for its partner goes in segments (semantics 8.7, oscp-2.0 section 3). Pure.

Each segment is a message by itself: the whole one's fields, and some of the entries of its array. The first has the whole
message's ids, the later ones refer to it. All ids follow from the message and from what is cut, so every try has the same.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.facts import derived_id, digest
from schemas.oscp.v20 import ARRAYS
from schemas.outbound import OutboundMessage

RESUMED_S = 60.0
"""So long (wall) after its first segment went a message that failed goes on where it stopped; later all of it is sent again. A
receiver throws incomplete messages away at some time, ours after 10 minutes, and would then take the rest for another message's."""
WHOLE_S = 480.0
"""So long (wall) after its first segment went another one of a message may go: later the first ones may be thrown away already, and
with the last one it would pass for delivered though nobody has all of it."""


class TooLarge(Exception):
    """The message cannot be sent within `max_body`. The words say what a person can do."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What one request holds: a part of a message, or all of it (1 of 1)."""

    index: int
    count: int
    request_id: str
    correlation_id: str | None
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers that OSCP wants with it."""
        found = {"X-Request-ID": self.request_id}
        if self.correlation_id is not None:
            found["X-Correlation-ID"] = self.correlation_id
        if self.count > 1:
            found |= {"X-Segment-Index": str(self.index), "X-Segment-Count": str(self.count)}
        return found

    def __str__(self) -> str:
        return f"segment {self.index} of {self.count}"


def segments_of(message: OutboundMessage, content: bytes, max_body: int | None) -> list[Segment]:
    """What has to be sent, in this order, each at most `max_body` bytes: `content`, a valid message's body, as it is where it fits.

    Raises TooLarge where it neither fits nor can be cut.
    """
    if max_body is None or len(content) <= max_body:
        return [Segment(1, 1, message.message_id, message.correlation_id, content)]
    bodies = list(_cut(message, content, max_body))
    count = len(bodies)
    return [
        Segment(1, count, message.message_id, message.correlation_id, body)
        if index == 1
        else Segment(index, count, derived_id("segment", message.message_id, index, count, digest(body)), message.message_id, body)
        for index, body in enumerate(bodies, 1)
    ]


def _cut(message: OutboundMessage, content: bytes, max_body: int) -> Iterator[bytes]:
    array = ARRAYS.get(message.action)
    if array is None:
        raise TooLarge(
            _words(message, f"it has {len(content):,} bytes, and a {message.action} cannot be cut into segments", len(content), max_body)
        )
    body: dict[str, Any] = json.loads(content)
    entries: list[Any] = body[array]
    frame = len(_text({**body, array: []}))
    sizes = [len(_text(entry)) for entry in entries]
    if (needed := frame + max(sizes)) > max_body:
        raise TooLarge(_words(message, f"the largest entry of its {array} makes a segment of {needed:,} bytes by itself", needed, max_body))
    begin, size = 0, frame + sizes[0]
    for index in range(1, len(entries)):
        size += 1 + sizes[index]
        if size > max_body:
            yield _text({**body, array: entries[begin:index]})
            begin, size = index, frame + sizes[index]
    yield _text({**body, array: entries[begin:]})


def _words(message: OutboundMessage, why: str, needed: int, max_body: int) -> str:
    cure = f"if {message.partner_id} takes that much, set it to {needed:,} or more"
    return f"{why}, more than max_body of partners/{message.partner_id} allows ({max_body:,}); {cure}"


def _text(value: object) -> bytes:
    # a half of a surrogate pair is the one thing UTF-8 cannot hold; its escape is JSON
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class _Begun:
    since: float
    where: tuple[str, ...]
    taken: int


@dataclass(slots=True)
class Taken:
    """How many segments of messages were taken whose others were not, for tries that come soon after. Times are wall seconds."""

    _begun: dict[str, _Begun] = field(default_factory=dict)

    def of(self, segments: Sequence[Segment], url: str, now: float) -> tuple[int, float]:
        """How many, from the first on, need not be sent again to this address, and when the first went: now, where none did."""
        begun = self._begun.get(segments[0].request_id)
        if begun is None or begun.where != _where(segments, url) or now - begun.since > RESUMED_S:
            return 0, now
        return begun.taken, begun.since

    def note(self, segments: Sequence[Segment], url: str, taken: int, since: float, now: float) -> None:
        """`taken` of them have been taken by now, the first of which went at `since`. Forgets what is too old to be of use."""
        self._begun = {message_id: begun for message_id, begun in self._begun.items() if now - begun.since <= RESUMED_S}
        self._begun[segments[0].request_id] = _Begun(since, _where(segments, url), taken)

    def forget(self, message_id: str) -> None:
        """The message needs nothing more."""
        self._begun.pop(message_id, None)


def _where(segments: Sequence[Segment], url: str) -> tuple[str, ...]:
    return (url, *(segment.request_id for segment in segments))
