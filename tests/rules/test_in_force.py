import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.ladder import Ladder, Link, of_group
from pipelines.rules.limits import FOREVER_MS
from pipelines.rules.schedules import Origin, Schedule, Span, from_receipt, splice
from schemas.capacity import LimitType, PieceKind
from schemas.units import from_ms
from tests.rules.scenes import ToldScope, at, block, forecast, group, limit, ms

FALLBACK = LimitType.FALLBACK_IMPORT
DAY = block("00:00", "2026-10-21T00:00+00:00", 100)


# 3.3: gaps


def test_a_gap_holds_the_last_limit_then_falls_to_the_safe_one():
    scope = ToldScope(group(safe_import_w=5_000.0))
    scope.hears(forecast("f1", "08:00", block("09:00", "10:00", 50), block("14:00", "15:00", 60)))
    assert scope.import_kw("08:30", "09:30", "10:30", "11:00", "13:59", "14:00", "15:30", "16:00") == [
        (5, "SAFE"), (50, "FORECAST"), (50, "HELD"), (5, "SAFE"), (5, "SAFE"), (60, "FORECAST"), (60, "HELD"), (5, "SAFE"),
    ]  # fmt: skip
    assert scope.envelopes[-1].pieces[-1].end == from_ms(FOREVER_MS)


def test_a_gap_without_safe_limit_becomes_unknown():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("09:00", "10:00", 50), block("14:00", "15:00", 60)))
    assert scope.import_kw("08:30", "10:59", "11:00", "14:30", "16:00") == [None, (50, "HELD"), None, (60, "FORECAST"), None]
    (envelope,) = scope.envelopes
    assert [(piece.start, piece.end) for piece in envelope.pieces] == [
        (at("09:00"), at("10:00")), (at("10:00"), at("11:00")), (at("11:00"), at("14:00")), (at("14:00"), at("15:00")),
        (at("15:00"), at("16:00")),
    ]  # fmt: skip


def test_safe_limits_hold_before_anyone_has_spoken():
    scope = ToldScope()
    scope.configured("07:00", group(safe_import_w=5_000.0, safe_export_w=2_000.0))
    assert scope.envelopes[0].effective_at == at("07:00")
    assert (scope.imports("07:30"), scope.exports("07:30")) == (limit(5, None, PieceKind.SAFE), limit(2, None, PieceKind.SAFE))


# 3.3: away


def test_while_away_the_fallback_holds_and_on_return_the_forecast():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY), forecast("b1", "08:01", block("00:00", "2026-10-21T00:00+00:00", 20), of=FALLBACK))
    assert len(scope.envelopes) == 1  # a fallback limits nothing yet
    scope.linked("10:00", away=True)
    scope.linked("11:00", away=False)
    assert scope.import_kw("09:59", "10:00", "10:59", "11:00") == [(100, "FORECAST"), (20, "FALLBACK"), (20, "FALLBACK"), (100, "FORECAST")]
    assert [envelope.effective_at for envelope in scope.envelopes] == [at("08:00"), at("10:00"), at("11:00")]


def test_a_safe_limit_that_is_held_stays_a_safe_one():
    """It is none of the partner's business, also while it is away (semantics 7.3)."""
    scope = ToldScope(group(safe_import_w=5_000.0))
    scope.hears(forecast("f1", "08:00", block("08:00", "09:00", 50)))
    scope.linked("10:30", away=True)
    assert scope.import_kw("10:15", "10:45", "12:00") == [(5, "SAFE"), (5, "SAFE"), (5, "SAFE")]


@pytest.mark.parametrize(
    ("safe_w", "after_hold"),
    [(5_000.0, (5, "SAFE")), (None, (120, "FORECAST"))],
)
def test_away_without_fallback_the_lower_of_last_limit_and_forecast_then_safe_else_forecast(safe_w: float | None, after_hold: tuple):
    scope = ToldScope(group(safe_import_w=safe_w))
    scope.hears(forecast("f1", "08:00", block("08:00", "10:30", 100), block("10:30", "10:45", 80), block("10:45", "20:00", 120)))
    scope.linked("10:00", away=True)
    assert scope.import_kw("10:15", "10:35", "10:50", "11:00") == [(100, "HELD"), (80, "FORECAST"), (100, "HELD"), after_hold]


def test_away_with_nothing_known_is_unknown():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("08:00", "09:00", 100)))
    scope.linked("10:30", away=True)
    assert scope.import_kw("09:59", "10:15", "10:30", "11:30") == [(100, "HELD"), None, None, None]


def test_a_gap_in_the_fallback_holds_the_last_fallback():
    scope = ToldScope(group(safe_import_w=5_000.0))
    scope.hears(forecast("f1", "08:00", DAY), forecast("b1", "08:00", block("09:00", "11:00", 20), of=FALLBACK))
    scope.linked("10:00", away=True)
    assert scope.import_kw("10:30", "11:30", "12:00") == [(20, "FALLBACK"), (20, "HELD"), (5, "SAFE")]


