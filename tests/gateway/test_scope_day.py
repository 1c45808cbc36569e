"""A scope's calendar day as a pure value: its bounds where clocks change, what its quarters say, and how two sources become one."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.day_drawing import day_drawing, legend_of, quarter_words
from gateway.day_words import day_page
from gateway.outlook import Outlook
from gateway.picture import Picture
from gateway.projection import fold
from gateway.scope_day import DayFacts, DayView, QuarterState, both, day_bounds, day_view, live_facts
from schemas.capacity import PieceKind
from schemas.compliance import Breach, BreachState, Verdict, VerdictKind
from schemas.config import Configuration
from schemas.facts import Value, derived_id
from schemas.intervals import QUARTER, quarters
from schemas.telemetry import QuarterHour
from schemas.units import Direction, Phase
from tests.gateway.facts import envelope, piece, record, row

HOUR = timedelta(hours=1)
PARIS = ZoneInfo("Europe/Paris")


def configuration(zone: str) -> Configuration:
    return Configuration.model_validate(
        {
            "scopes": [{"id": "sceaux-house", "name": "House", "time_zone": zone}],
            "partners": [{"id": "vector"}],
            "groups": [{"partner_id": "vector", "group_id": "VEC-0001", "scope_id": "sceaux-house"}],
            "assets": [{"id": "pv", "scope_id": "sceaux-house", "category": "GENERATION"}],
        }
    )


def outlook(values: Sequence[Value], now: datetime, zone: str = "Europe/Paris") -> Outlook:
    picture, config = Picture(), configuration(zone)
    for offset, value in enumerate(values):
        fold(picture, record(value, offset))
    return Outlook(picture, config, config.scopes[0], now)


def day_of(values: Sequence[Value], day: date, now: datetime, zone: str = "Europe/Paris") -> DayView:
    found = outlook(values, now, zone)
    return day_view(found, day, live_facts(found, *day_bounds(day, ZoneInfo(zone))))


def verdict(quarter: datetime, kind: VerdictKind, direction: Direction = Direction.IMPORT, **changes: object) -> Verdict:
    plain = {
        "event_id": derived_id(quarter, direction, changes.get("revision", 1)),
        "at": quarter + QUARTER,
        "partner_id": "vector",
        "group_id": "VEC-0001",
        "scope_id": "sceaux-house",
        "quarter": quarter,
        "direction": direction,
        "verdict": kind,
        "used_wh": 300.0,
        "allowed_wh": 250.0,
        "revision": 1,
    }
    return Verdict.model_validate({**plain, **changes})


def breach(first: datetime, count: int, **changes: object) -> Breach:
    plain = {
        "event_id": derived_id("b", first, changes.get("revision", 1)),
        "at": first + count * QUARTER,
        "breach_id": derived_id("breach", first),
        "partner_id": "vector",
        "group_id": "VEC-0001",
        "scope_id": "sceaux-house",
        "direction": Direction.IMPORT,
        "state": BreachState.CLOSED,
        "first_quarter": first,
        "last_quarter": first + (count - 1) * QUARTER,
        "quarters": count,
        "peak_mean_w": 1500.0,
        "energy_over_wh": 120.0,
        "revision": 1,
    }
    return Breach.model_validate({**plain, **changes})


@pytest.mark.parametrize(
    ("zone", "day", "count", "first"),
    [
        ("Europe/Paris", date(2026, 3, 29), 92, "2026-03-28T23:00"),
        ("Europe/Paris", date(2026, 10, 25), 100, "2026-10-24T22:00"),
        ("Europe/Paris", date(2026, 10, 26), 96, "2026-10-25T23:00"),
        ("Pacific/Auckland", date(2026, 9, 27), 92, "2026-09-26T12:00"),
        ("Pacific/Auckland", date(2026, 4, 5), 100, "2026-04-04T11:00"),
        ("Australia/Lord_Howe", date(2026, 10, 4), 94, "2026-10-03T13:30"),
        ("Australia/Lord_Howe", date(2026, 4, 5), 98, "2026-04-04T13:00"),
        ("Asia/Kolkata", date(2026, 5, 5), 96, "2026-05-04T18:30"),
        ("Africa/Cairo", date(2026, 4, 24), 92, "2026-04-23T22:00"),  # the clocks are put on at midnight
        ("Pacific/Apia", date(2011, 12, 30), 0, "2011-12-30T10:00"),  # skipped by the calendar
    ],
)
def test_a_day_goes_from_local_midnight_to_local_midnight(zone: str, day: date, count: int, first: str) -> None:
    start, end = day_bounds(day, ZoneInfo(zone))
    assert start == datetime.fromisoformat(first).replace(tzinfo=UTC)
    starts = list(quarters(start, end))
    view = day_of([row(at, 1.0) for at in starts], day, end + HOUR, zone)
    assert [quarter.start for quarter in view.quarters] == starts
    assert len(starts) == count
    assert {at.astimezone(ZoneInfo(zone)).date() for at in starts} <= {day}
    assert view.closed == count
    assert view.import_wh == pytest.approx(250.0 * count)


def test_days_out_of_range_are_refused_with_words() -> None:
    with pytest.raises(ValueError, match="write a day from 1971-01-01"):
        day_bounds(date(9999, 12, 31), PARIS)


def test_an_hour_that_comes_twice_is_told_apart() -> None:
    first = datetime(2026, 10, 25, 0, 15, tzinfo=UTC)
    assert quarter_words(first, PARIS) == "02:15–02:30 (+02)"
    assert quarter_words(first + HOUR, PARIS) == "02:15–02:30 (+01)"
    assert quarter_words(first + 2 * HOUR, PARIS) == "03:15–03:30"


MIDNIGHT = datetime(2026, 5, 4, 22, 0, tzinfo=UTC)
DAY = date(2026, 5, 5)


def test_each_quarter_says_how_far_it_has_come() -> None:
    now = MIDNIGHT + 4 * QUARTER + timedelta(minutes=5)
    values = [
        envelope(1, MIDNIGHT, [piece(MIDNIGHT - HOUR, MIDNIGHT + 30 * HOUR, 1, 2, "f1")]),
        row(MIDNIGHT - QUARTER, 9.0),
        row(MIDNIGHT, 1.2, coverage=0.8, revision=3),
        verdict(MIDNIGHT, VerdictKind.BREACHED, forecasts=["f1"], used_wh=300, allowed_wh=250),
        verdict(MIDNIGHT, VerdictKind.UNKNOWN, Direction.EXPORT, allowed_wh=None, reason="limit covers 60 s of 900"),
        row(MIDNIGHT + 3 * QUARTER, 0.5, provisional=True, revision=0, at=MIDNIGHT + 4 * QUARTER),
        row(MIDNIGHT + 4 * QUARTER, 0.4, provisional=True, revision=0, at=now, last_minute_w=3000.0),
        verdict(MIDNIGHT + 4 * QUARTER, VerdictKind.UNKNOWN, revision=0, at_risk=True, projected_w=2400.0),
    ]
    view = day_of(values, DAY, now)
    states = [quarter.state for quarter in view.quarters[:6]]
    S = QuarterState  # noqa: N806 - a short name for the line below
    assert states == [S.CLOSED, S.MISSING, S.MISSING, S.UNCLOSED, S.RUNNING, S.AHEAD]
    first, running, ahead = view.quarters[0], view.quarters[4], view.quarters[5]
    assert (first.imports.used_wh, first.imports.allowed_wh, first.imports.verdict) == (300.0, 250.0, VerdictKind.BREACHED)
    assert (first.coverage, first.revision) == (0.8, 3)
    assert (first.exports.verdict, first.exports.reason, first.exports.allowed_wh) == (
        VerdictKind.UNKNOWN,
        "limit covers 60 s of 900",
        500.0,
    )
    assert (running.imports.at_risk, running.imports.projected_w, running.imports.verdict) == (True, 2400.0, None)
    assert (ahead.imports.used_wh, ahead.imports.allowed_wh, ahead.imports.forecasts) == (None, 250.0, ("f1",))
    assert (view.closed, view.import_wh) == (1, 300.0)
    assert (view.pieces[0].start, view.pieces[-1].end) == (MIDNIGHT, MIDNIGHT + 24 * HOUR)


def test_a_quarter_with_two_limits_names_both_kinds_and_their_mean() -> None:
    change = MIDNIGHT + timedelta(minutes=5)
    held = piece(change, MIDNIGHT + HOUR, 4, None, "f2").model_copy(update={"import_kind": PieceKind.HELD})
    view = day_of([envelope(1, MIDNIGHT, [piece(MIDNIGHT, change, 1, None, "f1"), held])], DAY, MIDNIGHT)
    found = view.quarters[0].imports
    assert found.kinds == (PieceKind.FORECAST, PieceKind.HELD)
    assert found.forecasts == ("f1", "f2")
    assert found.allowed_wh == pytest.approx((1000 * 300 + 4000 * 600) / 3600)
    assert view.quarters[0].exports.allowed_wh is None
    assert view.quarters[4].imports.allowed_wh is None


def test_the_history_completes_the_picture_and_the_newer_revision_wins() -> None:
    known, newer = row(MIDNIGHT, 1.0, revision=2), row(MIDNIGHT + QUARTER, 2.0, revision=1)
    live = DayFacts(
        rows={newer.start: newer, known.start: row(MIDNIGHT, 5.0, revision=1)},
        pieces=[piece(MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR, 2, None, "new")],
        breaches=[breach(MIDNIGHT, 2, revision=4)],
    )
    stored = DayFacts(
        rows={known.start: known},
        verdicts={(MIDNIGHT, Direction.IMPORT): verdict(MIDNIGHT, VerdictKind.WITHIN)},
        pieces=[piece(MIDNIGHT, MIDNIGHT + 2 * HOUR, 1, None, "old")],
        breaches=[breach(MIDNIGHT, 1, revision=3), breach(MIDNIGHT + 5 * HOUR, 1)],
    )
    found = both(live, stored)
    assert {start: energy.import_wh for start, energy in found.rows.items()} == {known.start: 250.0, newer.start: 500.0}
    assert [(one.start, one.end, one.cause) for one in found.pieces] == [
        (MIDNIGHT, MIDNIGHT + HOUR, "old"),
        (MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR, "new"),
    ]
    assert [(one.quarters, one.revision) for one in found.breaches] == [(2, 4), (1, 1)]
    assert list(found.verdicts) == [(MIDNIGHT, Direction.IMPORT)]


def test_single_conductors_stand_apart_from_the_whole() -> None:
    values = [row(MIDNIGHT, 1.0), verdict(MIDNIGHT, VerdictKind.BREACHED, phase=Phase.TWO), verdict(MIDNIGHT, VerdictKind.WITHIN)]
    view = day_of(values, DAY, MIDNIGHT + HOUR)
    assert view.quarters[0].imports.verdict is VerdictKind.WITHIN
    assert [(one.phase, one.verdict) for one in view.phases] == [(Phase.TWO, VerdictKind.BREACHED)]


def test_the_drawing_marks_what_a_person_looks_for() -> None:
    values: list[Value] = [
        envelope(1, MIDNIGHT, [piece(MIDNIGHT, MIDNIGHT + 30 * HOUR, 1, 1, "f1")]),
        *(row(MIDNIGHT + k * QUARTER, 1.2, coverage=0.9 if k == 3 else 1.0) for k in (0, 1, 3)),
        verdict(MIDNIGHT, VerdictKind.BREACHED),
        verdict(MIDNIGHT + QUARTER, VerdictKind.BREACHED),
        breach(MIDNIGHT - QUARTER, 3),
        breach(MIDNIGHT + 9 * QUARTER, 1, state=BreachState.VOIDED),
    ]
    found = outlook(values, MIDNIGHT + 5 * QUARTER + timedelta(minutes=1))
    facts = live_facts(found, *day_bounds(DAY, PARIS))
    view = day_view(found, DAY, facts)
    shown = day_drawing(view, "House", gives=True)
    assert [bar.look for bar in shown.bars] == ["breached", "breached", "partial"]
    assert shown.missing == [MIDNIGHT + 2 * QUARTER, MIDNIGHT + 4 * QUARTER]
    assert [(band.start, band.end) for band in shown.bands] == [(MIDNIGHT, MIDNIGHT + 2 * QUARTER)]
    assert "over the limit of 1.00\u00a0kW" in shown.bars[0].words
    assert set(legend_of(view, shown)) == {"breached", "partial", "missing", "band", "limit-forecast"}
    page = day_page(found, view, facts)
    assert page.import_sum == "0.900\u00a0kWh"
    assert page.summed == "3 of 96 quarter hours closed"
    assert [each.state.words for each in page.breaches] == ["closed", "voided"]
    assert (page.earlier, page.later, page.today) == ("2026-05-04", "2026-05-06", True)


def test_days_without_anything_say_why() -> None:
    def nothing(day: date, zone: str = "Europe/Paris", *values: Value) -> str:
        found = outlook(values, MIDNIGHT, zone)
        facts = live_facts(found, *day_bounds(day, ZoneInfo(zone)))
        return day_page(found, day_view(found, day, facts), facts).nothing

    assert nothing(date(2011, 12, 30), "Pacific/Apia") == "There was no such day in Pacific/Apia: the calendar skipped it."
    assert nothing(date(2027, 1, 1)).startswith("This day has not begun")
    assert nothing(date(2026, 1, 1)) == "Neither readings nor limits are known of this day."


def test_rows_stay_what_they_are() -> None:
    """The facts given are not changed: they are shared by all who look at the picture."""
    given: dict[datetime, QuarterHour] = {MIDNIGHT: row(MIDNIGHT, 1.0)}
    both(DayFacts(rows=given), DayFacts(rows={MIDNIGHT: row(MIDNIGHT, 2.0, revision=5)}))
    assert given[MIDNIGHT].import_wh == 250.0
