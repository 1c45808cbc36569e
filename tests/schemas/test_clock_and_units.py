"""Clocks, units and instants (semantics head; contract 1)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.clock import FrozenClock, ScaledClock, SystemClock, wall_seconds
from schemas.topology import Duration, iso_duration
from schemas.units import Instant, energy_wh, from_ms, mean_w, rfc3339, to_ms, whole_ms
from tests.builders import T0
from tests.schemas.strategies import instants, law

STARTED = datetime(2026, 11, 22, 8, tzinfo=UTC)


def test_a_scaled_clock_reads_origin_plus_what_passed_times_speed():
    clock = ScaledClock(origin=T0, started=STARTED, speed=240)
    with time_machine.travel(STARTED + timedelta(seconds=30), tick=False):
        assert clock.now() == T0 + timedelta(hours=2)
    assert clock.wall_at(T0 + timedelta(hours=2)) == STARTED + timedelta(seconds=30)


@law
@given(instant=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), speed=st.floats(0.01, 1000))  # noqa: DTZ001
def test_the_wall_instant_of_an_instant_is_when_the_clock_reads_it(instant: datetime, speed: float):
    clock = ScaledClock(origin=instant, started=STARTED, speed=speed)
    goal = instant + timedelta(minutes=7)
    with time_machine.travel(clock.wall_at(goal), tick=False):
        assert abs(clock.now() - goal) <= timedelta(milliseconds=1) * max(1, speed)


@law
@given(passed=st.floats(0, 1e6), speed=st.floats(0.01, 1000))
def test_what_a_clock_read_at_a_wall_instant_is_the_inverse(passed: float, speed: float):
    clock = ScaledClock(origin=T0, started=STARTED, speed=speed)
    wall = STARTED + timedelta(seconds=passed)
    with time_machine.travel(wall, tick=False):
        assert abs(clock.at_wall(wall) - clock.now()) <= timedelta(milliseconds=1) * max(1, speed)
    assert abs(clock.wall_at(clock.at_wall(wall)) - wall) <= timedelta(milliseconds=1) * max(1, 1 / speed)


def test_a_clock_never_read_anything_before_its_origin_and_a_frozen_one_nothing_else():
    assert ScaledClock(origin=T0, started=STARTED, speed=240).at_wall(STARTED - timedelta(hours=1)) == T0
    assert SystemClock().at_wall(STARTED) == STARTED
    assert FrozenClock(T0).at_wall(STARTED) == T0


def test_the_floor_matters_only_above_speed_one():
    minute = timedelta(minutes=1)
    assert ScaledClock(origin=T0, started=STARTED, speed=240).allowance(minute) == timedelta(seconds=480)
    assert ScaledClock(origin=T0, started=STARTED, speed=10).allowance(minute) == minute
    assert ScaledClock(origin=T0, started=STARTED, speed=1).allowance(timedelta(0)) == timedelta(0)
    assert ScaledClock(origin=T0, started=STARTED, speed=0.5).allowance(minute) == minute
    assert FrozenClock(T0, speed=240).allowance(minute) == timedelta(seconds=480)
    assert SystemClock().allowance(minute) == minute


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_clock_never_stands_or_runs_backwards(speed: float):
    with pytest.raises(ValueError, match="speed"):
        ScaledClock(origin=T0, started=STARTED, speed=speed)


def test_the_system_clock_is_utc_and_a_frozen_one_moves_when_told():
    with time_machine.travel(STARTED, tick=False):
        assert SystemClock().now() == STARTED
    assert SystemClock().now().tzinfo is UTC
    assert SystemClock().speed == 1
    assert SystemClock().wall_at(T0) == T0
    clock = FrozenClock(T0)
    assert clock.advance(timedelta(minutes=1)) == clock.now() == T0 + timedelta(minutes=1)
    assert clock.set(T0) == clock.now() == T0
    assert clock.wall_at(T0).year == 2200
    assert wall_seconds() <= wall_seconds()


@law
@given(instants)
def test_instants_survive_milliseconds_and_text(instant: datetime):
    assert from_ms(to_ms(instant)) == instant
    if instant.year >= 1000:
        assert TypeAdapter(Instant).validate_python(rfc3339(instant)) == instant


def test_instants_are_floored_to_milliseconds_in_utc():
    nzdt = timezone(timedelta(hours=13))
    assert whole_ms(datetime(2026, 10, 20, 23, 0, 0, 1999, nzdt)) == datetime(2026, 10, 20, 10, 0, 0, 1000, UTC)
    assert whole_ms(datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)) == datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)
    assert rfc3339(datetime(2026, 10, 20, 10, tzinfo=UTC)) == "2026-10-20T10:00:00.000Z"
    with pytest.raises(ValidationError):
        TypeAdapter(Instant).validate_python("2026-10-20T10:00:00")


def test_power_and_energy():
    quarter = timedelta(minutes=15)
    assert mean_w(250, quarter) == 1000
    assert energy_wh(1000, quarter) == 250


@law
@given(st.timedeltas(timedelta(days=-1000), timedelta(days=1000)))
def test_durations_survive_iso_8601(duration: timedelta):
    assert TypeAdapter(Duration).validate_json(TypeAdapter(Duration).dump_json(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(minutes=2), "PT120S"),
        (timedelta(days=7), "P7D"),
        (timedelta(seconds=1.5), "PT1.5S"),
        (timedelta(days=20, seconds=1), "PT1728001S"),
        (timedelta(seconds=-90), "-PT90S"),
    ],
)
def test_durations_are_written_plainly(duration: timedelta, text: str):
    assert iso_duration(duration) == text
