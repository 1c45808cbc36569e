"""A partner's queue makes the same choices as one that looks at all its lanes each time, whatever happens, and wakes as early."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from schemas.outbound import Outcome
from sinks.oscp.pace import Pace
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.standing import standing_of
from sinks.oscp.waiting import Now, Waiting
from tests.sinks.plain_queue import PlainLanes, PlainQueue
from tests.sinks.queue_parts import HOUR_MS, MEASUREMENTS, judged, message, now

PACE = Pace(breaker_s=4.0, probe_s=8.0, max_rate=2.0, under_way=3, backoff_max_s=16.0)
NOON = datetime(2026, 10, 20, 12, tzinfo=UTC)
STEPS = 40
ANSWERS: dict[str, list[tuple[Outcome, int | None]]] = {
    "takes all": [(Outcome.DELIVERED, 204)],
    "is dead": [(Outcome.RETRY, None)],
    "chokes on some": [(Outcome.DELIVERED, 204), (Outcome.RETRY, 503)],
    "lets nobody in": [(Outcome.HELD, 401), (Outcome.HELD, 401), (Outcome.HELD, None)],
    "anything": [(Outcome.DELIVERED, 204), (Outcome.RETRY, 503), (Outcome.HELD, 401), (Outcome.REFUSED, 400), (Outcome.REFUSED, None)],
}
"""What a partner may be like for a while."""
ONLY = [None, None, None, None, None, frozenset[str](), frozenset({"Register"}), frozenset({"Register", MEASUREMENTS})]
LATER_MS = [0, 0, 0, 0, 1000, 5000, 60_000]


class Beside:
    """The queue (first) and the plain one, to which the same happens."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.numbers, self.at = chance, count(), now(10.0)
        self.queue = PartnerQueue(PACE, lambda bound: bound)
        self.plain = PlainQueue(PACE, lambda bound: bound, lanes=PlainLanes())  # type: ignore[arg-type]
        self.under_way: list[tuple[Waiting, Waiting]] = []
        self.settled: list[tuple[Waiting, Waiting, Outcome]] = []
        self.ids: list[str] = []
        self.seen: set[str] = set()

    def both(self, act: Callable[[PartnerQueue], Any]) -> Any:
        """What it gives from both, which must be the same."""
        found, expected = act(self.queue), act(self.plain)
        assert found == expected
        return found, expected

    def take_in(self, *, parked: bool = False, partition: int = 0, **what: Any) -> None:
        made = replace(message(next(self.numbers), **what), partition=partition)
        self.ids.append(made.message_id)
        self.queue.add(made, parked=parked)
        self.plain.add(replace(made), parked=parked)

    def add(self) -> None:
        pick, clock = self.chance.choice, self.at.clock_ms
        self.take_in(
            group=f"g{pick(range(8))}", action=pick([MEASUREMENTS, MEASUREMENTS, MEASUREMENTS, "GroupCapacityComplianceError"]),
            at_ms=clock - pick([0, 1, 5000, 899_000, 900_000, HOUR_MS]), not_before_ms=clock + pick(LATER_MS),
            expires_ms=clock + pick([1, 3000, 30_000, HOUR_MS, 100 * HOUR_MS, 100 * HOUR_MS]), parked=pick(range(12)) == 0,
            partition=pick([0, 0, 1]),
        )  # fmt: skip

    def add_overtaking(self) -> None:
        pick, clock = self.chance.choice, self.at.clock_ms
        self.take_in(
            group=None, action=pick(["Heartbeat", "Register", "HandshakeAcknowledge"]), at_ms=clock - pick([0, HOUR_MS]),
            not_before_ms=clock + pick(LATER_MS), expires_ms=clock + pick([1000, 20_000, HOUR_MS]),
        )  # fmt: skip

    def choose(self) -> None:
        for _ in range(self.chance.randint(1, 4)):
            breaker, tried = self.queue.breaker.state, {each.failures > 0 for each in self.queue.lanes.heads()}
            chosen = self.both(lambda each: each.next(self.at))
            if chosen[0] is None:
                break
            self.under_way.append(chosen)
            self.seen |= {
                f"goes: breaker {breaker}{', some failed' if tried == {True, False} else ''}",
                f"goes: held {self.queue.hold is not None}",
                f"goes: only some {self.queue.only is not None}",
                f"goes: at a rate {self.queue.rate_at > self.at.wall}",
            }

    def settle(self, mood: str) -> None:
        if not self.under_way:
            return
        ours, theirs = self.under_way.pop(self.chance.randrange(len(self.under_way)))
        outcome, status = self.chance.choice(ANSWERS[mood])
        judgement = judged(outcome, status=status, retry_after_s=3.0 if outcome is Outcome.RETRY and self.chance.random() < 0.1 else None)
        found = self.queue.settle(ours, judgement, self.at)
        assert found == self.plain.settle(theirs, judgement, self.at)
        self.settled.append((ours, theirs, found.outcome))
        self.seen.add(f"became: {found.outcome}")

    def free(self) -> None:
        if self.settled:
            ours, theirs, outcome = self.settled.pop(self.chance.randrange(len(self.settled)))
            self.queue.free(ours, outcome)
            self.plain.free(theirs, outcome)

    def expire(self) -> None:
        parked = set(self.queue.parked)
        found, expected = self.queue.expire(self.at), self.plain.expire(self.at)
        assert sorted(found, key=lambda each: each.offset) == sorted(expected, key=lambda each: each.offset)
        for lane in {(each.group_id, each.action) for each in found}:
            ours, theirs = (
                [each for each in some if (each.group_id, each.action) == lane and each.message_id not in parked]
                for some in (found, expected)
            )
            assert ours == theirs
        self.both(lambda each: each.look_again(self.at))
        self.seen |= {"expires"} if found else set()

    def command(self) -> None:
        message_id = self.chance.choice([*self.ids[-12:], *self.queue.parked, "unknown"])
        self.seen |= {"retry of a parked one"} if message_id in self.queue.parked else set()
        act = self.chance.choice(["retry", "retry", "drop"])
        self.both(lambda each: each.retry(message_id) if act == "retry" else each.drop(message_id, "ana"))

    def change(self) -> None:
        match self.chance.randrange(3):
            case 0:
                self.queue.only = self.plain.only = self.chance.choice(ONLY)
            case 1:
                under_way, max_rate, period_ms = (
                    self.chance.randint(1, 4),
                    self.chance.choice([0.5, 2.0, 20.0]),
                    self.chance.choice([900_000, 4000]),
                )
                self.queue.pace = self.plain.pace = replace(PACE, under_way=under_way, max_rate=max_rate, period_ms=period_ms)
            case _:
                self.queue.release()
                self.plain.release()

    def a_clock_goes_back(self) -> None:
        self.at = Now(max(0.0, self.at.wall - self.chance.choice([0.0, 3.0, 9.0])), self.at.clock_ms - self.chance.choice([0, 700, 60_000]))

    def time_goes_on(self) -> None:
        wall, clock_ms = self.chance.choice([0.05, 0.5, 1.0, 5.0]), self.chance.choice([0, 1, 500, 5000, 60_000])
        due, _ = self.queue.look_again(self.at)
        if due is not None and self.chance.random() < 0.5:
            wall = due - self.at.wall
        self.at = Now(self.at.wall + wall, self.at.clock_ms + clock_ms)

    def look(self) -> None:
        """Both stand alike, and the queue never wakes later."""
        self.both(lambda each: standing_of("vector", each, self.at, NOON))
        self.both(lambda each: sorted(head.offset for head in each.lanes.heads()))
        for ours, plain in zip(self.queue.look_again(self.at), self.plain.look_again(self.at), strict=True):
            assert plain is None or (ours is not None and ours <= plain)

    def step(self, mood: str) -> None:
        acts: list[tuple[int, Callable[[], None]]] = [
            (5, self.add), (1, self.add_overtaking), (8, self.choose), (8, lambda: self.settle(mood)), (8, self.free), (2, self.expire),
            (1, self.command), (1, self.change), (1, self.a_clock_goes_back), (5, self.time_goes_on),
        ]  # fmt: skip
        self.chance.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()


@given(st.integers(0, 2**32), st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_it_does_the_same_as_one_that_looks_at_all_lanes(seed: int, moods: list[str]) -> None:
    beside = Beside(random.Random(seed))
    for mood in moods:
        for _ in range(STEPS):
            beside.step(mood)
            if beside.chance.random() < 0.5:  # else it goes by what it saw a while ago
                beside.look()
    for seen in sorted(beside.seen):
        event(seen)