def test_a_forecast_received_while_away_limits_at_once_if_it_is_lower():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY), forecast("b1", "08:00", block("00:00", "20:00", 20), of=FALLBACK))
    scope.linked("10:00", away=True)
    scope.hears(forecast("f2", "10:30", block("10:00", "11:00", 7), block("11:00", "12:00", 70)))
    assert scope.import_kw("10:29", "10:30", "11:30", "12:30") == [(20, "FALLBACK"), (7, "FORECAST"), (20, "FALLBACK"), (20, "FALLBACK")]
    assert scope.imports("10:45") == limit(7, "f2")


def test_a_connection_told_again_after_a_restart_changes_nothing():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY), forecast("b1", "08:00", DAY, of=FALLBACK))
    for _ in range(2):
        scope.linked("10:00", away=True)
        scope.linked("11:00", away=False)
    assert len(scope.envelopes) == 3


# 3.3 said once more, plainly, instant by instant: slow, and on a grid of half hours only

GRID = 1_800_000
FIRST, LAST = ms("00:00") - GRID, ms("23:30")


class Plain:
    """One group, import. `heard` is (received, fallback?, start, end, W) in order of receipt, `turns` (since, away)."""

    def __init__(self, heard: list[tuple[int, bool, int, int, float]], turns: dict[int, bool], hold: int, safe: float | None) -> None:
        self.heard, self.turns, self.hold, self.safe = heard, turns, hold, safe
        self.known: dict[int, float | None] = {FIRST: safe}
        for instant in range(FIRST + GRID, LAST, GRID):
            self.known[instant] = self.at(instant)

    def said(self, t: int, fallback: bool) -> tuple[int, float] | None:
        found = [(r, w) for r, f, start, end, w in self.heard if f is fallback and r <= t and start <= t < end]
        return found[-1] if found else None

    def away_since(self, t: int) -> int | None:
        past = [(since, away) for since, away in sorted(self.turns.items()) if since <= t]
        while len(past) > 1 and past[-1][1] == past[-2][1]:
            past.pop()
        return past[-1][0] if past and past[-1][1] else None

    def at(self, t: int) -> float | None:
        normal, fallback, since = self.said(t, False), self.said(t, True), self.away_since(t)
        if since is None:
            if normal:
                return normal[1]
            spoken = [u for u in range(FIRST, t, GRID) if self.said(u, False)]
            if spoken and t < spoken[-1] + GRID + self.hold:
                return self.said(spoken[-1], False)[1]
            return self.safe
        if fallback:
            limit = fallback[1]
        else:
            bare = next(u for u in range(t, since - 1, -GRID) if u == since or self.said(u - GRID, True))
            if t < bare + self.hold:
                both = [watts for watts in (self.known[bare - GRID], normal[1] if normal else None) if watts is not None]
                limit = min(both) if both else self.safe
            else:
                limit = self.safe if self.safe is not None else normal[1] if normal else None
        if normal and normal[0] >= since:
            return normal[1] if limit is None else min(limit, normal[1])
        return limit


halves = st.integers(0, 40).map(lambda n: ms("00:00") + n * GRID)
heards = st.lists(st.tuples(halves, st.booleans(), halves, st.integers(1, 8), st.sampled_from([1e3, 2e3, 3e3, 4e3])), max_size=8)


@settings(max_examples=200)
@given(heards, st.dictionaries(halves, st.booleans(), max_size=4), st.integers(0, 4), st.sampled_from([None, 1500.0]))
def test_the_course_is_what_the_rule_says_at_each_instant(
    said: list[tuple[int, bool, int, int, float]], turns: dict[int, bool], hold: int, safe: float | None
):
    heard = [
        (r, fallback, start, start + length * GRID, watts) for r, fallback, start, length, watts in sorted(said, key=lambda one: one[0])
    ]
    schedules: dict[bool, Schedule] = {False: [], True: []}
    for number, (r, fallback, start, end, watts) in enumerate(heard):
        newer = from_receipt([Span(start, end, watts, Origin(f"f{number}", "", r))])
        schedules[fallback] = splice(schedules[fallback], newer)
    links = [Link(since, away) for since, away in sorted(turns.items())]
    course = of_group(schedules[False], schedules[True], links, Ladder(hold * GRID, safe))
    assert [segment.start_ms for segment in course] == [0, *(segment.end_ms for segment in course[:-1])]
    assert course[-1].end_ms == FOREVER_MS
    plain = Plain(heard, turns, hold * GRID, safe)
    for instant, watts in plain.known.items():
        found = next(segment.limit for segment in course if segment.start_ms <= instant < segment.end_ms)
        assert (found.watts if found and found.kind is not PieceKind.UNKNOWN else None) == watts, instant
