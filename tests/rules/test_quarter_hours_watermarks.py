"""Event time: one a partition, held back by the clock, moved on through confirmed silence, never falling or jumping (1.9)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.append_times import Clocks, Stamps
from pipelines.rules.quarter_arrivals import met
from pipelines.rules.quarter_closing import cut_of
from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.quarter_readings import Ints
from pipelines.rules.quarter_roster import shard_of
from pipelines.rules.watermarks import Watermarks
from schemas.clock import FrozenClock
from schemas.config import Timing
from tests.builders import T0

LATENESS, IDLE = 60_000, 10_000
T = 1_000_000_000


NOTHING = np.zeros(0, np.int64)


def see(times: Watermarks, partition: int, newest: int) -> None:
    """Readings up to an instant, appended when the clock read no more than it did before."""
    by_partition = np.zeros(2, np.int64)
    by_partition[partition] = newest
    times.see(by_partition, NOTHING)


def spoken(newest: int = T) -> Watermarks:
    times = Watermarks()
    times.know((0, 1))
    see(times, 0, newest)
    return times


def watermark(times: Watermarks, now: int) -> int:
    """Of partition 0, after a message that is no reading was appended at the clock's `now`."""
    times.see(NOTHING, np.array([now]))
    times.advance(LATENESS)
    return times.of(0)


@pytest.mark.parametrize(("now", "expected"), [(T + 5, T - LATENESS), (T - 5, T - 5 - LATENESS)])
def test_it_is_the_newest_instant_or_the_clock(now: int, expected: int) -> None:
    assert watermark(spoken(), now) == expected


def test_it_never_falls() -> None:
    times = spoken()
    assert watermark(times, T) == T - LATENESS
    see(times, 0, T - 30_000)
    assert watermark(times, T - 20_000) == T - LATENESS


def test_silence_counts_only_after_a_while_and_at_the_clocks_pace() -> None:
    times = spoken()
    times.silent(0, T, T + IDLE - 1, IDLE)
    assert watermark(times, T + IDLE) == T - LATENESS
    for seconds in range(10, 100):
        times.silent(0, T, T + 1000 * seconds, IDLE)
        assert watermark(times, T + 1000 * seconds) == T + 1000 * seconds - LATENESS


def test_a_count_begun_anew_adds_and_never_jumps() -> None:
    times = spoken()
    times.silent(0, T, T + 60_000, IDLE)
    # The process was down for an hour: its source counts from the first confirmation of its own.
    restarted = T + 3_600_000
    times.silent(0, restarted, restarted, IDLE)
    assert watermark(times, restarted) == T
    times.silent(0, restarted, restarted + 20_000, IDLE)
    assert watermark(times, restarted + 20_000) == T + 20_000


def test_time_the_broker_did_not_confirm_is_left_out() -> None:
    times = spoken()
    times.silent(0, T, T + 30_000, IDLE)
    times.silent(0, T + 12_000, T + 42_000, IDLE)  # a source moves `since` on by an outage
    assert watermark(times, T + 42_000) == T + 30_000 - LATENESS
    times.silent(0, T + 12_000, T + 43_000, IDLE)
    assert watermark(times, T + 43_000) == T + 31_000 - LATENESS


def test_a_reading_after_silence_begins_the_count_anew() -> None:
    times = spoken()
    times.silent(0, T, T + 60_000, IDLE)
    see(times, 0, T + 20_000)
    times.silent(0, T + 61_000, T + 62_000, IDLE)
    assert watermark(times, T + 62_000) == T
    times.silent(0, T + 61_000, T + 75_000, IDLE)
    assert watermark(times, T + 75_000) == T + 14_000


def test_a_partition_that_never_spoke_has_none_but_holds_up_nobody_for_ever() -> None:
    times = spoken()
    watermark(times, T)
    assert (times.of(1), times.slowest(LATENESS), times.fastest()) == (0, 0, T - LATENESS)
    times.silent(1, T, T + 5_000, IDLE)
    assert times.slowest(LATENESS) == 0
    times.silent(1, T, T + 100_000, IDLE)
    assert (times.of(1), times.slowest(LATENESS)) == (0, T - LATENESS)


def test_nothing_is_known_of_no_partitions() -> None:
    assert (Watermarks().slowest(LATENESS), Watermarks().fastest(), Watermarks().of(3)) == (0, 0, 0)


def test_a_partition_ahead_of_the_clock_goes_on_with_the_clock_that_finds_it_silent() -> None:
    times = spoken(T + 90_000)
    assert watermark(times, T) == T - LATENESS
    times.silent(0, T + 1000, T + 3000, IDLE)
    times.advance(LATENESS)
    assert times.of(0) == T + 3000 - LATENESS
    times.advance(LATENESS)  # that other partitions speak moves nothing here
    assert times.of(0) == T + 3000 - LATENESS


