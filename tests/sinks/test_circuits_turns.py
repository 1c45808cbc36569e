"""Who waits for whom in the circuits' queue: circuits the platform chokes on, or asks to come later with, hold up no other for long."""

import heapq
from collections.abc import Iterable
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from sinks.circuit_owing import AGAIN_S, UNREACHABLE_S
from sinks.circuit_queue import HURRIED_S, PAUSE_MAX_S, TOTAL_S, CircuitQueue, Outcome, Sent
from sinks.oscp.pace import Pace
from tests.sinks.circuit_world import change

PLACES = 8
HOUR = 3600.0


class Platform:
    """A queue and a platform on which the circuits of `hanging` hang; the others answer at once. Time is simulated, in seconds."""

    def __init__(self, hanging: Iterable[str]) -> None:
        self.queue = CircuitQueue(Pace(under_way=PLACES), lambda bound: bound, "life", lambda since: True)
        self.hanging, self.now = frozenset(hanging), 0.0
        self.began: dict[str, float] = {}
        self._travelling: list[tuple[float, int, Sent]] = []
        self._number = 0

    def submit(self, names: Iterable[str], minute: float) -> None:
        for name in names:
            self.queue.submit(change(minute, circuit_id=name), self.now)

    def run(self, until: float) -> None:
        """Send what may go and let time pass; `began` then has when the last attempt of each circuit began."""
        while True:
            while (sent := self.queue.next(self.now)) is not None:
                self._begin(sent)
            instants = [each for each in (self.queue.look_again(self.now), self._travelling[0][0] if self._travelling else None) if each]
            if not instants or min(instants) > until:
                self.now = until
                return
            self.now = max(self.now, min(instants))
            while self._travelling and self._travelling[0][0] <= self.now:
                sent = heapq.heappop(self._travelling)[2]
                hangs = sent.lane.circuit_id in self.hanging
                self.queue.judge(sent, Outcome.RETRY if hangs else Outcome.WRITTEN, self.now)
                self.queue.free(sent)

    def _begin(self, sent: Sent) -> None:
        name = sent.lane.circuit_id
        self.began[name] = self.now
        self._number += 1
        heapq.heappush(self._travelling, (self.now + (sent.within_s if name in self.hanging else 0.0), self._number, sent))


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 30), st.integers(0, 40))
def test_a_healthy_circuit_waits_for_those_that_hang_the_first_time_only(hang: list[bool], hung_before: int, earlier_s: int) -> None:
    names = [f"c{number}" for number in range(len(hang))]
    hanging = {name for name, hangs in zip(names, hang, strict=True) if hangs}
    old = [f"old{number}" for number in range(hung_before)]
    platform = Platform(hanging | {*old})
    platform.submit(old, 1)
    platform.run(HOUR)  # they have hung at least once
    platform.submit(old, 2)
    platform.run(HOUR + earlier_s)  # and hang again just now
    start = platform.now
    platform.submit(names, 1)
    platform.run(start + HOUR)
    ahead = 0
    for name in names:
        ahead += name in hanging
        if name not in hanging:
            assert platform.began[name] - start <= TOTAL_S * ceil(ahead / PLACES)
    start = platform.now
    platform.submit([*old, *names], 3)
    platform.run(start + HOUR)
    assert all(platform.began[name] == start for name in names if name not in hanging), "one waited for those that hung before"
    assert all(platform.began[name] > start for name in hanging | {*old}), "those that hang are tried on"


