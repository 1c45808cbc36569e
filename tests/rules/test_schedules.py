from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rules.limits import FOREVER_MS, MOST_W
from pipelines.rules.schedules import Origin, Schedule, Span, from_receipt, lowest, merged, pruned, splice
from schemas.capacity import CapacityForecast
from schemas.units import Phase, from_ms
from tests.rules.scenes import CASES, at, block, ms, received

ORIGIN = Origin("f1", "d1", 0)


def origin_of(forecast: CapacityForecast) -> Origin:
    return Origin(forecast.cause, forecast.body_digest, ms(forecast.received_at.isoformat()))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_schedule_after_all_messages_is_the_worked_one(case: dict[str, Any]):
    schedule: Schedule = []
    seen = set()
    for forecast in received(case):
        origin = origin_of(forecast)
        if origin[:2] not in seen:  # the same message again
            schedule = splice(schedule, lowest((b for b in forecast.blocks if b.phase is Phase.ALL), origin)[0])
        seen.add(origin[:2])
    assert schedule == [
        Span(ms(piece["start"]), ms(piece["end"]), piece["limit_w"], span.origin)
        for piece, span in zip(case["schedule"], schedule, strict=True)
    ]
    assert [span.origin.cause for span in schedule] == [piece["cause"] for piece in case["schedule"]]


def at_instant(schedule: Schedule, instant: int) -> Span | None:
    return next((span for span in schedule if span.start_ms <= instant < span.end_ms), None)


def said(span: Span | None) -> tuple[float, Origin] | None:
    return None if span is None else (span.limit_w, span.origin)


def proper(schedule: Schedule) -> bool:
    """In order, disjoint, nothing empty, and nothing left to merge."""
    ordered = all(one.end_ms <= other.start_ms for one, other in pairwise(schedule))
    return ordered and all(span.start_ms < span.end_ms for span in schedule) and merged(schedule) == schedule


intervals = st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from([1.0, 2.0, 3.0]))
messages = st.lists(intervals, min_size=1, max_size=6)


def blocks_of(message: Iterable[tuple[int, int, float | None]]) -> list[Any]:
    plain = block("10:00", "11:00", 1)
    return [
        plain.model_copy(update={"start": from_ms(start), "end": from_ms(start + length), "limit_w": limit})
        for start, length, limit in message
    ]


@given(messages)
def test_within_a_message_the_lower_limit_wins(message: list[tuple[int, int, float]]):
    schedule, overlapped = lowest(blocks_of(message), ORIGIN)
    assert proper(schedule)
    counts = []
    for instant in range(60):
        limits = [limit for start, length, limit in message if start <= instant < start + length]
        counts.append(len(limits))
        assert said(at_instant(schedule, instant)) == ((min(limits), ORIGIN) if limits else None)
    assert overlapped == (max(counts) > 1)


@given(st.lists(messages, max_size=5))
def test_the_newest_wins_for_the_time_it_covers_and_only_there(told: list[list[tuple[int, int, float]]]):
    parts = [lowest(blocks_of(message), Origin(f"f{n}", "", n))[0] for n, message in enumerate(told)]
    schedule: Schedule = []
    for part in parts:
        schedule = splice(schedule, part)
    assert proper(schedule)
    for instant in range(60):
        newest = next((span for part in reversed(parts) if (span := at_instant(part, instant))), None)
        assert said(at_instant(schedule, instant)) == said(newest)
    for part in parts[-1:]:
        assert splice(schedule, part) == schedule


def test_what_was_before_receipt_never_comes_to_be_in_force():
    origin = Origin("f1", "d1", ms("10:05"))
    schedule, _ = lowest([block("09:00", "10:00", 1), block("10:00", "11:00", 2), block("12:00", "13:00", 3)], origin)
    assert [(span.start_ms, span.end_ms) for span in from_receipt(schedule)] == [(ms("10:05"), ms("11:00")), (ms("12:00"), ms("13:00"))]


def test_pruning_keeps_what_may_still_be_held():
    schedule, _ = lowest([block("08:00", "09:00", 1), block("09:00", "10:00", 2), block("12:00", "13:00", 3)], ORIGIN)
    assert [span.limit_w for span in pruned(schedule, ms("11:00"))] == [2000, 3000]
    assert [span.limit_w for span in pruned(schedule, ms("08:30"))] == [1000, 2000, 3000]
    assert [span.limit_w for span in pruned(schedule, ms("23:00"))] == [3000]


def test_a_block_without_end_in_sight_ends_where_forever_does():
    far = block("10:00", "11:00", 1).model_copy(update={"end": at("9999-12-31T00:00:00+00:00")})
    beyond = far.model_copy(update={"start": at("9000-01-01T00:00:00+00:00")})
    assert [(s.start_ms, s.end_ms) for s in lowest([far, beyond], ORIGIN)[0]] == [(ms("10:00"), FOREVER_MS)]


def test_more_than_a_number_can_hold_is_a_limit_and_lifts_nothing():
    endless = block("10:00", "11:00", 1).model_copy(update={"limit_w": float("inf")})
    ((_, _, watts, _),) = splice([], lowest([endless], ORIGIN)[0])
    assert watts == MOST_W


lifted = st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from([1.0, 2.0, None]))


@given(st.lists(st.lists(lifted, min_size=1, max_size=6), max_size=5))
def test_what_is_lifted_is_a_hole_and_the_rest_stays(told: list[list[tuple[int, int, float | None]]]):
    schedule: Schedule = []
    for number, message in enumerate(told):
        schedule = splice(schedule, lowest(blocks_of(message), Origin(f"f{number}", "", number))[0])
    assert proper(schedule)
    for instant in range(60):
        expected = None
        for number, message in enumerate(told):
            about = [limit for start, length, limit in message if start <= instant < start + length]
            limits = [limit for limit in about if limit is not None]
            if about:
                expected = (min(limits), Origin(f"f{number}", "", number)) if limits else None
        assert said(at_instant(schedule, instant)) == expected


def test_thousands_of_overlapping_blocks_are_no_burden():
    many = [(n, 100_000 - 2 * n, float(n % 7)) for n in range(8_000)]
    schedule, overlapped = lowest(blocks_of(many), ORIGIN)
    assert overlapped
    assert proper(schedule)
    assert proper(splice(schedule, lowest(blocks_of([(n * 10, 5, 1.0) for n in range(8_000)]), Origin("f2", "", 0))[0]))
