"""A partner's queue that looks at all of its lanes each time: slow, and plain enough to be believed. The real one must do the same."""

from bisect import insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.outbound import Outcome
from sinks.oscp.breaker import BreakerState
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.waiting import Now, Waiting


@dataclass
class PlainLane:
    waiting: deque[Waiting] = field(default_factory=deque)
    under_way: Waiting | None = None

    @property
    def head(self) -> Waiting | None:
        return self.waiting[0] if self.waiting and self.under_way is None else None


class PlainLanes:
    """What the parts of `PartnerQueue` that are not replaced below, and who tells how it stands, ask of its lanes."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str | None, str], PlainLane] = {}

    def __len__(self) -> int:
        return sum(len(lane.waiting) + (lane.under_way is not None) for lane in self.kept.values())

    def of(self, message: Waiting) -> PlainLane:
        return self.kept.setdefault((message.group_id, message.action), PlainLane())

    def heads(self) -> Iterator[Waiting]:
        return (head for lane in self.kept.values() if (head := lane.head) is not None)

    def oldest(self) -> Iterator[Waiting]:
        return (lane.under_way or lane.waiting[0] for lane in self.kept.values() if lane.under_way or lane.waiting)

    def hasten_all(self) -> None:
        for head in self.heads():
            head.due = 0.0


class PlainQueue(PartnerQueue):
    """Everything that chooses among lanes or keeps them, done by looking at all of them."""

    lanes: PlainLanes  # type: ignore[assignment]

    def add(self, message: Waiting, *, parked: bool = False) -> None:
        if parked:
            self.parked[message.message_id] = message
        else:
            self.lanes.of(message).waiting.append(message)

    def next(self, now: Now) -> Waiting | None:
        due = (head for head in self.lanes.heads() if head.not_before_ms <= now.clock_ms and head.due <= now.wall)
        heads = [head for head in due if self._may_go(head, now)]
        if not heads:
            return None
        probing = self.breaker.state is not BreakerState.CLOSED
        message = min(heads, key=lambda head: (not head.beat, head.failures if probing else 0, *head.rank))
        lane = self.lanes.of(message)
        lane.under_way = lane.waiting.popleft()
        message.attempts += 1
        if not message.beat:
            self.busy += 1
            self.breaker.started()
            if self._backlog(message, now):
                self.rate_at = now.wall + 1.0 / self.pace.max_rate
        return message

    def free(self, message: Waiting, outcome: Outcome) -> None:
        lane = self.lanes.of(message)
        lane.under_way = None
        self.busy -= 0 if message.beat else 1
        if outcome in (Outcome.RETRY, Outcome.HELD):
            lane.waiting.appendleft(message)
        elif outcome is Outcome.PARKED:
            self.parked[message.message_id] = message

    def expire(self, now: Now) -> list[Waiting]:
        expired = [message for message in self.parked.values() if message.expires_ms <= now.clock_ms]
        for message in expired:
            del self.parked[message.message_id]
        for lane in self.lanes.kept.values():
            while (head := lane.head) is not None and head.expires_ms <= now.clock_ms:
                expired.append(lane.waiting.popleft())
        return expired

    def retry(self, message_id: str) -> bool:
        message = self.find(message_id)
        if message is None:
            return False
        if self.parked.pop(message_id, None) is not None:
            message.failures = 0
            others = list(self.lanes.of(message).waiting)
            insort(others, message, key=lambda each: (each.partition, each.offset))
            self.lanes.of(message).waiting = deque(others)
        message.due = 0.0
        return True

    def drop(self, message_id: str, by: str) -> tuple[bool, Waiting | None]:
        message = self.find(message_id)
        if message is None:
            return False, None
        if self.parked.pop(message_id, None) is None:
            lane = self.lanes.of(message)
            if lane.under_way is message:
                message.dropped_by = by
                return True, None
            lane.waiting.remove(message)
        return True, message

    def find(self, message_id: str) -> Waiting | None:
        under_way = (lane.under_way for lane in self.lanes.kept.values() if lane.under_way is not None)
        waiting = (each for lane in self.lanes.kept.values() for each in lane.waiting)
        known = (*self.parked.values(), *under_way, *waiting)
        return next((each for each in known if each.message_id == message_id), None)

    def look_again(self, now: Now) -> tuple[float | None, int | None]:
        walls = [self.paused_until, self.rate_at, self.breaker.opens_at, *([self.hold.probe_at] if self.hold else [])]
        clocks = [message.expires_ms for message in self.parked.values()]
        for head in self.lanes.heads():
            walls.append(head.due)
            clocks += [head.not_before_ms, head.expires_ms]
        return (
            min((wall for wall in walls if wall > now.wall), default=None),
            min((clock for clock in clocks if clock > now.clock_ms), default=None),
        )
