"""Whose turn it is among one partner's lanes, and when that changes, without a look at all of them. Pure.

A lane's head is enrolled under a new ticket whenever it became the head or may go at another time than before; what was enrolled
of the lane until then is void. So each turn costs the same however many lanes there are.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sinks.oscp.coming import Coming
from sinks.oscp.waiting import Now, Waiting


@dataclass(slots=True)
class Lane:
    """The messages of one group and action, in their order; the first is the only one that may go. `ticket` is 0 without a head."""

    waiting: deque[Waiting] = field(default_factory=deque)
    under_way: Waiting | None = None
    ticket: int = 0

    @property
    def head(self) -> Waiting | None:
        """The message whose turn it is; None while one is under way."""
        return self.waiting[0] if self.waiting and self.under_way is None else None


def _stands(lane: Lane, ticket: int) -> bool:
    return lane.ticket == ticket


class Turns:
    """The enrolled lanes, by what their heads wait for: the wall, the clock, or nothing any more.

    Those that wait for nothing are apart by whether they are backlog, since a backlog's rate must not make anyone look through it for
    a newer message. They are `ready` as of the last `come_up`. Messages that overtake are not among them: they are looked at each time.
    """

    def __init__(self) -> None:
        self._expiring, self._by_wall, self._by_clock = Coming(_stands), Coming(_stands), Coming(_stands)
        self._backlog, self._fresh = Coming(_stands), Coming(_stands)
        self._now, self._period_ms = Now(0.0, 0), 0
        self._tickets = 0

    def enrol(self, lane: Lane) -> None:
        """The lane's head is another one, or may go at another time."""
        self._tickets += 1
        lane.ticket = self._tickets
        head = lane.waiting[0]
        self._expiring.push(head.expires_ms, head.offset, lane.ticket, lane)
        self._place(lane)

    def come_up(self, now: Now, period_ms: int) -> None:
        """It is `now`; what is older than `period_ms` is backlog. Slow (all lanes) only after a clock went back or the period changed."""
        back = now.wall < self._now.wall or now.clock_ms < self._now.clock_ms or period_ms != self._period_ms
        self._now, self._period_ms = now, period_ms
        if back:
            for heap in (self._by_wall, self._by_clock, self._backlog, self._fresh):
                heap.clear()
            for lane in self._expiring:
                self._place(lane)
            return
        for heap, until in ((self._by_wall, now.wall), (self._by_clock, now.clock_ms), (self._fresh, now.clock_ms - period_ms - 1)):
            for lane in [*heap.until(until)]:
                self._place(lane)

    def hasten(self) -> None:
        """No head waits for the wall any more."""
        for lane in [*self._by_wall.until(float("inf"))]:
            self._place(lane)

    def oldest(self) -> list[Waiting]:
        """The oldest head that is ready and no backlog, and the oldest that is backlog."""
        return [lane.waiting[0] for heap in (self._fresh, self._backlog) if (lane := heap.first()) is not None]

    def ready(self) -> Iterator[Waiting]:
        """All heads that are ready. Takes as long as there are."""
        return (lane.waiting[0] for heap in (self._fresh, self._backlog) for lane in heap)

    def expired(self, clock_ms: int) -> Iterator[Lane]:
        """The lanes whose heads nobody wants any more. Who takes a head away enrols the next one, which may be the next here."""
        return self._expiring.until(clock_ms)

    def look_again(self) -> tuple[float | None, int | None]:
        """When the next head comes up as of the last `come_up`, by the wall, and by the clock, or expires. None for never."""
        due, not_before, expiring = self._by_wall.first(), self._by_clock.first(), self._expiring.first()
        clocks = [lane.waiting[0].not_before_ms for lane in [not_before] if lane] + [
            lane.waiting[0].expires_ms for lane in [expiring] if lane
        ]
        return due.waiting[0].due if due else None, min(clocks, default=None)

    def _place(self, lane: Lane) -> None:
        head, now, ready = lane.waiting[0], self._now, True
        if head.due > now.wall:
            self._by_wall.push(head.due, head.offset, lane.ticket, lane)
            ready = False
        if head.not_before_ms > now.clock_ms:
            self._by_clock.push(head.not_before_ms, head.offset, lane.ticket, lane)
            ready = False
        if ready and not head.overtakes:
            heap = self._backlog if now.clock_ms - head.at_ms > self._period_ms else self._fresh
            heap.push(head.at_ms, head.offset, lane.ticket, lane)
