"""What comes up first among many, where most of it never comes to that: a heap whose entries become void by themselves. Pure."""

import heapq
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
ROOM = 64


class Coming(Generic[T]):
    """Items by a number each, the smallest first, then by a second one. `stands(item, ticket)` says whether what was pushed under that
    ticket still holds: void entries are dropped when they come up, and all of them once a heap is twice what stood in it before."""

    def __init__(self, stands: Callable[[T, int], bool]) -> None:
        self._stands = stands
        self._entries: list[tuple[float, int, int, T]] = []
        self._limit = ROOM

    def __len__(self) -> int:
        """How many entries are kept, void ones too."""
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        """What stands, in no order. Takes as long as there are entries."""
        return (item for _, _, ticket, item in self._entries if self._stands(item, ticket))

    def push(self, by: float, then: int, ticket: int, item: T) -> None:
        """Let an item wait to come up. Each push has a ticket of its own, or one that the same item had."""
        if len(self._entries) >= self._limit:
            self._entries = [each for each in self._entries if self._stands(each[3], each[2])]
            heapq.heapify(self._entries)
            self._limit = 2 * len(self._entries) + ROOM
        heapq.heappush(self._entries, (by, then, ticket, item))

    def first(self) -> T | None:
        """What comes up first; None if nothing stands."""
        entries = self._entries
        while entries and not self._stands(entries[0][3], entries[0][2]):
            heapq.heappop(entries)
        return entries[0][3] if entries else None

    def until(self, by: float) -> Iterator[T]:
        """Take out what has come up by then, one by one."""
        while self._entries and self._entries[0][0] <= by:
            _, _, ticket, item = heapq.heappop(self._entries)
            if self._stands(item, ticket):
                yield item

    def clear(self) -> None:
        """Take out everything."""
        self._entries, self._limit = [], ROOM
