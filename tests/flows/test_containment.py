"""A rule that fails at one item leaves it out and tells; the other keys, and the flow, go on."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.containment import MOST_IN_A_ROW, MUTED, Containment
from pipelines.operators import _Keyed, run_rule
from pipelines.records import Out, Tick
from schemas.clock import FrozenClock
from schemas.connection import Event
from schemas.outbound import DeadLetter
from schemas.topics import DEAD_LETTERS, EVENTS
from tests.builders import T0


class Inverse:
    """Says the inverse of each number; cannot be told 0. A key that has heard -1 fails at its timer."""

    def __init__(self) -> None:
        self.ticks = 0

    def start(self, key: str) -> list[float]:
        return []

    def step(self, state: list[float], item: float | Tick, now: datetime) -> Iterator[float]:
        if isinstance(item, Tick):
            self.ticks += 1
            raise OverflowError("the timer fails")
        state.append(1 / item)
        yield 1 / item

    def due(self, state: list[float]) -> datetime | None:
        if 99.0 in state:
            raise OverflowError("nobody knows when")
        return T0 if -1.0 in state else None


def ran(items: list[tuple[str, float]], *, told: bool) -> list[Any]:
    out: list[Any] = []
    flow = Dataflow("inverting")
    numbers = op.input("in", flow, TestingSource(items))
    op.output(
        "out", run_rule("inverse", op.key_on("key", numbers, lambda pair: pair[0]), Second(), FrozenClock(T0), told=told), TestingSink(out)
    )
    run_main(flow)
    return out


class Second(Inverse):
    """The same of the second of a pair."""

    def step(self, state: list[float], item: Any, now: datetime) -> Iterator[float]:
        return super().step(state, item if isinstance(item, Tick) else item[1], now)


@pytest.mark.parametrize("told", [True, False])
def test_one_item_is_left_out_and_told_and_all_else_goes_on(told: bool):
    out = ran([("a", 2.0), ("b", 0.0), ("b", 4.0), ("a", 5.0)], told=told)
    assert [each for each in out if isinstance(each, float)] == [0.5, 0.25, 0.2]
    letters = [each for each in out if isinstance(each, Out)]
    assert [each.topic for each in letters] == ([DEAD_LETTERS, EVENTS] if told else [])
    if told:
        letter, alarm = (each.value for each in letters)
        assert isinstance(letter, DeadLetter)
        assert isinstance(alarm, Event)
        assert (letter.subject, alarm.kind, alarm.severity.value) == ("b", "rule.failed", "ALARM")
        assert "ZeroDivisionError" in letter.reason


def test_a_rule_that_fails_at_everything_ends_the_flow():
    with pytest.raises(RuntimeError) as raised:  # the engine wraps it
        ran([("a", 0.0)] * (MOST_IN_A_ROW + 1), told=True)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert len(ran([("a", 0.0)] * MOST_IN_A_ROW, told=False)) == 0


def test_a_timer_that_fails_is_left_alone_for_a_while_and_a_due_that_fails_ends_nothing():
    clock, rule = FrozenClock(T0), Inverse()
    logic = _Keyed(rule, clock, None, Containment("inverse"), told=True)
    logic.on_item(("a", -1.0))
    letters, _ = logic.on_notify()
    assert len(list(letters)) == 2
    assert logic.notify_at() == clock.wall_at(T0 + MUTED)
    assert list(logic.on_notify()[0]) == []
    clock.advance(MUTED)
    assert len(list(logic.on_notify()[0])) == 2
    assert rule.ticks == 2
    logic.on_item(("a", 1 / 99.0))
    assert logic.notify_at() == clock.wall_at(clock.now() + MUTED)
    assert clock.now() == T0 + timedelta(minutes=1)
