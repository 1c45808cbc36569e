import pickle
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipelines.records import Out, Tick
from pipelines.rules.at_risk import AtRiskRule
from pipelines.rules.compliance import ComplianceRule, GroupRow
from pipelines.rules.patience import Patience
from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.compliance import Breach, Verdict
from schemas.connection import Event
from schemas.intervals import QUARTER
from schemas.telemetry import Level, Method, QuarterHour
from schemas.units import Direction, Phase
from tests.rules.scenes import at, values

IMPORT, EXPORT = Direction.IMPORT, Direction.EXPORT


def row(start: str | datetime, import_kwh: float = 0.0, *, revision: int = 1, export_kwh: float = 0.0, **more: Any) -> GroupRow:
    began = at(start) if isinstance(start, str) else start
    plain = {
        "event_id": f"row {began} {revision}", "at": began + QUARTER + timedelta(minutes=1), "level": Level.GROUP,
        "id": "VEC-0001",
        "scope_id": "mg-1", "start": began, "import_wh": import_kwh * 1000, "export_wh": export_kwh * 1000,
        "net_wh": (import_kwh - export_kwh) * 1000, "mean_w": 0.0, "samples": 15, "coverage": 1.0, "method": Method.SUM,
        "revision": revision,
    }  # fmt: skip
    found = QuarterHour.model_validate({**plain, **more})
    return GroupRow(found, found.id if found.level is Level.GROUP else "VEC-0001", "vector", 0.0)


def running(start: str, now: str, import_kwh: float, last_kw: float | None, **more: Any) -> GroupRow:
    last_w = None if last_kw is None else last_kw * 1000
    return row(start, import_kwh, revision=0, provisional=True, at=at(now), event_id=f"running {now}", last_minute_w=last_w, **more)


def envelope(number: int, effective: str, *pieces: tuple[str, str, float], phase: Phase = Phase.ALL) -> OperatingEnvelope:
    kind, cause = PieceKind.FORECAST, f"f{number}"
    return OperatingEnvelope(
        event_id=f"envelope {number}",
        at=at(effective),
        scope_id="mg-1",
        revision=number,
        effective_at=at(effective),
        pieces=[
            EnvelopePiece(start=at(start), end=at(end), import_limit_w=kw * 1000, phase=phase, import_cause=cause, import_kind=kind)
            for start, end, kw in pieces
        ],
    )


class Scope:
    def __init__(self, patience: Patience | None = None) -> None:
        self.rule = ComplianceRule(patience) if patience else ComplianceRule()
        self.state = self.rule.start("mg-1")
        self.warning, self.warned = AtRiskRule(), AtRiskRule().start("mg-1")

    def told(self, *items: Any, now: str = "12:00") -> list[Out]:
        outs = []
        for item in items:
            self.state, self.warned = pickle.loads(pickle.dumps((self.state, self.warned)))
            outs += self.warning.step(self.warned, item, at(now))
            outs += self.rule.step(self.state, item, at(now))
        return outs


def imports(outs: list[Out]) -> list[tuple[str, str, int]]:
    found = [verdict for verdict in values(outs, Verdict) if verdict.direction is IMPORT]
    return [(f"{verdict.quarter:%H:%M}", verdict.verdict.value, verdict.revision) for verdict in found]


def states(outs: list[Out]) -> list[tuple[str, int, int]]:
    return [(breach.state.value, breach.quarters, breach.revision) for breach in values(outs, Breach)]


DAY = envelope(1, "08:00", ("08:00", "20:00", 20))


def test_a_row_is_judged_in_both_directions():
    scope = Scope()
    outs = scope.told(DAY, row("10:00", 4.0, export_kwh=1.0))
    within, unknown = values(outs, Verdict)
    assert (within.verdict, within.used_wh, within.allowed_wh, within.revision) == ("WITHIN", 4000, 5000, 1)
    assert (within.forecasts, within.reportable_forecasts, within.cause_id) == (["f1"], ["f1"], scope_row_id("10:00"))
    assert (within.partner_id, within.group_id, within.scope_id, within.at) == ("vector", "VEC-0001", "mg-1", at("12:00"))
    assert (unknown.direction, unknown.used_wh, unknown.verdict, unknown.reason) == (EXPORT, 1000, "UNKNOWN", "limit covers 0 s of 900")
    assert {out.key for out in outs} == {"VEC-0001"}


