"""Verdicts and breaches of one scope (semantics 5)."""

from datetime import timedelta

import pytest

from pipelines.records import Tick
from pipelines.rules.patience import Patience
from schemas.capacity import PieceKind
from schemas.compliance import Breach, Verdict
from schemas.connection import Event
from schemas.units import Phase
from tests.rules.judging import DAY, EXPORT, IMPORT, Scope, envelope, imports, row, states
from tests.rules.scenes import at, values


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


def test_groups_of_a_scope_are_judged_apart():
    scope = Scope()
    other = row("10:00", 6.0, id="OTHER-1")._replace(partner_id="other", tolerance=0.5)
    outs = scope.told(DAY, row("10:00", 6.0), other)
    found = [(v.group_id, v.partner_id, v.verdict.value) for v in values(outs, Verdict) if v.direction is IMPORT]
    assert found == [("VEC-0001", "vector", "BREACHED"), ("OTHER-1", "other", "WITHIN")]


def test_a_breach_of_a_group_whose_rows_stopped_is_closed_before_it_is_forgotten():
    scope = Scope()
    outs = scope.told(DAY, row("10:00", 6.0), row("10:00", 6.0, id="OTHER-1")._replace(partner_id="other"))
    assert states(outs) == [("OPENED", 1, 1), ("OPENED", 1, 1)]
    late = scope.told(row("2026-10-29T10:00:00+00:00", 1.0))
    closed = {breach.group_id: breach.state.value for breach in values(late, Breach)}
    assert closed == {"VEC-0001": "CLOSED", "OTHER-1": "CLOSED"}


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
