"""The queue of one partner: which message goes next, and what follows from what became of it (semantics 8.2 to 8.6).

Pure: no I/O, no clock, chance passed in. Order is kept within a group and action (a lane); lanes wait for
nobody but a breaker, a hold or a Retry-After, which are the partner's as a whole. Heartbeats are under none
of these. A turn costs the same however many lanes there are, but for a rare one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from schemas.oscp.v20 import Action
from schemas.outbound import Outcome
from sinks.oscp.answers import Judgement
from sinks.oscp.breaker import Breaker, BreakerState
from sinks.oscp.coming import Coming
from sinks.oscp.lanes import Lanes
from sinks.oscp.pace import Pace
from sinks.oscp.waiting import OVERTAKING, Notice, Now, Settled, Waiting

PARK_AFTER = 10


@dataclass(slots=True)
class Hold:
    """The partner does not take our credentials, or something else that only a person can mend is wrong."""

    words: str
    probe_at: float


@dataclass(slots=True)
class PartnerQueue:
    """What one partner is owed. `jitter(bound)` gives a random part of `bound` seconds.

    `only` names the actions that may go at all; None for every one.
    """

    pace: Pace
    jitter: Callable[[float], float]
    lanes: Lanes = field(default_factory=Lanes)
    parked: dict[str, Waiting] = field(default_factory=dict)
    hold: Hold | None = None
    only: frozenset[str] | None = None
    paused_until: float = 0.0
    rate_at: float = 0.0
    busy: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    breaker: Breaker = field(init=False)
    _expiring: Coming[Waiting] = field(init=False)
    _parkings: int = 0

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.pace.breaker_s)
        self._expiring = Coming(lambda message, _: self.parked.get(message.message_id) is message)

    def add(self, message: Waiting, *, parked: bool = False) -> None:
        """Take in a message behind those that came before it."""
        if parked:
            self._park(message)
        else:
            self.lanes.add(message)

    def __len__(self) -> int:
        return len(self.parked) + len(self.lanes)

    def next(self, now: Now) -> Waiting | None:
        """The message to send now, which thereby is under way; None if none may go."""
        self.lanes.come_up(now, self.pace.period_ms)
        due = (head for head in self.lanes.overtaking() if head.not_before_ms <= now.clock_ms and head.due <= now.wall)
        heads = [head for head in (*due, *self._others(now)) if self._may_go(head, now)]
        if not heads:
            return None
        # A probe is what failed least: one message the partner chokes on must not keep the breaker open for all.
        probing = self.breaker.state is not BreakerState.CLOSED
        message = min(heads, key=lambda head: (not head.beat, head.failures if probing else 0, *head.rank))
        self.lanes.begin(message)
        message.attempts += 1
        if not message.beat:
            self.busy += 1
            self.breaker.started()
            if self._backlog(message, now):
                self.rate_at = now.wall + 1.0 / self.pace.max_rate
        return message

    def settle(self, message: Waiting, judgement: Judgement, now: Now) -> Settled:
        """What an attempt's outcome means. The lane stays closed until `free`, so that the outcome can be recorded first."""
        notices: list[Notice] = []
        outcome, words = judgement.outcome, judgement.words
        match outcome:
            case Outcome.REFUSED if judgement.status is None:
                self._unsent(message, now)
            case Outcome.DELIVERED | Outcome.REFUSED:
                notices += self._answered(message, outcome, now)
            case Outcome.HELD:
                notices += self._not_let_in(message, judgement, now)
            case _:
                notices += self._failed(message, judgement, now)
                if self._hopeless(message):
                    outcome, words = Outcome.PARKED, f"failed {message.failures} times while others were delivered: {words}"
                    notices.append(Notice("message.parked", f"{message.action} {message.message_id} was set aside: {words}", alarm=True))
        if outcome in (Outcome.RETRY, Outcome.HELD, Outcome.PARKED) and message.dropped_by is not None:
            outcome, words = Outcome.DROPPED, f"dropped by {message.dropped_by}"
        return Settled(outcome, words, tuple(notices))

    def free(self, message: Waiting, outcome: Outcome) -> None:
        """The outcome is recorded: what is owed still goes back to its place, and its lane goes on."""
        self.busy -= 0 if message.beat else 1
        self.lanes.end(message, again=outcome in (Outcome.RETRY, Outcome.HELD))
        if outcome is Outcome.PARKED:
            self._park(message)

    def expire(self, now: Now) -> list[Waiting]:
        """Take out what nobody wants any more: parked messages, and those whose turn would be next."""
        expired = [self.parked.pop(message.message_id) for message in self._expiring.until(now.clock_ms)]
        return expired + self.lanes.expire(now.clock_ms)

    def retry(self, message_id: str) -> bool:
        """An operator wants the message to go now; whether it is waiting, parked or under way."""
        message = self.find(message_id)
        if message is None:
            return False
        if self.parked.pop(message_id, None) is not None:
            message.failures = 0
            self.lanes.put_back(message)
        self.lanes.hasten(message)
        return True

    def drop(self, message_id: str, by: str) -> tuple[bool, Waiting | None]:
        """An operator gives the message up. Whether it is known here, and the message where it can go at once.

        One that is under way is dropped when it comes back undelivered.
        """
        message = self.find(message_id)
        if message is None:
            return False, None
        if self.parked.pop(message_id, None) is None and not self.lanes.remove(message):
            message.dropped_by = by
            return True, None
        return True, message

    def find(self, message_id: str) -> Waiting | None:
        """The message of that id, if it waits, is parked or is under way here."""
        return self.parked.get(message_id) or self.lanes.find(message_id)

    def release(self) -> None:
        """The connection or configuration changed: whatever held the queue may be mended, so try one message at once."""
        if self.hold is not None:
            self.hold.probe_at = 0.0
        self.paused_until = 0.0
        self.lanes.hasten_all()

    def look_again(self, now: Now) -> tuple[float | None, int | None]:
        """When something may change by itself: by the wall, and by the clock (not-before; expiry, also a past one). None for never."""
        self.lanes.come_up(now, self.pace.period_ms)
        due, turns = self.lanes.look_again()
        parked = self._expiring.first()
        walls = (self.paused_until, self.rate_at, self.breaker.opens_at, self.hold.probe_at if self.hold else 0.0, due or 0.0)
        clocks = [clock for clock in (turns, parked.expires_ms if parked else None) if clock is not None]
        return min((wall for wall in walls if wall > now.wall), default=None), min(clocks, default=None)

    def _others(self, now: Now) -> Iterable[Waiting]:
        """Heads that are due and do not overtake: as few as the next one surely is among, or all, where what goes is not the oldest."""
        if self._held(now) or not self._lets_through(now) or (self.only is not None and self.only <= OVERTAKING):
            return ()
        first = self.lanes.first()
        surely = self.breaker.state is BreakerState.CLOSED or not any(head.failures for head in first)
        return first if surely and self.only is None else self.lanes.ready()

    def _lets_through(self, now: Now) -> bool:
        """Whether the partner may be sent anything but heartbeats."""
        return self.busy < self.pace.under_way and self.paused_until <= now.wall and self.breaker.allows(now.wall)

    def _held(self, now: Now) -> bool:
        return self.hold is not None and (self.busy > 0 or now.wall < self.hold.probe_at)

    def _may_go(self, head: Waiting, now: Now) -> bool:
        if self.only is not None and head.action not in self.only:
            return False
        if head.beat:
            return True
        mends = head.action == Action.REGISTER and head.attempts == 0  # the partner may refuse all else until it has this
        if not self._lets_through(now) or (self._held(now) and not mends):
            return False
        return not self._backlog(head, now) or self.rate_at <= now.wall

    def _answered(self, message: Waiting, outcome: Outcome, now: Now) -> Iterator[Notice]:
        if outcome is Outcome.DELIVERED:
            self.delivered[message.action] = self.delivered.get(message.action, 0) + 1
        if message.beat:
            return
        if self.hold is not None:
            yield Notice("dispatch.resumed", f"the partner takes messages again; {len(self)} wait")
            self.hold = None
            self.lanes.hasten_all()
        if self.breaker.succeeded():
            yield Notice("dispatch.breaker-closed", f"the partner answers again; {len(self)} messages wait")
            self.lanes.hasten_all()

    def _unsent(self, message: Waiting, now: Now) -> None:
        """It cannot be sent at all, which says nothing about the partner."""
        if not message.beat:
            self.breaker.abandoned(now.wall)

    def _not_let_in(self, message: Waiting, judgement: Judgement, now: Now) -> Iterator[Notice]:
        if message.beat:
            message.failures += 1
            message.due = now.wall + self._backoff(message.failures)
            return
        if judgement.status is None:
            self.breaker.abandoned(now.wall)
        else:
            self.breaker.succeeded()  # it is there, and says no
        if self.hold is None:
            words = f"nothing is sent until this is mended (tried again every {self.pace.probe_s:g} s): {judgement.words}"
            yield Notice("dispatch.held", words, alarm=True)
        self.hold = Hold(judgement.words, now.wall + self.pace.probe_s)

    def _failed(self, message: Waiting, judgement: Judgement, now: Now) -> Iterator[Notice]:
        if message.failures == 0:
            message.others_delivered = self.delivered.get(message.action, 0)
        message.failures += 1
        wait = max(self._backoff(message.failures), judgement.retry_after_s or 0.0)
        message.due = now.wall + wait
        if message.beat:
            return
        if judgement.retry_after_s is not None:
            self.paused_until = max(self.paused_until, now.wall + judgement.retry_after_s)
        if self.hold is not None:
            self.hold.probe_at = message.due
        if self.breaker.failed(now.wall):
            words = f"{self.breaker.failures} failures in a row, the partner is left alone for a while: {judgement.words}"
            yield Notice("dispatch.breaker-opened", words)

    def _hopeless(self, message: Waiting) -> bool:
        progress = self.delivered.get(message.action, 0) - message.others_delivered
        return message.failures >= PARK_AFTER and progress > 0 and not message.beat

    def _backoff(self, failures: int) -> float:
        return self.jitter(min(self.pace.backoff_s * 2.0 ** min(failures - 1, 30), self.pace.backoff_max_s))

    def _backlog(self, message: Waiting, now: Now) -> bool:
        return now.clock_ms - message.at_ms > self.pace.period_ms

    def _park(self, message: Waiting) -> None:
        self._parkings += 1
        self.parked[message.message_id] = message
        self._expiring.push(message.expires_ms, message.offset, self._parkings, message)
