"""Payloads off a lane, by the slice: none lost, none doubled, each in its partition's order and with the clock at which it was
appended, and garbage looked for as before."""

import gc
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
import time_machine
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import fetching
from pipelines.fetching import fetch
from schemas.clock import FrozenClock, ScaledClock
from schemas.units import from_ms, to_ms
from tests.builders import T0

TOPIC = "derms.telemetry"
CLOCK = FrozenClock(T0)


def message(partition: int, offset: int, value: bytes | None, appended: int | None = None) -> Any:
    """With the broker's append time, or where there is none with a time its producer made up."""
    stamp = (TIMESTAMP_CREATE_TIME, offset % 7) if appended is None else (TIMESTAMP_LOG_APPEND_TIME, appended)
    return Message(topic=TOPIC, partition=partition, offset=offset, value=value, timestamp=stamp)


class FakeLane:
    """Hands out stretches of messages, at most as many as asked for; notes how long it may wait."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages, self.waits = messages, list[float]()

    def poll(self, most: int, wait_s: float) -> list[tuple[tuple[str, int], list[Any]]]:
        assert not gc.isenabled()
        self.waits.append(wait_s)
        now, self.messages = self.messages[:most], self.messages[most:]
        stretches: list[tuple[tuple[str, int], list[Any]]] = []
        for each in now:
            if not stretches or stretches[-1][0][1] != each.partition():
                stretches.append(((TOPIC, each.partition()), []))
            stretches[-1][1].append(each)
        return stretches


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.none() | st.binary(max_size=3)), max_size=40), st.integers(1, 50))
def test_what_comes_is_what_was_there(steps: list[tuple[int, int, bytes | None]], most: int) -> None:
    offsets, messages = [0, 2**40, 5], []
    for partition, gap, value in steps:
        offsets[partition] += gap if gap == 3 else 1  # mostly none is left out
        messages.append(message(partition, offsets[partition], value))
    lane, seen = FakeLane(messages), list[tuple[int, int, bytes]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "SLICE", 7)
        while lane.messages:
            found = fetch(lane, most, 0.0, CLOCK)  # type: ignore[arg-type]
            assert 0 < len(found.payloads) <= most
            assert found.payloads.size == sum(map(len, found.payloads))
            assert [(TOPIC, run.partition) for run in found.runs] == sorted(found.parts)
            for run in found.runs:
                assert len(run.offsets) == run.count
                share = found.payloads[run.first : run.first + run.count]
                seen += [(run.partition, offset, payload) for offset, payload in zip(run.offsets, share, strict=True)]
    for partition in range(3):
        expected = [(partition, each.offset(), each.value() or b"") for each in messages if each.partition() == partition]
        assert [one for one in seen if one[0] == partition] == expected


def test_offsets_are_a_range_where_none_is_left_out() -> None:
    whole = fetch(FakeLane([message(0, offset, b"x") for offset in range(3, 2503)]), 10_000, 0.0, CLOCK)  # type: ignore[arg-type]
    assert whole.runs[0].offsets == range(3, 2503)
    gap = fetch(FakeLane([message(0, offset, b"x") for offset in (1, 2, 4)]), 10_000, 0.0, CLOCK)  # type: ignore[arg-type]
    assert list(gap.runs[0].offsets) == [1, 2, 4]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 60), st.sampled_from([0, 1, 5, 400, 1000, 2500])), max_size=12),
    st.integers(0, 3),
    st.integers(1, 200),
    st.sampled_from([1, 240]),
)
def test_every_message_has_the_clock_at_which_it_was_appended(
    batches: list[tuple[int, int, int]], before: int, most: int, speed: int
) -> None:
    """Up to the next second of the clock; the first few batches came `before` the topic was set to the broker's times."""
    wall, begun, offsets, messages = to_ms(T0), T0 - timedelta(hours=1), [0, 0, 0], []
    clock, expected = ScaledClock(T0, begun, speed), dict[tuple[int, int], int | None]()
    grain = {1: 1000, 240: 4}[speed]
    for number, (partition, count, passed) in enumerate(batches):
        wall += passed
        for _ in range(count):
            messages.append(message(partition, offsets[partition], b"x", None if number < before else wall))
            up = -(-wall // grain) * grain
            expected[partition, offsets[partition]] = None if number < before else to_ms(T0) + speed * (up - to_ms(begun))
            offsets[partition] += 1
    lane, found = FakeLane(messages), dict[tuple[int, int], int]()
    with pytest.MonkeyPatch.context() as patched, time_machine.travel(begun + timedelta(hours=2), tick=False):
        patched.setattr(fetching, "SLICE", 90)
        while lane.messages:
            for run in fetch(lane, most, 0.0, clock).runs:  # type: ignore[arg-type]
                assert run.appended.first[0] == 0
                assert sorted({*run.appended.first}) == run.appended.first
                for first, after, at in zip(run.appended.first, [*run.appended.first[1:], run.count], run.appended.at, strict=True):
                    found |= {(run.partition, offset): at for offset in run.offsets[first:after]}
        now = to_ms(clock.now())
    assert found == {place: now if at is None else at for place, at in expected.items()}


@pytest.mark.parametrize(("every_ms", "at_most"), [(None, 2), (0, 2), (20, 20 * 12), (60_000, 1002)])
def test_of_messages_of_the_same_second_only_few_are_asked(every_ms: int | None, at_most: int) -> None:
    asked = list[int]()

    class Told:
        def __init__(self, of: Any) -> None:
            self.value, self.offset, self.partition, self._of = of.value, of.offset, of.partition, of

        def timestamp(self) -> Any:
            asked.append(self._of.offset())
            return self._of.timestamp()

    messages = [message(0, offset, b"x", None if every_ms is None else offset * every_ms) for offset in range(1000)]
    with patch.object(fetching, "_VALUE", lambda one: one.value()):
        (run,) = fetch(FakeLane([Told(one) for one in messages]), 10_000, 0.0, ScaledClock(T0, from_ms(0))).runs  # type: ignore[arg-type]
    assert len(asked) <= at_most
    assert len(run.appended.first) == len({-(-offset * (every_ms or 0) // 1000) for offset in range(1000)})


def test_it_waits_for_more_only_as_long_as_it_may_and_stops_when_nothing_more_comes() -> None:
    lane = FakeLane([message(0, offset, b"x") for offset in range(2500)])
    assert len(fetch(lane, 10_000, 5.0, CLOCK).payloads) == 2500  # type: ignore[arg-type]
    assert len(lane.waits) == 3
    assert all(4 < wait <= 5 for wait in lane.waits)
    empty = fetch(FakeLane([]), 10_000, 0.0, CLOCK)  # type: ignore[arg-type]
    assert (list(empty.payloads), empty.runs, empty.parts, empty.payloads.size) == ([], (), (), 0)


def test_garbage_is_looked_for_again_afterwards_whatever_happens() -> None:
    class Broken:
        def poll(self, most: int, wait_s: float) -> Any:
            raise ZeroDivisionError

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        fetch(Broken(), 10, 0.0, CLOCK)  # type: ignore[arg-type]
    assert gc.isenabled()
    gc.disable()
    try:
        fetch(FakeLane([]), 10, 0.0, CLOCK)  # type: ignore[arg-type]
        assert not gc.isenabled()
    finally:
        gc.enable()