def scope_row_id(start: str) -> str:
    return row(start).row.event_id


def test_the_same_again_says_nothing():
    scope = Scope()
    scope.told(DAY, row("10:00", 4.0))
    assert scope.told(DAY, row("10:00", 4.0), row("10:00", 9.0)) == []


def test_a_changed_row_is_judged_again():
    scope = Scope()
    outs = scope.told(DAY, row("10:00", 4.0), row("10:00", 6.0, revision=2), row("10:00", 6.0, revision=3))
    assert imports(outs) == [("10:00", "WITHIN", 1), ("10:00", "BREACHED", 2)]


def test_a_changed_past_envelope_is_judged_again():
    scope = Scope()
    outs = scope.told(DAY, row("10:00", 4.0), row("10:15", 4.0), envelope(2, "10:20", ("10:20", "20:00", 2)))
    assert imports(outs) == [("10:00", "WITHIN", 1), ("10:15", "WITHIN", 1), ("10:15", "BREACHED", 2)]
    assert values(outs, Verdict)[-1].forecasts == ["f1", "f2"]
    assert values(outs, Verdict)[-1].cause_id == "envelope 2"
    assert states(outs) == [("OPENED", 1, 2)]


def test_the_envelope_before_effective_at_stays_as_it_was():
    scope = Scope()
    outs = scope.told(DAY, envelope(2, "10:07", ("10:07", "20:00", 100)), row("10:00", 10.0))
    assert values(outs, Verdict)[0].allowed_wh == pytest.approx(20_000 * 7 / 60 + 100_000 * 8 / 60)


def test_an_envelope_read_twice_after_a_restart_of_its_flow_changes_nothing():
    scope = Scope()
    newer = envelope(2, "10:00", ("10:00", "20:00", 1))
    scope.told(DAY, newer, row("10:00", 4.0))
    assert scope.told(DAY, newer) == []
    assert imports(scope.told(row("10:15", 4.0))) == [("10:15", "BREACHED", 1)]


def test_limits_of_one_phase_are_not_the_total():
    scope = Scope()
    outs = scope.told(envelope(1, "08:00", ("08:00", "20:00", 1), phase=Phase.ONE), row("10:00", 4.0))
    assert imports(outs) == [("10:00", "UNKNOWN", 1)]


def test_the_life_of_a_breach():
    scope = Scope()
    outs = scope.told(DAY, row("10:00", 6.0), row("10:15", 7.0), row("10:30", 1.0, coverage=0.1), row("10:45", 4.0))
    assert states(outs) == [("OPENED", 1, 1), ("CONTINUED", 2, 2), ("CLOSED", 2, 4)]
    closed = values(outs, Breach)[-1]
    assert (closed.first_quarter, closed.last_quarter) == (at("10:00"), at("10:15"))
    assert (closed.peak_mean_w, closed.energy_over_wh, closed.forecasts) == (28_000, 3_000, ["f1"])
    assert len({breach.breach_id for breach in values(outs, Breach)}) == 1
    assert [(event.kind, event.severity.value) for event in values(outs, Event)] == [("breach opened", "ALARM"), ("breach closed", "INFO")]
    assert values(outs, Event)[0].words == (
        "breach of VEC-0001's import limit, from 2026-10-20T10:00:00.000Z to 2026-10-20T10:15:00.000Z: "
        "1.000 kWh over, at most 24 kW on average"
    )
    outs = scope.told(row("10:00", 1.0, revision=2), row("10:15", 1.0, revision=2))
    assert states(outs) == [("CLOSED", 1, 5), ("VOIDED", 0, 6)]
    assert [event.kind for event in values(outs, Event)] == ["breach voided"]
    outs = scope.told(row("10:15", 9.0, revision=3), row("10:45", 9.0, revision=2))
    assert states(outs) == [("CLOSED", 1, 5), ("CONTINUED", 2, 6)]
    assert [event.kind for event in values(outs, Event)] == ["breach opened", "breach closed", "breach reopened"]


