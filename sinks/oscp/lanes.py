"""The order in which one partner's messages go: within a group and action as they came, one under way at a time. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from sinks.oscp.turns import Lane, Turns
from sinks.oscp.waiting import Now, Waiting


def _place(message: Waiting) -> tuple[int, int]:
    return message.partition, message.offset


class Lanes:
    """One partner's lanes; those with nothing in them are not kept. `len` counts what waits or is under way.

    Nothing here but what says so takes longer the more lanes there are, or the more messages wait. Messages have ids of their own.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str | None, str], Lane] = {}
        self._overtaking: dict[tuple[str | None, str], Lane] = {}
        self._known: dict[str, Waiting] = {}
        """By id, 60 bytes each: among a week's messages one must be found without a look at all of them."""
        self._turns = Turns()

    def __len__(self) -> int:
        return len(self._known)

    def heads(self) -> Iterator[Waiting]:
        """The messages whose turn it is in their lanes. Takes as long as there are lanes."""
        return (head for lane in self._kept.values() if (head := lane.head) is not None)

    def oldest(self) -> Iterator[Waiting]:
        """The message that is first in each lane, under way or not. Takes as long as there are lanes."""
        return (lane.under_way or lane.waiting[0] for lane in self._kept.values() if lane.under_way or lane.waiting)

    def find(self, message_id: str) -> Waiting | None:
        """The message of that id, if it waits or is under way here."""
        return self._known.get(message_id)

    def add(self, message: Waiting) -> None:
        """Take in a message behind those of its lane that came before it."""
        lane = self._of(message)
        lane.waiting.append(message)
        self._known[message.message_id] = message
        if lane.head is message:
            self._turns.enrol(lane)

    def put_back(self, message: Waiting) -> None:
        """Take in a message where it belongs by its place in the topic."""
        lane = self._of(message)
        lane.waiting.insert(bisect_right(lane.waiting, _place(message), key=_place), message)
        self._known[message.message_id] = message
        self._go_on(message, lane)

    def begin(self, message: Waiting) -> None:
        """A head is under way."""
        lane = self._of(message)
        lane.under_way, lane.ticket = lane.waiting.popleft(), 0

    def end(self, message: Waiting, *, again: bool) -> None:
        """What was under way is not any more; its lane goes on, with the same message if it is to go `again`."""
        lane = self._of(message)
        lane.under_way = None
        if again:
            lane.waiting.appendleft(message)
        else:
            self._known.pop(message.message_id, None)
        self._go_on(message, lane)

    def remove(self, message: Waiting) -> bool:
        """Take out a message that waits; False, and nothing done, if it is under way."""
        lane = self._of(message)
        if lane.under_way is message:
            return False
        at = bisect_left(lane.waiting, _place(message), key=_place)
        if at == len(lane.waiting) or lane.waiting[at] is not message:  # they came in another order than the topic's
            at = next(index for index, each in enumerate(lane.waiting) if each is message)
        del lane.waiting[at]
        self._known.pop(message.message_id, None)
        self._go_on(message, lane)
        return True

    def expire(self, clock_ms: int) -> list[Waiting]:
        """Take out those at the head of their lanes that nobody wants any more."""
        expired: list[Waiting] = []
        for lane in self._turns.expired(clock_ms):
            expired.append(lane.waiting.popleft())
            self._known.pop(expired[-1].message_id, None)
            self._go_on(expired[-1], lane)
        return expired

    def hasten(self, message: Waiting) -> None:
        """The message's back-off is over."""
        message.due = 0.0
        lane = self._of(message)
        if lane.head is message:
            self._turns.enrol(lane)

    def hasten_all(self) -> None:
        """The heads' back-offs are over. Takes as long as there are lanes."""
        for head in self.heads():
            head.due = 0.0
        self._turns.hasten()

    def come_up(self, now: Now, period_ms: int) -> None:
        """It is `now`; what is older than `period_ms` is backlog. `first`, `ready` and `look_again` go by it."""
        self._turns.come_up(now, period_ms)

    def overtaking(self) -> Iterator[Waiting]:
        """The heads that go before what is only older, due or not: few, since they are about no group."""
        return (head for lane in self._overtaking.values() if (head := lane.head) is not None)

    def first(self) -> list[Waiting]:
        """Of the other heads that are due: the oldest that is no backlog, and the oldest that is backlog."""
        return self._turns.oldest()

    def ready(self) -> Iterator[Waiting]:
        """All the other heads that are due. Takes as long as there are."""
        return self._turns.ready()

    def look_again(self) -> tuple[float | None, int | None]:
        """When the next head comes due or expires, by the wall and by the clock. None for never."""
        return self._turns.look_again()

    def _of(self, message: Waiting) -> Lane:
        key = (message.group_id, message.action)
        lane = self._kept.get(key)
        if lane is None:
            lane = self._kept[key] = Lane()
            if message.overtakes:
                self._overtaking[key] = lane
        return lane

    def _go_on(self, message: Waiting, lane: Lane) -> None:
        """The lane of the message may have another head, or nothing in it any more."""
        if lane.head is not None:
            self._turns.enrol(lane)
            return
        lane.ticket = 0
        if lane.under_way is None:
            key = (message.group_id, message.action)
            del self._kept[key]
            self._overtaking.pop(key, None)