def test_two_hundred_circuits_of_which_the_first_hundred_hang() -> None:
    names = [f"c{number}" for number in range(200)]
    platform = Platform(names[:100])
    platform.submit(names, 1)
    platform.run(HOUR)
    assert {platform.began[name] for name in names[100:]} == {HURRIED_S * (100 // PLACES)}


def test_attempts_take_less_time_while_others_wait_for_their_first() -> None:
    platform = Platform([])
    platform.submit("ab", 1)
    first, second = platform.queue.next(0.0), platform.queue.next(0.0)
    assert first is not None
    assert second is not None
    assert (first.within_s, second.within_s) == (HURRIED_S, TOTAL_S)
    platform.queue.judge(first, Outcome.RETRY, 5.0)
    platform.queue.free(first)
    platform.submit("a", 2)
    behind = platform.queue.next(5.0)
    assert behind is not None
    platform.submit("cdefgh", 1)
    assert (behind.lane.circuit_id, behind.within_s) == ("a", TOTAL_S)


def test_the_retry_after_of_one_circuit_holds_up_the_others_for_a_minute_at_most() -> None:
    queue = Platform([]).queue
    queue.submit(change(1), 0.0)
    sent = queue.next(0.0)
    assert sent is not None
    queue.judge(sent, Outcome.RETRY, 0.0, 7200.0)
    queue.free(sent)
    queue.submit(change(1, circuit_id="feeder-18"), 1.0)
    assert queue.next(PAUSE_MAX_S - 0.001) is None
    other = queue.next(PAUSE_MAX_S)
    assert other is not None
    assert other.lane.circuit_id == "feeder-18"
    queue.judge(other, Outcome.WRITTEN, PAUSE_MAX_S)
    queue.free(other)
    assert queue.next(299.0) is None, "its own Retry-After is obeyed, up to the longest back-off"
    again = queue.next(300.0)
    assert again is not None
    assert again.lane.circuit_id == "feeder-17"


def test_a_newer_change_of_a_circuit_that_was_asked_to_wait_goes_after_the_pause() -> None:
    queue = Platform([]).queue
    queue.submit(change(1), 0.0)
    sent = queue.next(0.0)
    assert sent is not None
    queue.judge(sent, Outcome.RETRY, 0.0, 7200.0)
    queue.free(sent)
    queue.submit(change(2), 30.0)
    assert queue.next(59.0) is None
    newer = queue.next(60.0)
    assert newer is not None
    assert newer.write.change_id == "feeder-17 2"


def test_a_platform_that_answers_again_wakes_nobody_whom_it_asked_to_wait() -> None:
    queue = Platform([]).queue
    for number in range(5):
        queue.submit(change(1, circuit_id=f"c{number}"), 0.0)
    for sent in [queue.next(0.0) for _ in range(5)]:
        assert sent is not None
        queue.judge(sent, Outcome.RETRY, 0.0, 200.0 if sent.lane.circuit_id == "c0" else None)
        queue.free(sent)
    probe = queue.next(100.0)
    assert probe is not None
    queue.judge(probe, Outcome.WRITTEN, 100.0)
    queue.free(probe)
    woken = {sent.lane.circuit_id for sent in iter(lambda: queue.next(100.0), None)}
    assert woken == {"c1", "c2", "c3", "c4"} - {probe.lane.circuit_id}


def test_unreachable_counts_from_when_a_write_is_owed_whether_it_was_tried_or_not() -> None:
    queue = Platform([]).queue
    for number in range(PLACES + 2):
        queue.submit(change(1, circuit_id=f"c{number}"), float(number))
    travelling = list(iter(lambda: queue.next(9.0), None))
    assert len(travelling) == PLACES
    queue.submit(change(2, circuit_id="c9"), 50.0)  # overtakes what was not sent; nothing has got through all the same
    assert [lane.circuit_id for lane in queue.owing.overdue(UNREACHABLE_S - 0.1)] == []
    assert queue.look_again(50.0) == UNREACHABLE_S
    assert [lane.circuit_id for lane in queue.owing.overdue(UNREACHABLE_S + 9.0)] == [f"c{number}" for number in range(10)]
    assert [lane.circuit_id for lane in queue.owing.overdue(UNREACHABLE_S + 20.0)] == []
    queue.judge(travelling[0], Outcome.WRITTEN, 80.0)
    queue.free(travelling[0])
    assert [lane.circuit_id for lane in queue.owing.overdue(AGAIN_S + 80.0)] == [f"c{number}" for number in range(1, 10)]
    queue.submit(change(2, circuit_id="c0"), AGAIN_S + 90.0)
    assert [lane.circuit_id for lane in queue.owing.overdue(AGAIN_S + 90.0 + UNREACHABLE_S)] == ["c0"]
