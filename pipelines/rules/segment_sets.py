"""Segments of one message, as far as they have come, and which of them belong together (semantics 6.8, oscp-2.0 3).

Later segments refer to the first one, or to the one before: no source settles which, so both are understood. They
may come in any order, so one may refer to a segment that has not come yet, and two that were apart may turn out to
be parts of one message when a third comes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from schemas.connection import InboundMessage
from schemas.facts import derived_id, digest
from schemas.oscp.v20 import ARRAYS


@dataclass(frozen=True, slots=True)
class SetKey:
    """What the segments of one message have in common, beside their partner."""

    action: str
    group_id: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class Part:
    """What is kept of a segment: plain, since it stays in state until the others have come."""

    index: int
    event_id: str
    request_id: str
    correlation_id: str | None
    received_at: datetime
    method: str
    group_id: str | None
    body: str
    body_digest: str
    credential_digest: str

    @property
    def contents(self) -> str:
        """The same for the same segment sent again, whatever its X-Request-ID."""
        return f"{self.index} {self.body_digest}"


def part_of(message: InboundMessage) -> tuple[SetKey, Part]:
    """A segment and the key of its set. Raises ValueError for a body that is not what the gateway lets pass."""
    index, count = message.segment_index, message.segment_count
    body = json.loads(message.body)
    array = ARRAYS.get(message.action)
    if index is None or count is None or not 1 <= index <= count or not isinstance(body, dict) or not isinstance(body.get(array), list):
        raise ValueError("no segment of a message that has an array")
    part = Part(
        index, message.event_id, message.request_id, message.correlation_id, message.received_at, message.method,
        message.group_id, message.body, message.body_digest, message.credential_digest,
    )  # fmt: skip
    return SetKey(message.action, str(body.get("group_id")), str(body.get("type")), count), part


@dataclass(slots=True)
class OpenSet:
    """The segments of one message that have come. `taken_at` is the clock when the first of them was read.

    `ids` are the X-Request-IDs by which these are known, `awaited` those that they refer to.
    """

    key: SetKey
    taken_at: datetime
    parts: dict[int, Part] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    awaited: set[str] = field(default_factory=set)

    @property
    def since(self) -> datetime:
        """When the first segment to arrive was received."""
        return min(part.received_at for part in self.parts.values())

    @property
    def size(self) -> int:
        """About how much room the bodies take; characters."""
        return sum(len(part.body) for part in self.parts.values())

    @property
    def complete(self) -> bool:
        """Whether all segments are here."""
        return len(self.parts) == self.key.count

    @property
    def missing(self) -> list[int]:
        """The segments that have not come."""
        return [index for index in range(1, self.key.count + 1) if index not in self.parts]

    def linked(self, part: Part) -> bool:
        """Whether the segment refers to one of these, is referred to by one, or refers to what one of these refers to."""
        wanted = part.correlation_id if part.index > 1 else None
        return part.request_id in self.ids or part.request_id in self.awaited or wanted in self.ids or wanted in self.awaited

    def take(self, part: Part) -> Part | None:
        """Add a segment; returns the one whose place it took, if there was one with other contents."""
        known = self.parts.get(part.index)
        self.know(part)
        if known is not None and known.contents == part.contents:
            return None
        self.parts[part.index] = part
        return known

    def emptied(self) -> "OpenSet":
        """The same without bodies: enough to know its segments again."""
        return replace(self, parts={index: replace(part, body="") for index, part in self.parts.items()})

    def has(self, key: SetKey, part: Part) -> bool:
        """Whether this very segment is here, under another X-Request-ID."""
        known = self.parts.get(part.index)
        return self.key == key and known is not None and known.contents == part.contents and self.linked(part)

    def know(self, part: Part) -> None:
        """Recognise what refers to this segment, and what it refers to."""
        self.ids.add(part.request_id)
        if part.index > 1 and part.correlation_id is not None:
            self.awaited.add(part.correlation_id)

    def absorb(self, other: "OpenSet") -> None:
        """The segments of another set, which lacks those that are here, are of the same message."""
        self.taken_at = min(self.taken_at, other.taken_at)
        self.parts |= other.parts
        self.ids |= other.ids
        self.awaited |= other.awaited


def place(sets: list[OpenSet], key: SetKey, part: Part, now: datetime) -> OpenSet:
    """The set a segment belongs to, a new one if none. Sets that it shows to be of one message become one (in `sets`).

    A segment that refers to nothing belongs to the only set that lacks it. The first one, which need not refer to
    anything, is looked for only where others referred to nothing either.
    """
    same = [each for each in sets if each.key == key]
    linked = sorted((each for each in same if each.linked(part)), key=lambda each: part.index in each.parts)
    if not linked and (part.index == 1 or part.correlation_id is None):
        lacking = [each for each in same if part.index not in each.parts and (part.index > 1 or _loose(each))]
        linked = lacking if len(lacking) == 1 else []
    if not linked:
        sets.append(OpenSet(key, now))
        return sets[-1]
    found, *others = linked
    for other in others:
        if not found.parts.keys() & other.parts.keys():
            found.absorb(other)
            sets.remove(other)
    return found


def _loose(found: OpenSet) -> bool:
    return any(part.correlation_id is None for index, part in found.parts.items() if index > 1)


def joined(partner_id: str, found: OpenSet) -> tuple[InboundMessage, int]:
    """The whole message of a complete set, the same on every run, and how many entries its array has.

    It is the first segment with all arrays in order of their indices; received, and admitted, with the last to arrive.
    """
    parts = [found.parts[index] for index in sorted(found.parts)]
    first, last = parts[0], max(parts, key=lambda part: (part.received_at, part.index))
    array = ARRAYS[found.key.action]
    bodies: list[dict[str, Any]] = [json.loads(part.body) for part in parts]
    entries = [entry for body in bodies for entry in body[array]]
    body = json.dumps({**bodies[0], array: entries}, ensure_ascii=False, separators=(",", ":"))
    message = InboundMessage(
        event_id=derived_id("joined", partner_id, *(part.event_id for part in parts)),
        at=last.received_at,
        cause_id=last.event_id,
        partner_id=partner_id,
        action=found.key.action,
        method=first.method,
        request_id=first.request_id,
        correlation_id=first.correlation_id,
        received_at=last.received_at,
        group_id=first.group_id,
        body=body,
        body_digest=digest(body),
        credential_digest=last.credential_digest,
    )
    return message, len(entries)


def listed(indices: Iterable[int]) -> str:
    """`2`, `2 and 3`, `2, 3 and 7`."""
    words = [str(index) for index in indices]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
