"""What stood on a topic a moment ago: who reads it may have to say what another reader saw, who had come less far."""

from collections import deque
from collections.abc import Mapping
from typing import Generic, TypeVar

V = TypeVar("V")

MOST = 50_000
"""So many changes are remembered: a worker that reads on while another one takes a bulk of them over is hardly further ahead."""


class ChangesPast(Generic[V]):
    """The last changes of a topic of one partition, each with what undoes it. Where offsets begin anew, so does this."""

    def __init__(self, most: int = MOST) -> None:
        self._changes: deque[tuple[int, str, V | None]] = deque(maxlen=most)
        self._since = -1

    def note(self, offset: int, key: str, before: V | None) -> None:
        """The record at that offset changed the value of a key, which was `before` (None: there was none)."""
        if self._changes and offset <= self._changes[-1][0]:
            self._changes.clear()
            self._since = offset - 1
        if len(self._changes) == self._changes.maxlen:
            self._since = self._changes[0][0]
        self._changes.append((offset, key, before))

    def at(self, offset: int, latest: Mapping[str, V]) -> dict[str, V] | None:
        """The values after the record at that offset, where `latest` are those after all changes; None if that is too long ago."""
        if offset < self._since:
            return None
        found = dict(latest)
        for when, key, before in reversed(self._changes):
            if when <= offset:
                break
            if before is None:
                found.pop(key, None)
            else:
                found[key] = before
        return found
