"""Which circuit's change goes to the legacy platform next, and what follows from what became of it (semantics 4). Pure.

One write of a circuit is under way at a time, `pace.under_way` over all. A first attempt waits for no back-off; a retry waits for its own
and, while nothing gets through, for a single probe: so a platform that is back is found out about within a breaker's pause and then
gets everything at once. Circuits whose last attempt failed go behind the others, and at most half of the places are for them: so those
the platform chokes on hold up nobody else.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from schemas.capacity import CircuitCapacity
from sinks.circuit_lane import Lane, Write
from sinks.circuit_owing import Owing
from sinks.oscp.breaker import Breaker, BreakerState
from sinks.oscp.pace import Pace

PAUSE_MAX_S = 60.0
"""A Retry-After holds up all circuits for at most so long: another circuit's limit protects a feeder, and must not wait for hours."""
TOTAL_S, HURRIED_S = 10.0, 5.0
"""How long an attempt may take; the shorter while others wait for their first one, of a circuit that did not fail last time."""


class Outcome(StrEnum):
    """What became of an attempt: the platform has it, will not have it, did not answer sensibly; or we cut it off ourselves."""

    WRITTEN = "WRITTEN"
    REFUSED = "REFUSED"
    RETRY = "RETRY"
    CUT_OFF = "CUT_OFF"


@dataclass(slots=True)
class Sent:
    """One attempt as it was begun: what is tried, under which key, for the how manieth time, and how many seconds it may take."""

    lane: Lane
    write: Write
    own: bool
    key: str
    attempt: int
    within_s: float = TOTAL_S
    superseded: bool = False


