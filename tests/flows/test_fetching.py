"""Payloads off a lane, by the slice: none lost, none doubled, each in its partition's order, and garbage looked for as before."""

import gc
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from pipelines import fetching
from pipelines.fetching import fetch

TOPIC = "derms.telemetry"


def message(partition: int, offset: int, value: bytes | None) -> Any:
    return Message(topic=TOPIC, partition=partition, offset=offset, value=value)


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
            found = fetch(lane, most, 0.0)  # type: ignore[arg-type]
            assert 0 < len(found.payloads) <= most
            assert found.size == sum(map(len, found.payloads))
            assert [(TOPIC, run.partition) for run in found.runs] == sorted(found.parts)
            for run in found.runs:
                assert len(run.offsets) == run.count
                share = found.payloads[run.first : run.first + run.count]
                seen += [(run.partition, offset, payload) for offset, payload in zip(run.offsets, share, strict=True)]
    for partition in range(3):
        expected = [(partition, each.offset(), each.value() or b"") for each in messages if each.partition() == partition]
        assert [one for one in seen if one[0] == partition] == expected


def test_offsets_are_a_range_where_none_is_left_out() -> None:
    whole = fetch(FakeLane([message(0, offset, b"x") for offset in range(3, 2503)]), 10_000, 0.0)  # type: ignore[arg-type]
    assert whole.runs[0].offsets == range(3, 2503)
    gap = fetch(FakeLane([message(0, offset, b"x") for offset in (1, 2, 4)]), 10_000, 0.0)  # type: ignore[arg-type]
    assert list(gap.runs[0].offsets) == [1, 2, 4]


def test_it_waits_for_more_only_as_long_as_it_may_and_stops_when_nothing_more_comes() -> None:
    lane = FakeLane([message(0, offset, b"x") for offset in range(2500)])
    assert len(fetch(lane, 10_000, 5.0).payloads) == 2500  # type: ignore[arg-type]
    assert len(lane.waits) == 3
    assert all(4 < wait <= 5 for wait in lane.waits)
    empty = fetch(FakeLane([]), 10_000, 0.0)  # type: ignore[arg-type]
    assert (empty.payloads, empty.runs, empty.parts, empty.size) == ([], (), (), 0)


def test_garbage_is_looked_for_again_afterwards_whatever_happens() -> None:
    class Broken:
        def poll(self, most: int, wait_s: float) -> Any:
            raise ZeroDivisionError

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        fetch(Broken(), 10, 0.0)  # type: ignore[arg-type]
    assert gc.isenabled()
    gc.disable()
    try:
        fetch(FakeLane([]), 10, 0.0)  # type: ignore[arg-type]
        assert not gc.isenabled()
    finally:
        gc.enable()
