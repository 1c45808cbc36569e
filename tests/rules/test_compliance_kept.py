"""How far back quarters are judged again, and what that takes (semantics 5)."""

import pickle
from datetime import datetime, timedelta

from pipelines.records import Out
from schemas.capacity import OperatingEnvelope
from schemas.compliance import Breach, Verdict
from schemas.connection import Event
from schemas.intervals import QUARTER
from tests.rules.judging import IMPORT, Scope, envelope, imports, row
from tests.rules.scenes import at, values


def day_ahead(day: datetime, number: int, blocks: int = 96) -> OperatingEnvelope:
    """What a forecast of a whole day makes of the envelope: its blocks from midnight on, each with another limit."""
    length = timedelta(days=1) / blocks
    pieces = [(day + n * length, day + (n + 1) * length, 20 + 0.37 * (n + number)) for n in range(blocks)]
    return envelope(number, f"{day.isoformat()}", *((start.isoformat(), end.isoformat(), kw) for start, end, kw in pieces))


def weeks(days: int, reach: timedelta) -> tuple[Scope, list[Out]]:
    """Quarters of some days against day-ahead forecasts of 96 blocks, each received a day before; two breaches a day."""
    scope, outs = Scope(), []
    start = at("2026-10-01T00:00+00:00")
    scope.told(day_ahead(start, 1), now="2026-09-30T12:00+00:00")
    for n in range(days * 96):
        if n % 96 == 48:
            outs += scope.told(day_ahead(start + timedelta(days=n // 96 + 1), n // 96 + 2))
        kwh = 99.0 if n % 48 == 40 else 4.0 + n % 7 * 0.01
        item = row(start + n * QUARTER, kwh)._replace(reach=reach)
        outs += list(scope.rule.step(scope.state, item, start + (n + 1) * QUARTER))
    return scope, outs


def test_the_state_of_a_group_is_small_also_with_a_week_of_quarters():
    for reach, kib in ((timedelta(days=1), 6), (timedelta(days=7), 20)):
        scope, _ = weeks(9, reach)
        assert len(pickle.dumps(scope.state, protocol=5)) < kib * 1024
        back = pickle.loads(pickle.dumps(scope.state, protocol=5))
        assert back == scope.state


def test_a_repair_of_a_week_is_judged_and_what_is_older_is_told_once_a_day():
    scope, outs = weeks(9, timedelta(days=7))
    before = {verdict.quarter: verdict for verdict in values(outs, Verdict) if verdict.direction is IMPORT}
    start = at("2026-10-01T00:00+00:00")
    repaired = [row(start + n * QUARTER, 0.5, revision=2) for n in range(9 * 96)]
    outs = scope.told(*repaired, now="2026-10-10T00:00+00:00")
    verdicts = [verdict for verdict in values(outs, Verdict) if verdict.direction is IMPORT]
    assert [(v.quarter, v.verdict, v.revision) for v in verdicts] == [
        (start + n * QUARTER, "WITHIN", 2) for n in range(9 * 96) if n >= 9 * 96 - 1 - (7 * 24 + 2) * 4
    ]
    assert all(v.allowed_wh == before[v.quarter].allowed_wh for v in verdicts)
    assert {breach.state for breach in values(outs, Breach)} == {"VOIDED"}
    late = [event for event in values(outs, Event) if event.kind == "row not judged"]
    assert [event.words[:32] for event in late] == ["rows of VEC-0001 of 2026-10-01 (", "rows of VEC-0001 of 2026-10-02 ("]


def test_what_is_kept_for_warnings_is_small_and_forgets_scopes_without_rows():
    start, scope = at("2026-10-01T00:00+00:00"), Scope()
    for day in range(40):
        scope.told(day_ahead(start + timedelta(days=day), day + 1))
    assert len(pickle.dumps(scope.warned)) < 4 * 1024
    assert len(pickle.dumps(scope.state)) < 48 * 1024
    assert imports(scope.told(row(start + timedelta(days=3), 4.0))) == []  # read again, long after it was judged
    assert imports(scope.told(row(start + timedelta(days=30), 4.0))) == [("00:00", "WITHIN", 1)]


def test_one_breach_over_more_than_is_kept_stays_one():
    scope, start, told = Scope(), at("2026-10-01T00:00+00:00"), []
    ends = [f"2026-10-{n:02}T00:00+00:00" for n in range(1, 10)]
    for n in range(8 * 96):
        if n % 96 == 0:
            scope.told(envelope(n // 96 + 1, ends[n // 96], (ends[n // 96], ends[n // 96 + 1], 20)))
        told += values(scope.told(row(start + n * QUARTER, 6.0)._replace(reach=timedelta(days=1))), Breach)
    assert len({breach.breach_id for breach in told}) == 1
    assert (told[-1].quarters, told[-1].first_quarter, told[-1].forecasts) == (768, start, [f"f{n + 1}" for n in range(8)])
