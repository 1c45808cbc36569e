import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rules.judgement import Allowed, allowed, judge, projected_w
from pipelines.rules.limits import Limit, Stretch
from schemas.capacity import PieceKind
from schemas.compliance import VerdictKind
from schemas.units import Direction, Phase, to_ms
from tests.rules.scenes import CASES, ToldScope, at, limit, ms, received

IMPORT, EXPORT = Direction.IMPORT, Direction.EXPORT
FULL = Allowed(900.0, 5_000.0, ("f1",), ("f1",), 900.0, 5_000.0)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_quarter_is_judged_as_worked(case: dict[str, Any]):
    scope = ToldScope()
    scope.hears(*received(case))
    quarter = case["quarter"]
    limits = allowed(scope.timelines[Phase.ALL], to_ms(at(quarter["start"])), IMPORT)
    judged = judge(quarter["used_import_wh"], quarter["coverage"], 0.0, limits)
    assert judged.verdict == quarter["verdict"]
    assert judged.allowed_wh == (None if quarter["allowed_wh"] is None else pytest.approx(quarter["allowed_wh"], abs=1e-6))
    assert list(judged.causes) == list(dict.fromkeys(piece["cause"] for piece in quarter["in_force"]))


@pytest.mark.parametrize(
    ("used", "coverage", "tolerance", "verdict"),
    [
        (5_001.0, 1.0, 0.0, "WITHIN"),  # 1 Wh of slack
        (5_001.1, 1.0, 0.0, "BREACHED"),
        (5_001.1, 0.1, 0.0, "BREACHED"),  # what is measured is already too much
        (5_251.0, 1.0, 0.05, "WITHIN"),
        (5_251.1, 1.0, 0.05, "BREACHED"),
        (100.0, 0.49, 0.0, "UNKNOWN"),
        (100.0, 0.5, 0.0, "WITHIN"),
        (4_000.0, 0.8, 0.0, "WITHIN"),
        (4_001.0, 0.8, 0.0, "UNKNOWN"),
        (0.0, 0.0, 0.0, "UNKNOWN"),
    ],
)
def test_the_checks_come_in_their_order(used: float, coverage: float, tolerance: float, verdict: str):
    judged = judge(used, coverage, tolerance, FULL)
    assert judged.verdict == verdict
    assert judged.reason == ("energy incomplete" if verdict == "UNKNOWN" else "")


def test_a_limit_known_for_less_than_the_quarter_says_for_how_long():
    timeline = [Stretch(ms("10:00"), ms("10:05:00.500"), limit(10), None), Stretch(ms("10:10"), ms("11:00"), limit(20), limit(5))]
    for used in (0.0, 1e9):
        judged = judge(used, 1.0, 0.0, allowed(timeline, ms("10:00"), IMPORT))
        assert (judged.verdict, judged.reason, judged.allowed_wh) == (VerdictKind.UNKNOWN, "limit covers 600.5 s of 900", None)
    assert judge(0.0, 1.0, 0.0, allowed([], ms("10:00"), IMPORT)).reason == "limit covers 0 s of 900"
    assert judge(0.0, 1.0, 0.0, allowed(timeline, ms("10:15"), EXPORT)).verdict is VerdictKind.WITHIN


def test_limits_beyond_all_measure_add_up_to_a_number():
    """As a peer may say them, and as they may stand on the topic from before they were bounded."""
    timeline = [Stretch(ms("10:00"), ms("10:07"), limit(2.2e299), None), Stretch(ms("10:07"), ms("11:00"), limit(2.3e299), None)]
    assert judge(5.0, 1.0, 0.0, allowed(timeline, ms("10:00"), IMPORT)).verdict is VerdictKind.WITHIN


def test_safe_and_operators_limits_are_none_of_the_partners_business():
    timeline = [
        Stretch(ms("10:00"), ms("10:05"), limit(10, "f1", PieceKind.HELD), None),
        Stretch(ms("10:05"), ms("10:10"), Limit(5_000.0, PieceKind.SAFE), None),
        Stretch(ms("10:10"), ms("10:12"), limit(3, "o1", PieceKind.OPERATOR), None),
        Stretch(ms("10:12"), ms("10:15"), limit(3, "b1", PieceKind.FALLBACK), None),
    ]
    found = allowed(timeline, ms("10:00"), IMPORT)
    assert (found.causes, found.reportable) == (("f1", "o1", "b1"), ("f1", "b1"))


