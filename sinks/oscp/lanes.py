"""The order in which one partner's messages go: within a group and action as they came, one under way at a time. Pure."""

from bisect import insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sinks.oscp.waiting import Waiting


@dataclass(slots=True)
class Lane:
    """The messages of one group and action, in their order; the first is the only one that may go."""

    waiting: deque[Waiting] = field(default_factory=deque)
    under_way: Waiting | None = None

    @property
    def head(self) -> Waiting | None:
        """The message whose turn it is; None while one is under way."""
        return self.waiting[0] if self.waiting and self.under_way is None else None

    def put_back(self, message: Waiting) -> None:
        """Put a message where it belongs by its place in the topic."""
        others = list(self.waiting)
        insort(others, message, key=lambda each: (each.partition, each.offset))
        self.waiting = deque(others)


@dataclass(slots=True)
class Lanes:
    """One partner's lanes; those with nothing in them are not kept. `len` counts what waits or is under way."""

    _kept: dict[tuple[str | None, str], Lane] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(lane.waiting) + (lane.under_way is not None) for lane in self._kept.values())

    def heads(self) -> Iterator[Waiting]:
        """The messages whose turn it is in their lanes."""
        return (head for lane in self._kept.values() if (head := lane.head) is not None)

    def oldest(self) -> Iterator[Waiting]:
        """The message that is first in each lane, under way or not."""
        return (lane.under_way or lane.waiting[0] for lane in self._kept.values() if lane.under_way or lane.waiting)

    def of(self, message: Waiting) -> Lane:
        """The lane of a message, made where there is none."""
        return self._kept.setdefault((message.group_id, message.action), Lane())

    def sweep(self, message: Waiting) -> None:
        """Forget the message's lane if nothing is in it."""
        key = (message.group_id, message.action)
        if key in self._kept and not self._kept[key].waiting and self._kept[key].under_way is None:
            del self._kept[key]

    def expire(self, clock_ms: int) -> list[Waiting]:
        """Take out those at the head of their lanes that nobody wants any more."""
        expired: list[Waiting] = []
        for lane in list(self._kept.values()):
            while (head := lane.head) is not None and head.expires_ms <= clock_ms:
                expired.append(lane.waiting.popleft())
                self.sweep(head)
        return expired

    def find(self, message_id: str) -> Waiting | None:
        """The message of that id, if it waits or is under way here."""
        under_way = (lane.under_way for lane in self._kept.values() if lane.under_way is not None)
        known = (*under_way, *(each for lane in self._kept.values() for each in lane.waiting))
        return next((each for each in known if each.message_id == message_id), None)
