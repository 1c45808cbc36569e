"""Single conductors, judged where the connection meter measures them (semantics 5)."""

from typing import Any

import pytest

from pipelines.records import Out
from pipelines.rules.compliance import GroupRow
from schemas.capacity import OperatingEnvelope
from schemas.compliance import Breach, Verdict
from schemas.connection import Event
from schemas.intervals import QUARTER
from schemas.telemetry import Level
from schemas.units import Phase
from tests.rules.judging import DAY, Scope, envelope, imports, row, states
from tests.rules.scenes import at, values


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