def test_rows_that_stop_coming_close_a_breach_after_two_hours():
    scope = Scope()
    scope.told(DAY, row("10:00", 6.0), now="10:16")
    assert scope.rule.due(scope.state) == at("12:25")  # the last row that could have continued it would be here by now
    assert scope.told(Tick(), now="12:24:59") == []
    assert states(scope.told(Tick(), now="12:25")) == [("CLOSED", 1, 2)]
    assert scope.rule.due(scope.state) is None


def test_a_breach_is_not_closed_while_old_rows_are_still_coming_in():
    scope = Scope(Patience(at("15:00"), timedelta(seconds=5)))
    scope.told(DAY, row("10:00", 6.0), now="15:00:04")
    assert scope.told(Tick(), now="15:00:06") == []
    scope.told(row("10:15", 6.0), now="15:00:08")
    assert scope.rule.due(scope.state) == at("15:00:13")
    assert states(scope.told(Tick(), now="15:00:13")) == [("CLOSED", 2, 3)]


def test_at_risk_is_said_once_when_it_becomes_true():
    scope = Scope()
    outs = scope.told(
        DAY,
        running("10:00", "10:03", 1.0, 15.0),
        running("10:00", "10:10", 3.0, 30.0),
        running("10:00", "10:11", 3.5, 30.0),
        running("10:00", "10:12", 3.6, 6.0),
        running("10:00", "10:13", 4.6, 60.0),
        running("10:15", "10:20", 3.0, 60.0),
    )
    found = values(outs, Verdict)
    assert [(v.quarter, v.revision, v.at_risk, v.verdict.value, v.cause_id) for v in found] == [
        (at("10:00"), 0, True, "UNKNOWN", "running 10:10"), (at("10:00"), 0, True, "UNKNOWN", "running 10:13"),
        (at("10:15"), 0, True, "UNKNOWN", "running 10:20"),
    ]  # fmt: skip
    assert found[0].projected_w == pytest.approx((3_000 + 30_000 * 300 / 3600) * 4)
    assert (
        values(outs, Event)[0].words
        == "the import of VEC-0001 in the quarter from 2026-10-20T10:00:00.000Z is on its way to 22 kW, above 20 kW"
    )
    assert imports(scope.told(row("10:00", 4.9)))[-1] == ("10:00", "WITHIN", 1)
    assert scope.told(running("10:00", "10:14", 9.0, 60.0)) == []  # judged already


def test_export_and_registers_are_projected_too():
    scope = Scope()
    limits = envelope(1, "08:00", ("08:00", "20:00", 20))
    both = limits.model_copy(
        update={"pieces": [limits.pieces[0].model_copy(update={"export_limit_w": 8_000.0, "export_kind": PieceKind.SAFE})]}
    )
    outs = scope.told(both, running("10:00", "10:10", 0.0, -30.0, export_kwh=1.0), running("10:15", "10:20", 3.0, None))
    assert [(v.direction, v.projected_w) for v in values(outs, Verdict)] == [
        (EXPORT, pytest.approx(14_000)),
        (IMPORT, pytest.approx(36_000)),
    ]
    assert values(outs, Verdict)[0].reportable_forecasts == []


def test_without_a_known_limit_nobody_is_warned():
    assert Scope().told(running("10:00", "10:10", 100.0, 100.0)) == []


def test_groups_of_a_scope_are_judged_apart():
    scope = Scope()
    other = row("10:00", 6.0, id="OTHER-1")._replace(partner_id="other", tolerance=0.5)
    outs = scope.told(DAY, row("10:00", 6.0), other)
    found = [(v.group_id, v.partner_id, v.verdict.value) for v in values(outs, Verdict) if v.direction is IMPORT]
    assert found == [("VEC-0001", "vector", "BREACHED"), ("OTHER-1", "other", "WITHIN")]


