"""Bad readings: out of the aggregate and into collapsed dead letters, and nothing else disturbed (1.7, 1.8)."""

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.records import Tick
from pipelines.rules import quarter_rejects as q
from pipelines.rules.quarter_intake import Columns, sort
from pipelines.rules.quarter_readings import BITS
from pipelines.rules.quarter_rejects import REASONS, Reject, RejectRule, collapsed
from pipelines.rules.quarter_roster import Rosters
from schemas.clock import FrozenClock
from schemas.outbound import DeadLetter
from tests.builders import T0, configuration
from tests.rules.metering import START, Meter, columns, dealt, minutes, roster, stamped
from tests.rules.reference_quarter_hours import Reading

QUIET = timedelta(seconds=10)


def at(minute: float, asset: str = "a", **values: Any) -> Reading:
    return Reading(asset, START + minutes(minute), **values)


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (at(0, power=100.0), q.GOOD),
        (at(0, power=-100.1), q.ABOVE),
        (at(0, imported=1e9), q.GOOD),
        (at(0, power=math.inf), q.NON_FINITE),
        (at(0, power=1.0, stored=-math.inf), q.NON_FINITE),
        (at(0, "b", power=1.0), q.UNKNOWN),
        (at(2, power=1.0), q.GOOD),
        (at(2.001, power=1.0), q.FUTURE),
        (Reading("a", -1, 1.0), q.ANCIENT),
        (Reading("a", 0, 1.0), q.GOOD),
        (at(0), q.EMPTY),
        (at(0, "b", power=math.inf, quality="BAD"), q.BAD),
    ],
)
def test_verdicts(reading: Reading, reason: int) -> None:
    known = roster({"a"}, max_w=100.0)
    found = dealt([reading], known, START, shards=2)
    assert REASONS[found.reasons[0]] == REASONS[reason]
    assert sum(len(part.readings) for part in found.parts) == (reason == q.GOOD)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(
        st.sampled_from([-1, 0, START, START + minutes(2), START + minutes(2) + 1]), st.integers(0, 15), st.integers(0, 2), st.booleans(),
        st.lists(st.sampled_from([0.0, -100.0, 100.5, math.inf, math.nan]), min_size=4, max_size=4),
    ), max_size=12)
)  # fmt: skip
def test_arriving_and_archived_readings_are_judged_alike(readings: list[tuple[int, int, int, bool, list[float]]]) -> None:
    known = roster({"a", "b"}, max_w=100.0)
    at, present, asset, bad, values = (list(column) for column in zip(*readings, strict=True)) if readings else ([],) * 5
    instants, bits, places = np.array(at, np.int64), np.array(present, np.uint8), np.array(asset, np.int32)
    powers = np.array(values, np.float64).reshape(-1, 4).T
    kinds, size = np.array(bad, np.bool_), len(at)
    columns = Columns(
        places, instants, np.zeros(size, np.int8), bits, tuple(np.ascontiguousarray(column) for column in powers), kinds,
        np.zeros(size, np.bool_), np.zeros(size, np.int32), np.arange(size),
    )  # fmt: skip
    arrived = sort(columns, known, START, (0,), (), 2, stamped(columns, [START] * size)).reasons
    limits = np.where(places < 2, 100.0, np.nan)
    archived = q.verdicts(instants, bits, dict(zip(BITS, powers, strict=True)), places < 2, limits, kinds, START + minutes(2))
    assert arrived.tolist() == archived.tolist()


def test_a_nan_that_was_sent_is_no_absent_value() -> None:
    known = roster({"a"})
    sent = columns([at(0, power=1.0)], known)
    sent.values[0][0] = math.nan
    assert sort(sent, known, START, (0,), (), 1, stamped(sent, [START])).reasons.tolist() == [q.NON_FINITE]


def test_bad_readings_change_no_row() -> None:
    good = [at(minute, power=60.0, imported=float(minute)) for minute in range(40)]
    bad = [at(30, power=math.inf), at(31, "b", power=1.0), at(35, power=9e9), at(90, power=1.0), at(7, power=1.0, quality="BAD"), at(34)]
    rows = []
    for readings in (good, [*good[:10], *bad, *good[10:]]):
        meter = Meter(roster({"a"}, max_w=1000.0))
        for reading in readings:
            meter.poll([reading], START + minutes(41))
        meter.close()
        rows.append((meter.rows, meter.revisions, meter.late))
    assert rows[0] == rows[1]