MIXED = [
    Stretch(ms("10:00"), ms("10:05"), limit(10, "o1", PieceKind.OPERATOR), None),
    Stretch(ms("10:05"), ms("10:15"), limit(20, "f1"), None),
]


@pytest.mark.parametrize(
    ("used", "told"),
    [
        (4_200.0, ()),  # above the 4,167 Wh both allow together; the forecast alone allowed 20 kW, this is 16.8
        (5_001.0, ()),
        (5_001.1, ("f1",)),
    ],
)
def test_where_an_operators_limit_ruled_a_part_the_partner_hears_only_of_what_its_own_did_not_allow(used: float, told: tuple[str, ...]):
    judged = judge(used, 1.0, 0.0, allowed(MIXED, ms("10:00"), IMPORT))
    assert (judged.verdict, judged.causes, judged.reportable) == (VerdictKind.BREACHED, ("o1", "f1"), told)


@given(st.lists(st.integers(1, 899), max_size=8, unique=True), st.floats(0, 1e6), st.floats(0, 2e5))
def test_in_how_many_parts_a_limit_is_said_makes_no_difference(cuts: list[int], kw: float, used: float):
    marks, start = [0, *sorted(cuts), 900], ms("10:00")
    parts = [Stretch(start + a * 1000, start + b * 1000, limit(kw), limit(n)) for n, (a, b) in enumerate(itertools.pairwise(marks))]
    whole = [Stretch(start - 5000, start + 905_000, limit(kw), None)]
    assert allowed(parts, start, IMPORT) == allowed(whole, start, IMPORT)
    assert judge(used, 1.0, 0.0, allowed(parts, start, IMPORT)) == judge(used, 1.0, 0.0, allowed(whole, start, IMPORT))


@given(st.lists(st.tuples(st.integers(0, 3600), st.floats(0, 1e6) | st.none()), max_size=12))
def test_energies_of_quarters_add_up_to_that_of_the_time_they_make(steps: list[tuple[int, float | None]]):
    """Four quarters of an hour with limits that change anywhere: together they allow the integral of the hour."""
    marks = sorted({0, 3600, *(at for at, _ in steps)})
    said = dict(steps)
    start, timeline, total, kw = ms("10:00"), [], 0.0, 7.0
    for a, b in itertools.pairwise(marks):
        kw = said[a] if said.get(a) is not None else kw
        timeline.append(Stretch(start + a * 1000, start + b * 1000, limit(kw), None))
        total += kw * (b - a) / 3.6
    quarters = [allowed(timeline, start + n * 900_000, IMPORT).energy_wh for n in range(4)]
    assert sum(energy for energy in quarters if energy is not None) == pytest.approx(total)
    assert None not in quarters


@given(st.lists(st.integers(1, 899), max_size=5, unique=True), st.lists(st.floats(0, 1e6), min_size=6, max_size=6))
def test_what_is_allowed_is_the_integral(cuts: list[int], kws: list[float]):
    marks = [0, *sorted(cuts), 900]
    start = ms("10:00")
    parts = list(zip(marks, marks[1:], kws, strict=False))
    found = allowed([Stretch(start + a * 1000, start + b * 1000, limit(kw), None) for a, b, kw in parts], start, IMPORT)
    assert found.energy_wh == pytest.approx(sum(kw * (b - a) / 3.6 for a, b, kw in parts))


def test_the_projection():
    ten = timedelta(minutes=10)
    assert projected_w(2_000.0, 30_000.0, ten) == pytest.approx((2_000 + 30_000 * 300 / 3600) * 4)
    assert projected_w(2_000.0, None, ten) == pytest.approx(12_000)  # registers only: as until now
    assert projected_w(2_000.0, None, timedelta(0)) is None
    assert projected_w(2_000.0, 30_000.0, timedelta(minutes=16)) == pytest.approx(8_000)
    assert projected_w(2_000.0, None, timedelta(minutes=16)) == pytest.approx(8_000)