def test_a_limit_said_in_more_parts_is_the_same_limit():
    """An export limit that changes inside a quarter cuts the import limit in two; its energy is the same to the last digit."""
    scope = Scope()
    odd = 1_234.567
    whole = envelope(1, "08:00", ("08:00", "20:00", odd))
    cut = envelope(2, "10:00", ("10:00", "10:03:20", odd), ("10:03:20", "20:00", odd))
    first, second = (piece.model_copy(update={"import_cause": "f1"}) for piece in cut.pieces)
    told = scope.told(whole, row("10:00", 4.0))
    assert imports(told) == [("10:00", "WITHIN", 1)]
    pieces = [first, second.model_copy(update={"export_limit_w": 5_000.0, "export_kind": PieceKind.SAFE})]
    outs = scope.told(cut.model_copy(update={"pieces": pieces}))
    assert imports(outs) == []
    assert [(verdict.direction, verdict.reason) for verdict in values(outs, Verdict)] == [(EXPORT, "limit covers 700 s of 900")]


def test_a_replay_that_knows_the_envelopes_first_says_the_same_facts():
    """A flow that lagged behind saw the envelope only after the row; one that reads everything again does not."""
    late = envelope(2, "10:07", ("10:07", "20:00", 1)).model_copy(update={"at": at("10:40")})
    rows = row("10:00", 4.0), row("10:00", 4.5, revision=2)
    live, replay = Scope().told(DAY, rows[0], late, rows[1]), Scope().told(DAY, late, *rows)
    assert imports(live) == [("10:00", "WITHIN", 1), ("10:00", "BREACHED", 2), ("10:00", "BREACHED", 3)]
    assert imports(replay) == [("10:00", "BREACHED", 2), ("10:00", "BREACHED", 3)]
    assert {verdict.event_id for verdict in values(replay, Verdict)} < {verdict.event_id for verdict in values(live, Verdict)}


def test_envelopes_told_again_by_a_flow_that_begins_anew_judge_nothing_again():
    """It says all it ever said, from its first revision on; what those said about the past was long replaced."""
    scope = Scope()
    story = [envelope(n + 1, f"08:{n:02}" if n < 60 else f"09:{n - 60:02}", ("08:00", "20:00", 20 if n > 97 else 1)) for n in range(100)]
    scope.told(*story, row("10:00", 4.0), row("10:15", 4.0))
    assert scope.told(*story) == []
    assert imports(scope.told(row("10:30", 4.0))) == [("10:30", "WITHIN", 1)]


def test_at_risk_is_said_once_while_the_rows_of_two_quarters_come_in_turns():
    scope = Scope()
    outs = scope.told(
        DAY,
        running("10:00", "10:13", 6.0, 30.0),
        running("10:15", "10:16", 0.1, 6.0),
        running("10:00", "10:16", 6.1, 30.0),
        running("10:15", "10:17", 0.2, 6.0),
        running("10:00", "10:17", 6.2, 30.0),
    )
    assert [verdict.cause_id for verdict in values(outs, Verdict)] == ["running 10:13"]


def meter(start: str, phase: Phase, import_kwh: float, *, revision: int = 1, **more: Any) -> GroupRow:
    found = row(start, import_kwh, revision=revision, level=Level.ASSET, id="mg-1-grid", phase=phase, **more)
    return found._replace(row=found.row.model_copy(update={"event_id": f"{found.row.event_id} {phase}"}))


def per_phase(number: int, kw: float, one_kw: float) -> OperatingEnvelope:
    whole, one = envelope(number, "08:00", ("08:00", "20:00", kw)), envelope(number, "08:00", ("08:00", "20:00", one_kw), phase=Phase.ONE)
    return whole.model_copy(update={"pieces": [*whole.pieces, *one.pieces]})


