"""The warning inside the quarter (semantics 5)."""

import pytest

from schemas.capacity import PieceKind
from schemas.compliance import Verdict
from schemas.connection import Event
from tests.rules.judging import DAY, EXPORT, IMPORT, Scope, envelope, imports, row, running
from tests.rules.scenes import at, values


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
