"""Of which circuits people are to be told that nothing gets through (semantics 4). Pure; all instants are wall seconds."""

from collections import OrderedDict
from collections.abc import Iterator

from sinks.circuit_lane import Lane

UNREACHABLE_S = 60.0
AGAIN_S = 86_400.0
"""What is still so a day later is told again: who reads the events of the last days must find it there."""
_Line = OrderedDict[str, tuple[float, Lane]]


class Owing:
    """The circuits that are owed a write, in the order in which that began; one of which nothing gets through for `after_s` is told of."""

    def __init__(self, after_s: float = UNREACHABLE_S) -> None:
        self.after_s = after_s
        self._waiting, self._told = _Line(), _Line()

    def begin(self, lane: Lane, now: float) -> None:
        """A circuit is owed a write; makes no difference where it was before."""
        if lane.circuit_id not in self._told:
            self._waiting.setdefault(lane.circuit_id, (now, lane))

    def end(self, lane: Lane) -> None:
        """Something of a circuit got through."""
        self._waiting.pop(lane.circuit_id, None)
        self._told.pop(lane.circuit_id, None)

    def overdue(self, now: float) -> Iterator[Lane]:
        """The circuits to tell of now: each once, and again every day."""
        for line, after_s in self._lines():
            while line and next(iter(line.values()))[0] + after_s <= now:
                name, (_, lane) = line.popitem(last=False)
                self._told[name] = (now, lane)
                yield lane

    def next_at(self) -> float | None:
        """When the next one is to be told of; None for never."""
        return min((next(iter(line.values()))[0] + after_s for line, after_s in self._lines() if line), default=None)

    def _lines(self) -> tuple[tuple[_Line, float], tuple[_Line, float]]:
        return (self._waiting, self.after_s), (self._told, AGAIN_S)