def phased(outs: list[Out]) -> list[tuple[str, str, str, int]]:
    found = [verdict for verdict in values(outs, Verdict) if verdict.phase is not Phase.ALL]
    return [(f"{v.quarter:%H:%M}", v.phase.value, v.verdict.value, v.revision) for v in found]


def test_a_single_phase_is_judged_where_it_is_limited_and_measured():
    scope = Scope()
    outs = scope.told(per_phase(1, 30, 8), row("10:00", 6.0), *(meter("10:00", phase, 2.1) for phase in Phase if phase is not Phase.ALL))
    assert imports(outs[:2]) == [("10:00", "WITHIN", 1)]
    assert phased(outs) == [("10:00", "ONE", "BREACHED", 1)]
    breach, opened = values(outs, Breach)[0], values(outs, Event)[0]
    assert (breach.phase, breach.quarters, breach.energy_over_wh, breach.group_id) == (Phase.ONE, 1, pytest.approx(100), "VEC-0001")
    assert "breach of VEC-0001's import limit on phase one, from 2026-10-20T10:00:00.000Z" in opened.words
    outs = scope.told(row("10:15", 8.0), meter("10:15", Phase.ONE, 1.0), meter("10:15", Phase.TWO, 99.0))
    assert [(b.phase.value, b.state.value) for b in values(outs, Breach)] == [("ALL", "OPENED"), ("ONE", "CLOSED")]
    assert len({out.value.event_id for out in outs}) == len(outs)


def test_the_facts_of_the_whole_connection_are_named_as_if_there_were_no_phases():
    plain, both = (Scope().told(*story, row("10:00", 9.0), row("10:15", 1.0)) for story in ([DAY], [per_phase(1, 20, 8)]))
    assert [out.value.event_id for out in plain] == [out.value.event_id for out in both]


def test_a_phase_limit_that_comes_late_is_judged_and_one_that_goes_is_taken_back():
    scope = Scope()
    assert phased(scope.told(DAY, meter("10:00", Phase.ONE, 2.1), meter("10:15", Phase.TWO, 2.1))) == []
    late = per_phase(2, 20, 8)
    assert phased(scope.told(late)) == [("10:00", "ONE", "BREACHED", 1)]
    gone = envelope(3, "10:00", ("10:00", "20:00", 20))
    outs = scope.told(gone)
    assert phased(outs) == [("10:00", "ONE", "UNKNOWN", 2)]
    assert states(outs)[-1] == ("VOIDED", 0, 2)


def test_a_phase_that_is_not_limited_is_remembered_only_as_long_as_a_limit_may_be_late():
    scope = Scope()
    start = at("2026-10-20T00:00+00:00")
    for n in range(96):
        scope.told(meter((start + n * QUARTER).isoformat(), Phase.ONE, 2.1))
    assert len(scope.state.groups["VEC-0001"].accounts[Phase.ONE].quarters) == 25


def test_a_phase_at_risk_is_said():
    scope = Scope()
    running_one = {"revision": 0, "provisional": True, "at": at("10:10"), "last_minute_w": 9_000.0}
    outs = scope.told(per_phase(1, 30, 8), meter("10:00", Phase.ONE, 1.4, **running_one), meter("10:00", Phase.TWO, 1.4, **running_one))
    (verdict,) = values(outs, Verdict)
    assert (verdict.phase, verdict.at_risk, verdict.group_id, verdict.projected_w) == (Phase.ONE, True, "VEC-0001", pytest.approx(8_600))
    assert "the import of VEC-0001 on phase one in the quarter" in values(outs, Event)[0].words


def test_two_groups_of_a_scope_hear_of_its_phases():
    scope = Scope()
    one = meter("10:00", Phase.ONE, 3.0)
    outs = scope.told(per_phase(1, 30, 8), one, one._replace(group_id="OTHER-1", partner_id="other"))
    assert [(b.group_id, b.partner_id) for b in values(outs, Breach)] == [("VEC-0001", "vector"), ("OTHER-1", "other")]


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
