"""Quarter hours and local days (semantics 1, 2)."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.intervals import QUARTER, local_day, next_quarter, overlap, quarter_of, quarters
from tests.builders import T0
from tests.schemas.strategies import law

some_time = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@law
@given(some_time)
def test_a_quarter_holds_its_instants(instant: datetime):
    start = quarter_of(instant)
    assert start <= instant < start + QUARTER
    assert (start.minute % 15, start.second, start.microsecond) == (0, 0, 0)
    assert quarter_of(start) == next_quarter(start) == start
    assert next_quarter(instant) - start in ((QUARTER,) if instant - start >= timedelta(milliseconds=1) else (timedelta(0),))


def test_quarters_begin_in_the_half_open_interval():
    assert list(quarters(T0, T0)) == []
    assert list(quarters(T0, T0 + QUARTER)) == [T0]
    assert list(quarters(T0 + timedelta(seconds=1), T0 + 2 * QUARTER)) == [T0 + QUARTER]


@pytest.mark.parametrize(
    ("zone", "day", "count"),
    [
        ("Pacific/Auckland", "2026-09-27", 92),
        ("Pacific/Auckland", "2026-04-05", 100),
        ("Pacific/Auckland", "2026-10-20", 96),
        ("Australia/Lord_Howe", "2026-10-04", 94),
        ("Australia/Lord_Howe", "2026-04-05", 98),
        ("America/Havana", "2026-03-08", 92),  # the day begins with the gap
        ("America/Havana", "2026-11-01", 100),  # midnight comes twice
        ("America/Sao_Paulo", "2018-11-04", 92),  # there is no midnight
        ("Asia/Kathmandu", "2026-10-20", 96),
        ("UTC", "2026-10-20", 96),
    ],
)
def test_local_days_have_as_many_quarters_as_they_are_long(zone: str, day: str, count: int):
    noon = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=ZoneInfo(zone))
    start, end = local_day(noon, zone)
    assert (start.tzinfo, end.tzinfo) == (UTC, UTC)
    assert end - start == count * QUARTER
    assert len(list(quarters(start, end))) == count


@law
@given(some_time, st.sampled_from(["Pacific/Auckland", "Australia/Lord_Howe", "America/Havana", "America/Sao_Paulo", "Asia/Tehran"]))
def test_every_instant_is_in_its_local_day_and_days_meet(instant: datetime, zone: str):
    start, end = local_day(instant, zone)
    assert start <= instant < end
    assert local_day(end, zone)[0] == end
    assert local_day(start, zone) == (start, end)


def test_overlaps():
    hour = timedelta(hours=1)
    assert overlap(T0, T0 + hour, T0 + hour / 2, T0 + 2 * hour) == hour / 2
    assert overlap(T0, T0 + hour, T0 + hour, T0 + 2 * hour) == timedelta(0)
    assert overlap(T0, T0 + hour, T0 + 2 * hour, T0 + 3 * hour) == timedelta(0)
    assert all(b - a == QUARTER for a, b in pairwise(quarters(T0, T0 + hour)))
