"""When late readings are repaired: not before the running flow has let go, an asset at most once in PT15M, nothing forgotten."""

import pickle
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.repair import reach_ms
from pipelines.rules.repair_schedule import QUARTERS_AT_ONCE, SPANS, Due, Schedule, ScheduleState, Waits
from schemas.intervals import QUARTER_MS
from schemas.telemetry import LateMeasurement, Measurement
from schemas.units import from_ms, to_ms
from tests.builders import T0

law = settings(max_examples=60, deadline=None, derandomize=True)
TIMING, WAITS = MeterTiming(), Waits()
MINUTE, HOUR, MS = timedelta(minutes=1), timedelta(hours=1), timedelta(milliseconds=1)
MARGIN = WAITS.margin // MS
LET_GO = TIMING.lateness + TIMING.horizon + MARGIN
"""How long (ms) after its end a quarter is the running flow's."""


def late(at: Any, stated: Any = T0, asset: str = "a", offset: int = 0, lag: timedelta = timedelta(0)) -> LateMeasurement:
    watermark = from_ms(to_ms(stated) - TIMING.lateness) - lag
    return LateMeasurement(
        event_id=f"{asset}-{offset}", at=stated, measurement=Measurement(asset_id=asset, measured_at=at, power_w=1.0),
        watermark=watermark, partition=1, offset=offset,
    )  # fmt: skip


class World:
    """A schedule and its state, which goes through a snapshot at each step."""

    def __init__(self) -> None:
        self.schedule, self.state = Schedule(), ScheduleState()

    def take(self, one: LateMeasurement, now: Any = T0) -> None:
        self.schedule.take(self.state, one, TIMING, now)
        self.state = pickle.loads(pickle.dumps(self.state))

    def due(self) -> Any:
        return self.schedule.due(self.state, TIMING)

    def next(self, now: Any) -> list[Due]:
        return self.schedule.next(self.state, TIMING, now)

    def done(self, now: Any) -> list[Due]:
        found = self.next(now)
        for due in found:
            self.schedule.done(self.state, due, TIMING, now)
        return found


def test_a_burst_is_one_repair_and_the_next_comes_a_quarter_of_an_hour_later() -> None:
    world = World()
    for minute in range(30):
        world.take(late(T0 - 6 * HOUR + minute * MINUTE, offset=minute))
    assert world.due() == T0 + WAITS.settle
    assert world.next(T0) == []
    now = T0 + WAITS.settle
    [due] = world.done(now)
    assert due.spans == ((to_ms(T0 - 7 * HOUR), to_ms(T0 - 6 * HOUR + 90 * MINUTE)),)
    assert (due.offsets, due.cause_id) == ({1: 29}, "a-0")
    world.take(late(T0 - 6 * HOUR, offset=30), now)
    world.take(late(T0 - 6 * HOUR, offset=31, asset="b"), now)
    assert world.due() == now + WAITS.settle
    assert [due.asset_id for due in world.done(now + WAITS.settle)] == ["b"]
    assert world.due() == now + WAITS.every
    assert [due.asset_id for due in world.done(now + WAITS.every)] == ["a"]
    assert world.due() is None
    assert world.state.repaired.keys() == {"a", "b"}
    world.take(late(T0, asset="c"), now + 2 * HOUR)
    world.done(now + 5 * HOUR)
    assert world.state.repaired.keys() == {"c"}


def test_a_quarter_waits_until_the_running_flow_has_let_go_of_it() -> None:
    """A reading that contradicts what was folded comes with a watermark from before the horizon has passed."""
    world = World()
    world.take(late(T0))
    first = to_ms(T0 - HOUR)
    assert to_ms(world.due()) == first + QUARTER_MS + LET_GO
    seen: list[int] = []
    while (when := world.due()) is not None:
        for due in world.done(when):
            for begin, until in due.spans:
                seen += range(begin, until, QUARTER_MS)
                assert until + LET_GO <= to_ms(when)
    assert seen == list(range(first, to_ms(T0 + 75 * MINUTE), QUARTER_MS))


def test_event_time_that_is_behind_the_clock_is_waited_for() -> None:
    world = World()
    world.take(late(T0 - 6 * HOUR, lag=8 * HOUR))
    assert to_ms(world.due()) == to_ms(T0 - 7 * HOUR) + QUARTER_MS + LET_GO + 8 * HOUR // MS


def test_readings_the_history_does_not_get_are_given_up_after_a_while() -> None:
    world = World()
    world.take(late(T0 - 6 * HOUR))
    now, rounds = T0 + WAITS.settle, 0
    while (found := world.next(now)) and world.schedule.wait(world.state, found[0], now):
        assert world.due() == now + WAITS.again
        now, rounds = now + WAITS.again, rounds + 1
    assert now > T0 + WAITS.patience
    assert rounds == WAITS.patience / WAITS.again + 1
    assert world.due() is None


def test_an_asset_that_is_always_late_is_never_given_up() -> None:
    world, now = World(), T0
    for hour in range(20):
        now = T0 + hour * HOUR
        world.take(late(now - 2 * HOUR, now, offset=hour), now)
        now += WAITS.settle
        for due in world.next(now):
            assert world.schedule.wait(world.state, due, now)
        world.done(now + WAITS.again)
    assert world.state.pending


@law
@given(st.lists(st.tuples(st.integers(3, 2_000), st.integers(0, 2)), min_size=1, max_size=150))
def test_every_quarter_a_late_reading_reaches_is_repaired(hours: list[tuple[int, int]]) -> None:
    world = World()
    wanted: dict[str, set[int]] = {}
    for offset, (back, asset) in enumerate(hours):
        at = to_ms(T0) - back * 3_600_000
        world.take(late(from_ms(at), asset=f"a-{asset}", offset=offset))
        reach = reach_ms(TIMING)
        first, last = (at - reach) // QUARTER_MS, (at + reach) // QUARTER_MS
        wanted.setdefault(f"a-{asset}", set()).update(range(first * QUARTER_MS, (last + 1) * QUARTER_MS, QUARTER_MS))
    assert all(len(pending.spans) <= SPANS for pending in world.state.pending.values())
    repaired: dict[str, list[int]] = {}
    last_at: dict[str, Any] = {}
    while (when := world.due()) is not None:
        found = world.done(when)
        sizes = [(until - first) // QUARTER_MS for due in found for first, until in due.spans]
        assert 0 < sum(sizes) <= QUARTERS_AT_ONCE
        for due in found:
            repaired.setdefault(due.asset_id, []).extend(s for span in due.spans for s in range(*span, QUARTER_MS))
            assert when - last_at.get(due.asset_id, when - WAITS.every) in (timedelta(0), WAITS.every)
            last_at[due.asset_id] = when
    for name, starts in wanted.items():
        assert starts <= set(repaired[name])
        assert len(repaired[name]) == len(set(repaired[name]))
