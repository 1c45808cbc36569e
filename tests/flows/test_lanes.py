"""The barrier's gate and the silence of partitions against a lane that is no broker: order and time, to the step."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from pipelines import barrier, silence
from pipelines.barrier import Gate
from pipelines.lanes import Lane
from pipelines.silence import Silence
from schemas.clock import FrozenClock
from schemas.topics import EVENTS
from sinks.errors import Misconfigured
from sinks.settings import KafkaSettings
from tests.builders import T0

Part = tuple[str, int]
FIRST, ROWS = "derms.envelopes", "derms.quarter-hours"


class FakeLane:
    """Partitions as lists; `ends` says how long they are, or None while `deaf`."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts
        self.log: dict[Part, int] = dict.fromkeys(parts, 0)
        self.read: dict[Part, int] = dict.fromkeys(parts, 0)
        self.done: dict[Part, int] = dict.fromkeys(parts, 0)
        self.fetched: tuple[Part, ...] = parts
        self.deaf = False

    def append(self, part: Part, count: int = 1) -> None:
        self.log[part] += count

    def take(self, part: Part, count: int) -> list[tuple[Part, list[Any]]]:
        """As `poll`, of one partition."""
        if part not in self.fetched:
            return []
        until = min(self.log[part], self.read[part] + count)
        found = list(range(self.read[part], until))
        self.read[part] = until
        return [(part, found)] if found else []

    def fetch(self, parts: Iterable[Part]) -> None:
        self.fetched = tuple(parts)

    def ends(self, parts: Iterable[Part]) -> dict[Part, int] | None:
        return None if self.deaf else {part: self.log[part] for part in parts}

    def emitted(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self.done[part] = self.read[part]


def opened_gate(lane: FakeLane) -> Gate:
    gate = Gate(lane, [FIRST])  # type: ignore[arg-type]
    gate.open()
    return gate


def test_a_record_waits_for_what_was_appended_before_it():
    lane = FakeLane((FIRST, 0), (ROWS, 0))
    gate = opened_gate(lane)
    assert gate.admit([]) == []
    assert not gate.waiting
    lane.append((FIRST, 0), 2)
    lane.append((ROWS, 0))
    assert gate.admit(lane.take((ROWS, 0), 10)) == []
    assert gate.waiting
    assert lane.done[ROWS, 0] == 0  # a restart now would read it again
    assert gate.admit(lane.take((FIRST, 0), 1)) == [((FIRST, 0), [0])]
    assert gate.admit(lane.take((FIRST, 0), 1)) == [((FIRST, 0), [1]), ((ROWS, 0), [0])]
    assert lane.done == {(FIRST, 0): 2, (ROWS, 0): 1}
    assert not gate.waiting


def test_a_replay_reads_the_barrier_topics_first():
    lane = FakeLane((FIRST, 0), (ROWS, 0))
    lane.append((FIRST, 0), 3)
    lane.append((ROWS, 0), 3)
    gate = opened_gate(lane)
    assert lane.fetched == ((FIRST, 0),)
    assert gate.admit(lane.take((FIRST, 0), 2)) == [((FIRST, 0), [0, 1])]
    assert gate.admit(lane.take((FIRST, 0), 2)) == [((FIRST, 0), [2])]
    assert lane.fetched == lane.parts
    assert gate.admit(lane.take((ROWS, 0), 9)) == [((ROWS, 0), [0, 1, 2])]


def test_without_an_answer_nothing_passes_and_nothing_is_lost():
    lane = FakeLane((FIRST, 0), (ROWS, 0))
    gate = opened_gate(lane)
    gate.admit([])
    lane.append((ROWS, 0))
    lane.deaf = True
    assert gate.admit(lane.take((ROWS, 0), 1)) == []
    assert gate.admit([]) == []
    lane.deaf = False
    assert gate.admit([]) == [((ROWS, 0), [0])]


def test_with_much_waiting_only_the_barrier_topics_are_fetched(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(barrier, "HELD_AT_MOST", 5)
    lane = FakeLane((FIRST, 0), (ROWS, 0))
    gate = opened_gate(lane)
    gate.admit([])
    lane.append((FIRST, 0))
    lane.append((ROWS, 0), 9)
    assert gate.admit(lane.take((ROWS, 0), 9)) == []
    assert lane.fetched == ((FIRST, 0),)
    assert gate.admit(lane.take((FIRST, 0), 1)) == [((FIRST, 0), [0]), ((ROWS, 0), list(range(9)))]
    assert lane.fetched == lane.parts


steps = st.lists(st.tuples(st.sampled_from(["append", "take"]), st.sampled_from([FIRST, ROWS]), st.integers(1, 4)), max_size=60)


@given(steps)
def test_whatever_the_interleaving_no_record_overtakes_and_none_is_lost_or_doubled(story: list[tuple[str, str, int]]):
    lane = FakeLane((FIRST, 0), (ROWS, 0))
    gate = opened_gate(lane)
    ahead: list[int] = []  # for each row: how many barrier records had been appended before it
    seen: dict[str, list[int]] = {FIRST: [], ROWS: []}

    def emit(stretches: list[tuple[Part, list[int]]]) -> None:
        for (topic, _), found in stretches:
            for offset in found:
                if topic == ROWS:
                    assert len(seen[FIRST]) >= ahead[offset]
                seen[topic].append(offset)
            assert lane.done[FIRST, 0] >= len(seen[FIRST])
        assert lane.done[ROWS, 0] == len(seen[ROWS])

    for what, topic, count in story:
        if what == "append":
            if topic == ROWS:
                ahead += [lane.log[FIRST, 0]] * count
            lane.append((topic, 0), count)
        else:
            emit(gate.admit(lane.take((topic, 0), count)))
    for _ in range(500):
        emit(gate.admit(lane.take((FIRST, 0), 3)))
        emit(gate.admit(lane.take((ROWS, 0), 3)))
    assert seen == {FIRST: list(range(lane.log[FIRST, 0])), ROWS: list(range(lane.log[ROWS, 0]))}


class Wall:
    """The wall's monotonic seconds, moved by hand together with the clock."""

    def __init__(self, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.now = clock, 100.0
        monkeypatch.setattr(silence, "wall_seconds", lambda: self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.clock.advance(timedelta(seconds=seconds * self.clock.speed))


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(T0)


@pytest.fixture
def wall(clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(clock, monkeypatch)


def silence_of(lane: FakeLane, clock: FrozenClock) -> Silence:
    return Silence(lane, clock)  # type: ignore[arg-type]


A, B = ("derms.telemetry", 0), ("derms.telemetry", 1)


def test_the_broker_is_asked_once_a_second(clock: FrozenClock, wall: Wall):
    found = silence_of(FakeLane(A), clock)
    assert len(found.marks()) == 1
    wall.advance(0.9)
    assert found.marks() == ()
    wall.advance(0.2)
    assert len(found.marks()) == 1


def test_silence_counts_from_the_first_confirmation_after_the_last_payload(clock: FrozenClock, wall: Wall):
    lane = FakeLane(A, B)
    found = silence_of(lane, clock)
    found.marks()
    wall.advance(3)
    lane.append(A)
    lane.take(A, 1)
    found.spoke([A])
    assert [(mark.partition, mark.since) for mark in found.marks()] == [(1, T0)]  # 0 has just spoken
    wall.advance(1)
    confirmed = clock.now()
    assert {mark.partition: mark.since for mark in found.marks()} == {0: confirmed, 1: T0}
    wall.advance(2)
    marks = {mark.partition: mark for mark in found.marks()}
    assert marks[0].since == confirmed
    assert marks[0].now == clock.now()


def test_a_partition_with_something_unread_is_not_silent(clock: FrozenClock, wall: Wall):
    lane = FakeLane(A, B)
    lane.append(A)
    assert [mark.partition for mark in silence_of(lane, clock).marks()] == [1]


def test_time_stands_still_while_the_broker_does_not_answer(clock: FrozenClock, wall: Wall):
    lane = FakeLane(A)
    found = silence_of(lane, clock)
    found.marks()
    wall.advance(2)
    (before,) = found.marks()
    lane.deaf = True
    for _ in range(12):
        wall.advance(1)
        assert found.marks() == ()
    lane.deaf = False
    wall.advance(1)
    (after,) = found.marks()
    assert after.now - after.since == before.now - before.since  # it never jumps
    wall.advance(1)
    (later,) = found.marks()
    assert later.now - later.since == before.now - before.since + timedelta(seconds=1)


def test_time_nobody_asked_in_does_not_count_either(clock: FrozenClock, wall: Wall):
    found = silence_of(FakeLane(A), clock)
    (before,) = found.marks()
    wall.advance(60)  # the worker was held up
    (after,) = found.marks()
    assert after.now - after.since == before.now - before.since


def test_a_fast_clock_counts_its_own_time(monkeypatch: pytest.MonkeyPatch):
    clock = FrozenClock(T0, speed=240)
    wall = Wall(clock, monkeypatch)
    found = silence_of(FakeLane(A), clock)
    found.marks()
    wall.advance(2)
    (mark,) = found.marks()
    assert mark.now - mark.since == timedelta(minutes=8)


COMMANDED, CAME, BECAME = "derms.commands", "derms.inbound", "derms.deliveries"


def replaying_gate(lane: FakeLane, instants: dict[Part, list[int]]) -> Gate:
    """A gate whose records are (partition, offset), to be replayed by their instants."""
    lane.take_whole = lane.take  # type: ignore[attr-defined]

    def take(part: Part, count: int) -> list[tuple[Part, list[Any]]]:
        return [(part, [(part, offset) for offset in found]) for part, found in lane.take_whole(part, count)]  # type: ignore[attr-defined]

    lane.take = take  # type: ignore[method-assign]
    gate = Gate(lane, [FIRST], (FIRST, COMMANDED, CAME, BECAME), lambda message: instants[message[0]][message[1]])  # type: ignore[arg-type]
    gate.open()
    return gate


def test_what_is_there_at_a_start_comes_in_the_order_it_was_appended_in() -> None:
    lane = FakeLane((FIRST, 0), (BECAME, 0), (CAME, 0), (CAME, 1), (COMMANDED, 0))
    instants = {(BECAME, 0): [30, 50], (CAME, 0): [10, 40], (CAME, 1): [20], (COMMANDED, 0): [5, 40, 60]}
    for part, found in instants.items():
        lane.append(part, len(found))
    gate = replaying_gate(lane, instants)
    assert gate.admit([]) == []
    assert lane.fetched == lane.parts
    for part in ((BECAME, 0), (CAME, 0), (CAME, 1)):
        assert gate.admit(lane.take(part, 9)) == []
        assert lane.done[part] == 0
    replayed = [message for _, found in gate.admit(lane.take((COMMANDED, 0), 9)) for message in found]
    expected = [(COMMANDED, 5), (CAME, 10), (CAME, 20), (BECAME, 30), (COMMANDED, 40), (CAME, 40), (BECAME, 50), (COMMANDED, 60)]
    assert [(part[0], instants[part][offset]) for part, offset in replayed] == expected
    assert lane.done == lane.log
    # From then on records come as they are polled.
    assert not gate.waiting
    lane.append((BECAME, 0))
    assert gate.admit(lane.take((BECAME, 0), 9)) == [((BECAME, 0), [((BECAME, 0), 2)])]


def test_a_clock_that_was_put_back_does_not_change_the_order_within_a_partition() -> None:
    lane = FakeLane((FIRST, 0), (BECAME, 0), (CAME, 0))
    instants = {(BECAME, 0): [25], (CAME, 0): [30, 10, 20]}
    for part, found in instants.items():
        lane.append(part, len(found))
    gate = replaying_gate(lane, instants)
    gate.admit([])
    assert gate.admit(lane.take((CAME, 0), 9)) == []
    replayed = [message for _, found in gate.admit(lane.take((BECAME, 0), 9)) for message in found]
    assert replayed == [((BECAME, 0), 0), ((CAME, 0), 0), ((CAME, 0), 1), ((CAME, 0), 2)]


@pytest.mark.parametrize(("most", "within_s"), [(3, 60.0), (100, -1.0)], ids=["too much", "too long"])
def test_a_replay_in_order_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch, most: int, within_s: float) -> None:
    monkeypatch.setattr(barrier, "HELD_AT_MOST", most)
    monkeypatch.setattr(barrier, "REPLAY_WITHIN_S", within_s)
    lane = FakeLane((FIRST, 0), (BECAME, 0), (CAME, 0))
    instants = {(BECAME, 0): [1] * 9, (CAME, 0): [2] * 9}
    for part, found in instants.items():
        lane.append(part, len(found))
    gate = replaying_gate(lane, instants)
    gate.admit([])
    assert [len(found) for _, found in gate.admit(lane.take((CAME, 0), 4))] == [4]
    assert [len(found) for _, found in gate.admit(lane.take((BECAME, 0), 9))] == [9]


class At:
    """A message of which only the offset counts."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def offset(self) -> int:
        return self._offset


@pytest.mark.parametrize(
    ("read", "came", "left", "next_"),
    [
        (5, [5, 6, 7], [5, 6, 7], 8),
        (5, [7, 9, 10], [7, 9, 10], 11),  # compacted, or a transaction's marks: nothing is lost
        (5, [0, 1, 2], [], 5),
        (5, [3, 4, 5, 6], [5, 6], 7),
        (5, [5, 6, 5, 6, 7], [5, 6, 7], 8),
        (5, [5, 6, 0, 1], [5, 6], 7),
    ],
)
def test_only_what_was_not_polled_before_leaves_a_lane(read: int, came: list[int], left: list[int], next_: int) -> None:
    lane = Lane(KafkaSettings(bootstrap="127.0.0.1:1"), [EVENTS], "derms-test")
    try:
        part = (EVENTS.name, 0)
        lane.read = {part: read}
        assert [each.offset() for each in lane._unread((part, [At(offset) for offset in came]))[1]] == left
        assert lane.read == {part: next_}
    finally:
        lane.close()


def test_a_lane_that_begins_where_retention_just_was_goes_on_at_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(KafkaSettings(bootstrap="127.0.0.1:1"), [EVENTS], "derms-test")
    try:
        begins, resumed = (EVENTS.name, 0), (EVENTS.name, 1)
        lane.read, lane.done, lane._begins = {begins: 3, resumed: 3}, {begins: 3, resumed: 3}, {begins}
        monkeypatch.setattr(lane, "bounds", lambda part: (8, 20))
        lane._out_of_range(begins, KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
        assert (lane.read[begins], lane.done[begins]) == (8, 8)
        with pytest.raises(Misconfigured, match="stands at offset 3"):
            lane._out_of_range(resumed, KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
    finally:
        lane.close()
