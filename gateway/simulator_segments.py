"""How the simulated Capacity Provider takes messages that come in segments, as a good peer does (oscp-2.0 section 3).

What belongs together is found as we find it in forecasts (`pipelines.rules.segment_sets`), in any order. What partners are
promised beyond that is checked here: later segments name the first one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.simulator_ledger import Ledger
from gateway.simulator_reply import Reply, error
from pipelines.rules.segment_sets import OpenSet, joined, listed, part_of, place
from schemas.connection import InboundMessage
from schemas.facts import digest
from schemas.oscp.v20 import ARRAYS, Action

INDEX, COUNT = "x-segment-index", "x-segment-count"


@dataclass(frozen=True, slots=True)
class Whole:
    """A message all of whose segments have come: the first one, with every entry of all."""

    request_id: str
    correlation_id: str | None
    body: bytes


class Assembly:
    """The messages of which some segments have come. What is wrong goes into the ledger's problems; what is missing into its
    `unfinished`, for the report. Header names come in lower case."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: list[OpenSet] = []
        self._seen: dict[str, tuple[int, int, str]] = {}

    def take(self, action: Action, method: str, request_id: str, headers: Mapping[str, str], body: bytes) -> Whole | Reply | None:
        """Take in a readable message. None: it is no segment. An answer: its others have not come, it is wrong, or it came before.
        With the last segment, the whole message."""
        found = headers.get(INDEX), headers.get(COUNT)
        if found in ((None, None), ("1", "1")):
            return None
        index, count = (int(text) if text is not None and text.isdecimal() else 0 for text in found)
        if action not in ARRAYS or not 1 <= index <= count:
            words = f"{action}: segment {found[0]} of {found[1]} cannot be"
            self._ledger.problem(words)
            return error(400, words)
        self._ledger.owed.pop(request_id, None)
        this, known = (index, count, digest(body)), self._seen.get(request_id)
        if known == this:
            self._ledger.duplicates += 1
            return Reply(204)
        if known is not None and (index > 1 or known[1] == count):  # else the message was cut anew, for another size
            self._ledger.problem(f"{action}: X-Request-ID {request_id} came before with another segment")
        self._seen[request_id] = this
        now, content = self._ledger.clock.now(), body.decode()
        segment = InboundMessage(
            event_id=request_id, at=now, partner_id="", action=action, method=method, request_id=request_id,
            correlation_id=headers.get("x-correlation-id"), received_at=now, body=content, body_digest=digest(content),
            credential_digest="", segment_index=index, segment_count=count,
        )  # fmt: skip
        whole = self._placed(segment, now)
        self._report()
        return whole or Reply(204)

    def give_up(self, request_id: str, correlation_id: str | None) -> None:
        """We refused a segment for good, or the message came another way: its other segments need not come."""
        ids = {request_id, correlation_id} - {None}
        self._open = [each for each in self._open if not ids & (each.ids | each.awaited)]
        self._report()

    def _placed(self, segment: InboundMessage, now: datetime) -> Whole | None:
        key, part = part_of(segment)
        found, name = place(self._open, key, part, now), f"{key.action}: segment"
        if found.take(part) is not None:
            self._ledger.problem(f"{name} {part.index} of {key.count} came again with other entries")
        if (first := found.parts.get(1)) is not None:
            for later in found.parts.values():
                if later.index > 1 and later.correlation_id != first.request_id:
                    words = f"X-Correlation-ID {later.correlation_id!r} is not the request id of the first, {first.request_id}"
                    self._ledger.problem(f"{name} {later.index} of {key.count}: {words}")
        if not found.complete:
            return None
        whole, _ = joined("", found)
        self.give_up(whole.request_id, None)
        self._ledger.segmented += 1
        return Whole(whole.request_id, whole.correlation_id, whole.body.encode())

    def _report(self) -> None:
        self._ledger.unfinished = [
            f"{_name(each)}: segment{'s' if len(each.missing) > 1 else ''} {listed(each.missing)} of {each.key.count} did not come"
            for each in self._open
        ]


def _name(found: OpenSet) -> str:
    ids = {found.parts[1].request_id} if 1 in found.parts else found.awaited or found.ids
    return f"{found.key.action} {min(ids)}"