def test_a_reading_from_the_future_does_not_move_time() -> None:
    known = roster({"a"})
    found = dealt([at(0, power=1.0), at(5, power=1.0), at(1, power=1.0)], known, START)
    assert found.parts[0].newest.tolist() == [START + minutes(1)]
    assert found.parts[0].before.tolist() == [0, START]


def test_a_reading_its_meter_calls_bad_says_that_time_has_passed() -> None:
    meter = Meter(roster({"a"}))
    meter.poll([at(0, power=1.0), at(16, power=1.0, quality="BAD"), at(99, "b", power=1.0, quality="BAD")], START + minutes(100))
    assert meter.rows.keys() == {("a", 0, START)}
    assert meter.shards[0].times.newest[0] == START + minutes(16)


def test_every_shard_hears_of_time() -> None:
    known = roster({"a"})
    found = dealt([at(0, power=1.0)], known, START, (0, 1), 3)
    assert [part.newest.tolist() for part in found.parts] == [[START]] * 3
    assert [part.clocks.newest().tolist() for part in found.parts] == [[START]] * 3
    assert sorted(len(part.readings) for part in found.parts) == [0, 0, 1]


def test_runs_within_a_poll_are_one() -> None:
    asset, reason, instants = np.array([1, 1, 0, 1, 1]), np.array([2, 2, 2, 3, 2], np.int8), np.array([0, 59_999, 0, 0, 60_000])
    assert list(collapsed(asset, reason, instants)) == [(0, 2), (2, 1), (3, 1), (4, 1)]
    assert list(collapsed(asset[:0], reason[:0], instants[:0])) == []


class TestLetters:
    def rule(self) -> RejectRule:
        return RejectRule(Rosters(configuration, FrozenClock(T0)))

    @staticmethod
    def reject(minute: int, offset: int, count: int = 1, subject: str = "a") -> Reject:
        return Reject(subject, "non-finite value", minute, count, 0, offset, b"first")

    @staticmethod
    def letters(outs: Iterable[Any]) -> list[tuple[str, int, int]]:
        values = [out.value for out in outs]
        assert all(isinstance(value, DeadLetter) and value.raw == b"first" for value in values)
        return [(value.subject, value.offset, value.count) for value in values]

    def test_a_run_is_one_letter_with_a_count(self) -> None:
        rule, now = self.rule(), T0
        state = rule.start("")
        for offset in range(12):
            assert self.letters(rule.step(state, (self.reject(0, offset, 2),), now)) == []
            now += timedelta(seconds=5)
        assert self.letters(rule.step(state, (self.reject(1, 12),), now)) == [("a", 0, 24)]
        assert rule.due(state) is not None
        assert self.letters(rule.step(state, Tick(), now + QUIET)) == [("a", 12, 1)]
        assert rule.due(state) is None

    def test_a_run_ends_when_nothing_is_added(self) -> None:
        rule = self.rule()
        state = rule.start("")
        rule.step(state, (self.reject(0, 0), self.reject(0, 1, subject="b")), T0)
        assert self.letters(rule.step(state, (self.reject(0, 2),), T0 + QUIET / 2)) == []
        assert rule.due(state) == T0 + QUIET
        assert self.letters(rule.step(state, (), T0 + QUIET)) == [("b", 1, 1)]
        assert self.letters(rule.step(state, (), T0 + 1.5 * QUIET)) == [("a", 0, 2)]

    def test_a_flood_of_kinds_is_not_kept(self) -> None:
        rule = self.rule()
        state = rule.start("")
        flood = tuple(self.reject(0, n, subject=str(n)) for n in range(10_001))
        assert len(self.letters(rule.step(state, flood, T0))) == 10_001
        assert state["runs"] == {}

    def test_the_same_run_has_the_same_id(self) -> None:
        ids = set()
        for _ in range(2):
            rule = self.rule()
            state = rule.start("")
            rule.step(state, (self.reject(0, 3),), T0)
            ids |= {out.value.event_id for out in rule.step(state, (), T0 + QUIET)}
        assert len(ids) == 1
