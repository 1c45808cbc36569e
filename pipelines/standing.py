"""How far a lane is behind the broker, for the meters: by what fetching told anyway, so that nobody is asked for it."""

from pipelines.lanes import Lane
from pipelines.meters import Meters
from schemas.clock import wall_seconds

LOOK_EVERY_S = 2.5


class Standing:
    """Looks about every `LOOK_EVERY_S` (wall) where the lane is and where its partitions ended when they were last fetched."""

    def __init__(self, lane: Lane, meters: Meters) -> None:
        self._lane, self._meters, self._next = lane, meters, 0.0

    def look(self) -> None:
        """To be called at every poll, in the lane's own thread; nearly always it only looks at the time."""
        now = wall_seconds()
        if now < self._next or not self._lane.opened:
            return
        self._next = now + LOOK_EVERY_S
        ends = self._lane.fetched_ends()
        topics: dict[str, dict[int, tuple[int, int | None]]] = {}
        for part, position in self._lane.read.items():
            end = ends[part]
            # Less than was read: the embedded broker says less than it has after a batch (brokers.md).
            topics.setdefault(part[0], {})[part[1]] = (position, None if end is None else max(0, end - position))
        for topic, standings in topics.items():
            self._meters.reading(topic, standings)