@dataclass(slots=True)
class CircuitQueue:
    """All circuits. `life` names this life of the writer; `jitter(bound)` gives a random part of `bound` seconds.

    `newest(since)` says whether nothing can be on the topic, and not taken in, that takes effect later than `since`; a circuit is asked
    about until it says so, and nothing of it is sent before.
    All instants passed in are wall seconds.
    """

    pace: Pace
    jitter: Callable[[float], float]
    life: str
    newest: Callable[[datetime], bool]
    owing: Owing = field(default_factory=Owing)
    lanes: dict[str, Lane] = field(default_factory=dict)
    paused_until: float = 0.0
    busy: int = 0
    breaker: Breaker = field(init=False)
    _doubtful: int = 0
    _fresh: deque[Lane] = field(default_factory=deque)
    _behind: deque[Lane] = field(default_factory=deque)
    _failed: list[tuple[float, int, Lane]] = field(default_factory=list)
    _unsettled: dict[str, Lane] = field(default_factory=dict)
    _tickets: int = 0

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.pace.breaker_s)

    def submit(self, change: CircuitCapacity, now: float) -> None:
        """A change came: it overtakes what is not sent yet of its circuit, unless it is older than what is known."""
        lane = self._lane(change.circuit_id)
        if lane.take(change):
            self._offer(lane, now)

    def learn(self, newest: Iterable[Sequence[CircuitCapacity]], now: float) -> None:
        """These were on the topic before this life, as in `Lane.learn`: the newest of each circuit is to be asserted."""
        for changes in newest:
            lane = self._lane(changes[-1].circuit_id)
            if lane.learn(changes):
                self._offer(lane, now)

    def release(self, now: float) -> None:
        """More of the topic is known than before: what turns out to be the newest may go."""
        for lane in list(self._unsettled.values()):
            self._offer(lane, now)

    def _lane(self, circuit_id: str) -> Lane:
        lane = self.lanes.get(circuit_id)
        if lane is None:
            lane = self.lanes[circuit_id] = Lane(circuit_id)
        return lane

    def _offer(self, lane: Lane, now: float) -> None:
        """Let a lane that owes something wait for its turn, as fresh."""
        if not lane.settled:
            if lane.seen.latest is None or not self.newest(lane.seen.latest):
                self._unsettled[lane.circuit_id] = lane
                return
            lane.settled = True
            self._unsettled.pop(lane.circuit_id, None)
        if lane.owes():
            self.owing.begin(lane, now)
            if not lane.under_way:
                self._wait_fresh(lane)

    def _wait_fresh(self, lane: Lane) -> None:
        if not lane.fresh:  # else it keeps its turn
            lane.fresh = True
            (self._behind if lane.failures else self._fresh).append(lane)
            lane.ticket = 0

    def _wait_failed(self, lane: Lane) -> None:
        if len(self._failed) > 2 * len(self.lanes) + 64:  # most are of lanes that were overtaken meanwhile
            self._keep_failed()
        heapq.heappush(self._failed, (lane.due, self._ticket(lane), lane))

    def _keep_failed(self) -> None:
        self._failed = [each for each in self._failed if each[2].ticket == each[1]]
        heapq.heapify(self._failed)

    def _ticket(self, lane: Lane) -> int:
        self._tickets += 1
        lane.ticket = self._tickets
        return self._tickets

    def next(self, now: float) -> Sent | None:
        """The attempt to make now, which thereby is under way; None if none may be made."""
        if self.busy >= self.pace.under_way or now < self.paused_until:
            return None
        lane = self._first(self._fresh)
        if lane is None and self._doubtful < max(1, self.pace.under_way // 2):
            lane = self._first(self._behind) or self._next_failed(now)
        if lane is None:
            return None
        assert lane.write is not None  # noqa: S101 - what waits owes something
        lane.under_way = True
        lane.attempts += 1
        self.busy += 1
        self._doubtful += lane.failures > 0
        within_s = HURRIED_S if self._fresh and not lane.failures else TOTAL_S
        return Sent(lane, lane.write, lane.own, lane.key(self.life), lane.attempts, within_s)

    def _first(self, waiting: deque[Lane]) -> Lane | None:
        if not waiting:
            return None
        lane = waiting.popleft()
        lane.fresh = False
        return lane

    def _next_failed(self, now: float) -> Lane | None:
        while self._failed and self._failed[0][1] != self._failed[0][2].ticket:
            heapq.heappop(self._failed)
        if not self._failed or self._failed[0][0] > now or not self.breaker.allows(now):
            return None
        lane = heapq.heappop(self._failed)[2]
        lane.probe = self.breaker.state is BreakerState.OPEN
        self.breaker.started()
        return lane

    def judge(self, sent: Sent, outcome: Outcome, now: float, retry_after_s: float | None = None) -> None:
        """What an attempt's outcome means. The lane stays closed until `free`, so that the outcome can be recorded first."""
        lane = sent.lane
        self.busy -= 1
        self._doubtful -= lane.failures > 0
        probe, lane.probe = lane.probe, False
        sent.superseded = lane.write is None or lane.write.change_id != sent.write.change_id
        match outcome:
            case Outcome.CUT_OFF:
                if probe:
                    self.breaker.abandoned(now)
            case Outcome.RETRY:
                self._missed(lane, now, probe=probe, retry_after_s=retry_after_s)
            case _:
                lane.failures, lane.why = 0, ""
                self.owing.end(lane)
                if self.breaker.succeeded():
                    self._wake(now)
                if not sent.superseded:
                    if outcome is Outcome.WRITTEN:
                        lane.done(own=sent.own)
                    else:
                        lane.drop()
                if lane.owes():
                    self.owing.begin(lane, now)

    def _missed(self, lane: Lane, now: float, *, probe: bool, retry_after_s: float | None) -> None:
        lane.failures += 1
        asked_s = retry_after_s or 0.0
        self.paused_until = max(self.paused_until, now + min(asked_s, PAUSE_MAX_S))
        lane.asked_until = now + min(asked_s, self.pace.backoff_max_s)
        lane.due = max(now + self._backoff(lane.failures), lane.asked_until)
        if probe or self.breaker.state is BreakerState.CLOSED:
            self.breaker.failed(now)

    def free(self, sent: Sent) -> None:
        """The outcome is recorded, and the circuit's next write may go: another one waits for its turn, the same for its back-off."""
        lane = sent.lane
        lane.under_way = False
        if not lane.owes():
            return
        if lane.attempts == 0 or not lane.failures:
            self._wait_fresh(lane)
        else:
            self._wait_failed(lane)

    def look_again(self, now: float) -> float | None:
        """When something may change by itself; None for never. What waits for others to end does not count."""
        tell_at = self.owing.next_at()
        found = [self.paused_until, *([] if tell_at is None else [tell_at])]
        if self._failed:
            found += [self._failed[0][0], self.breaker.opens_at]
        return min((instant for instant in found if instant > now), default=None)

    def _backoff(self, failures: int) -> float:
        return self.jitter(min(self.pace.backoff_s * 2.0 ** min(failures - 1, 30), self.pace.backoff_max_s))

    def _wake(self, now: float) -> None:
        """The platform answers again: what failed is due now, the oldest first, but for what it asked to come later."""
        self._failed = [(max(now, lane.asked_until), ticket, lane) for _, ticket, lane in self._failed if lane.ticket == ticket]
        heapq.heapify(self._failed)