def test_a_brokers_clock_that_is_set_back_takes_nothing_back() -> None:
    times = spoken(T + 90_000)
    assert watermark(times, T) == watermark(times, T - 5000) == T - LATENESS
    assert times.clock.tolist() == [T, 0]


def test_an_earlier_snapshot_does_not_know_the_clock() -> None:
    times, columns = Watermarks(), dict(vars(spoken()))
    del columns["clock"]
    times.restore(columns)
    times.advance(LATENESS)
    assert times.of(0) == 0
    assert watermark(times, T) == T - LATENESS


def test_clocks_are_by_partition_and_never_fall_in_one() -> None:
    partition, offset, clock = np.array([3, 0, 3, 0, 3]), np.array([7, 2, 8, 5, 20]), np.array([T, T + 5, T - 1, T + 6, T + 2])
    clocks = Clocks.of(Stamps(np.arange(5), partition, offset, clock))
    assert clocks.bound.tolist() == [0, 2, 2, 2, 5]
    assert clocks.offset.tolist() == [2, 5, 7, 8, 20]
    assert clocks.at.tolist() == [T + 5, T + 6, T, T, T + 2]
    assert clocks.newest().tolist() == [T + 6, 0, 0, T + 2]
    nothing = Clocks.of(Stamps(NOTHING, NOTHING, NOTHING, NOTHING))
    assert (nothing.bound.tolist(), nothing.newest().tolist()) == ([0], [])


def met_by(times: Watermarks, before: Ints, clocks: Clocks, first: int) -> list[int]:
    """The watermarks that readings of one asset meet, as a shard asks for them; their offsets begin with `first`."""
    nobody, met_at, cuts = np.zeros(len(before), np.int32), np.zeros(len(before), np.int64), np.zeros(len(before), np.int64)
    met(
        nobody, np.zeros(1, np.int32), nobody, np.arange(first, first + len(before)), before, times.newest, times.clock, times.watermark,
        clocks.bound, clocks.offset, clocks.at, LATENESS, MeterTiming().horizon, met_at, cuts,
    )  # fmt: skip
    assert cuts.tolist() == [int(cut_of(np.int64(mark), MeterTiming())) for mark in met_at.tolist()]
    return met_at.tolist()


def one_partition(offset: Ints, clock: Ints) -> Clocks:
    return Clocks.of(Stamps(np.arange(len(offset)), np.zeros(len(offset), np.int64), offset, clock))


@settings(derandomize=True, max_examples=60, deadline=None)  # the first example may have to compile
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(-5, 100)), min_size=1, max_size=30), st.data())
def test_each_reading_meets_the_watermark_a_poll_of_its_own_would_have_shown_it(log: list[tuple[int, int]], data: st.DataObject) -> None:
    at, clock = (np.array(column) * 10_000 + T for column in zip(*log, strict=True))
    cut = data.draw(st.integers(0, len(at)))
    one, many = Watermarks(), Watermarks()
    one.know((0,))
    many.know((0,))
    expected: list[int] = []
    for place, (instant, now) in enumerate(zip(at.tolist(), clock.tolist(), strict=True)):
        expected += met_by(one, np.zeros(1, np.int64), one_partition(np.array([place]), np.array([now])), place)
        one.see(np.array([instant]), np.array([now]))
        one.advance(LATENESS)
    found: list[int] = []
    for first, poll in ((0, slice(0, cut)), (cut, slice(cut, None))):
        instants = at[poll]
        clocks = one_partition(np.arange(first, first + len(instants)), clock[poll])
        before = np.concatenate((np.zeros(min(1, len(instants)), np.int64), np.maximum.accumulate(instants)[:-1]))
        found += met_by(many, before, clocks, first)
        many.see(np.array([instants.max(initial=0)]), clocks.newest())
        many.advance(LATENESS)
    assert found == expected
    assert one.of(0) == many.of(0)


def test_allowances_are_widened_by_a_fast_clock_and_the_horizon_holds_what_must_close() -> None:
    plain, fast = (MeterTiming.of(Timing(), FrozenClock(T0, speed=speed)) for speed in (1, 3600))
    assert plain == MeterTiming()
    assert (fast.lateness, fast.register_wait, fast.idle_after, fast.report_deadline) == (7_200_000,) * 4
    assert (fast.max_hold, fast.max_interpolation, fast.provisional_every) == (300_000, 3_600_000, 60_000)
    assert fast.horizon == fast.register_wait


def test_an_assets_shard_never_changes() -> None:
    assert [shard_of(asset, 4) for asset in ("mg-1-grid", "mg-1-pv", "mg-1-bat")] == [1, 0, 0]
