"""The flow `compliance`: rows and envelopes in, verdicts, breaches and events out, the same after a crash (semantics 5)."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from bytewax.visualize import to_rendered

from pipelines.compliance import BARRIER, READS, Concerned, compliance_flow
from pipelines.records import Out, Record, Unreadable
from pipelines.rules.compliance import GroupRow
from pipelines.views import FixedView
from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.clock import FrozenClock
from schemas.compliance import Breach, Verdict
from schemas.facts import Value
from schemas.intervals import QUARTER
from schemas.telemetry import Level, Method, Origin, QuarterHour
from schemas.topics import BREACHES, COMPLIANCE, DEAD_LETTERS, ENVELOPES, EVENTS, QUARTER_HOURS
from schemas.units import Direction, Phase
from tests.builders import T0, Applied, configuration


def row(number: int, import_wh: float, *, revision: int = 1, **more: Any) -> QuarterHour:
    plain = {
        "event_id": f"row {number} {revision}", "at": T0 + (number + 1) * QUARTER, "level": Level.GROUP, "id": "VEC-0001",
        "scope_id": "mg-1", "start": T0 + number * QUARTER, "import_wh": import_wh, "export_wh": 0.0, "net_wh": import_wh,
        "mean_w": import_wh * 4, "samples": 15, "coverage": 1.0, "method": Method.METER, "revision": revision,
    }  # fmt: skip
    return QuarterHour.model_validate({**plain, **more})


def envelope(number: int, import_w: float) -> OperatingEnvelope:
    start = T0 + number * QUARTER
    piece = EnvelopePiece(
        start=start, end=T0 + timedelta(days=1), import_limit_w=import_w, import_kind=PieceKind.FORECAST, import_cause=f"f{number}"
    )
    return OperatingEnvelope(
        event_id=f"envelope {number}", at=start, scope_id="mg-1", revision=number + 1, effective_at=start, pieces=[piece]
    )


def polls(*values: Value | Unreadable) -> list[Any]:
    topics = {OperatingEnvelope: ENVELOPES}
    return [[Record(topics.get(type(value), QUARTER_HOURS).name, 0, n, T0, "key", value)] for n, value in enumerate(values)]


def flow(fed: list[Any], out: list[Out]) -> Dataflow:
    clock = FrozenClock(T0 + timedelta(hours=1))
    return compliance_flow(records=TestingSource(fed), out=TestingSink(out), clock=clock, config=FixedView(configuration()))


def run(*values: Value | Unreadable) -> list[Out]:
    out: list[Out] = []
    run_main(flow(polls(*values), out))
    return out


STORY = (
    envelope(0, 20_000.0),
    row(0, 4_000.0),
    row(1, 6_000.0),
    envelope(2, 10_000.0),
    row(2, 4_000.0),
    row(3, 1_000.0),
    row(1, 5_000.0, revision=2),
)


def test_rows_are_judged_and_breaches_told():
    out = run(*STORY)
    verdicts = [item.value for item in out if isinstance(item.value, Verdict) and item.value.direction is Direction.IMPORT]
    assert [(v.verdict.value, v.allowed_wh, v.revision) for v in verdicts] == [
        ("WITHIN", 5_000, 1), ("BREACHED", 5_000, 1), ("BREACHED", 2_500, 1), ("WITHIN", 2_500, 1), ("WITHIN", 5_000, 2),
    ]  # fmt: skip
    breaches = [item.value for item in out if isinstance(item.value, Breach)]
    assert [(b.state.value, b.quarters, b.forecasts, b.revision) for b in breaches] == [
        ("OPENED", 1, ["f0"], 1), ("CONTINUED", 2, ["f0", "f2"], 2), ("CLOSED", 2, ["f0", "f2"], 3), ("CLOSED", 1, ["f2"], 4),
    ]  # fmt: skip
    assert {(item.topic, item.key) for item in out} == {(COMPLIANCE, "VEC-0001"), (BREACHES, "VEC-0001"), (EVENTS, "mg-1")}


def test_what_is_no_row_of_a_known_group_is_left_alone():
    out = run(
        row(0, 1.0, level=Level.ASSET, id="mg-1-grid"),
        row(0, 1.0, id="VEC-9"),
        row(0, 1.0, phase=Phase.ONE),
        Unreadable("no known prefix", b"x"),
    )
    assert [item.topic for item in out] == [DEAD_LETTERS]


def phase_envelope(import_w: float) -> OperatingEnvelope:
    (piece,) = envelope(0, import_w).pieces
    return envelope(0, import_w).model_copy(update={"pieces": [piece.model_copy(update={"phase": Phase.ONE})]})


def test_the_connection_meters_phases_are_judged():
    one = {"level": Level.ASSET, "phase": Phase.ONE}
    out = run(
        phase_envelope(8_000.0),
        row(0, 3_000.0, id="mg-1-grid", **one),
        row(1, 3_000.0, id="mg-1-pv", **one),
        row(1, 3_000.0, id="mg-1-grid", level=Level.ASSET),
        row(1, 3_000.0, id="mg-1-grid", **{**one, "scope_id": "mg-2"}),
        row(1, 1_000.0, id="mg-1-grid", **one),
    )
    verdicts = [item.value for item in out if isinstance(item.value, Verdict)]
    assert [(v.group_id, v.phase.value, v.verdict.value, v.used_wh) for v in verdicts] == [
        ("VEC-0001", "ONE", "BREACHED", 3_000), ("VEC-0001", "ONE", "WITHIN", 1_000),
    ]  # fmt: skip
    assert {(item.topic, item.key) for item in out} == {(COMPLIANCE, "VEC-0001"), (BREACHES, "VEC-0001"), (EVENTS, "mg-1")}


def test_a_meter_of_before_measures_the_quarters_of_its_time():
    applied, mark = Applied(), T0 + 2 * QUARTER
    old, new = ({"id": name, "scope_id": "mg-1", "category": "CONSUMPTION", "connection_meter": True} for name in ("old", "new"))
    applied.apply(configuration(assets=[old]), T0 - timedelta(days=1))
    moved = applied.apply(configuration(assets=[{**old, "connection_meter": False}, new]), mark)
    index = Concerned(FixedView(moved))
    rows = [row(n, 1.0, id=name, level=Level.ASSET, phase=Phase.TWO) for n in (0, 5) for name in ("old", "new")]
    found = [[item.row.id for _, item in index.items(Record(QUARTER_HOURS.name, 0, 0, T0, "k", each))] for each in rows]
    assert found[:1] == [["old"]]
    assert found[2:] == [[], ["new"]]


def test_a_quarter_is_judged_by_the_envelope_of_the_scope_it_was_measured_in():
    """The group was bound to another scope since; its terms are those of now."""
    out = run(envelope(0, 20_000.0).model_copy(update={"scope_id": "mg-0"}), envelope(0, 4_000.0), row(0, 4_000.0, scope_id="mg-0"))
    verdict = next(item.value for item in out if isinstance(item.value, Verdict))
    assert (verdict.scope_id, verdict.verdict.value) == ("mg-0", "WITHIN")


def test_rows_are_judged_as_far_back_as_the_partner_is_told():
    horizon = {"id": "vector", "name": "Vector", "measurements": {"report_horizon": "P1D"}}
    view = FixedView(configuration(partners=[horizon]))
    ((_, item),) = Concerned(view).items(Record(QUARTER_HOURS.name, 0, 0, T0, "k", row(0, 1.0)))
    assert isinstance(item, GroupRow)
    assert item.reach == timedelta(days=1)


def test_repaired_rows_are_judged_and_those_of_a_backfill_are_not():
    out = run(envelope(0, 20_000.0), row(0, 6_000.0, origin=Origin.BACKFILL), row(0, 4_000.0, revision=2, origin=Origin.REPAIR))
    verdicts = [item.value for item in out if isinstance(item.value, Verdict) and item.value.direction is Direction.IMPORT]
    assert [(v.verdict.value, v.used_wh) for v in verdicts] == [("WITHIN", 4_000)]


@pytest.mark.parametrize("crash", [2, 3, 5])
def test_a_crash_anywhere_changes_nothing_that_is_told(tmp_path: Path, crash: int):
    whole = run(*STORY)
    init_db_dir(tmp_path, 1)
    recovery, parts = RecoveryConfig(str(tmp_path)), []
    fed = polls(*STORY)
    broken = [*fed[:crash], TestingSource.ABORT(), *fed[crash:]]
    for _ in range(2):
        run_main(flow(broken, parts), epoch_interval=timedelta(0), recovery_config=recovery)
    assert {(item.topic.name, item.value.event_id) for item in parts} == {(item.topic.name, item.value.event_id) for item in whole}


def test_step_ids_are_recovery_keys():
    ids = {operator.step_id for operator in to_rendered(flow([], [])).substeps}
    assert ids == {f"compliance.{name}" for name in (
        "in", "in_each", "in_readable", "in_dead", "items", "at_risk_pair", "at_risk", "at_risk_value", "final",
        "compliance_pair", "compliance", "compliance_value", "outs", "out",
    )}  # fmt: skip


def test_envelopes_are_read_first():
    assert set(BARRIER) < set(READS)
