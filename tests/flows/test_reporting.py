"""Flow `reporting`: what it reads becomes messages and events, in the engine, with recovery."""

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.records import Out, Record, Unreadable
from pipelines.reporting import BARRIER, READS, reporting_flow, waits_of
from pipelines.views import FixedView
from schemas.adjustment import Adjustment, AdjustmentState
from schemas.clock import FrozenClock
from schemas.compliance import Verdict, VerdictKind
from schemas.connection import Command, CommandKind, Connection, ConnectionState, Event, InboundMessage
from schemas.facts import Value, digest
from schemas.intervals import QUARTER
from schemas.outbound import DeadLetter, Delivery, OutboundMessage, Outcome
from schemas.telemetry import Level, Method, Origin, QuarterHour
from schemas.topics import ADJUSTMENTS, COMMANDS, COMPLIANCE, CONNECTIONS, DELIVERIES, EVENTS, INBOUND, OUTBOUND, QUARTER_HOURS, Topic
from schemas.units import Direction
from tests.builders import T0, configuration

CONFIG = configuration(
    scopes=[{"id": f"mg-{n}"} for n in (1, 2)],
    assets=[{"id": f"mg-{n}-pv", "scope_id": f"mg-{n}", "category": "GENERATION"} for n in (1, 2)],
    circuits=[],
    groups=[{"partner_id": "vector", "group_id": f"VEC-{n}", "scope_id": f"mg-{n}"} for n in (1, 2)],
)


def record(topic: Topic, value: Value | Unreadable, offset: int = 0) -> Record:
    return Record(topic.name, 0, offset, T0, "key", value)


def row(level: Level, scope: int, quarter: int = 0, **changes: Any) -> Record:
    identity = f"mg-{scope}-pv" if level is Level.ASSET else f"VEC-{scope}"
    start = T0 + quarter * QUARTER
    plain: dict[str, Any] = {
        "event_id": f"{identity}-{quarter}", "at": start + timedelta(minutes=16), "level": level, "id": identity,
        "scope_id": f"mg-{scope}", "start": start, "import_wh": 0, "export_wh": 1500.0, "net_wh": -1500.0, "mean_w": -6000.0,
        "samples": 15, "coverage": 1.0, "method": Method.SUM if level is Level.GROUP else Method.POWER, "revision": 1,
    }  # fmt: skip
    return record(QUARTER_HOURS, QuarterHour.model_validate({**plain, **changes}))


def online() -> Record:
    value = Connection(
        event_id="c", at=T0, partner_id="vector", state=ConnectionState.ONLINE, since=T0, first_acknowledged_at=T0
    )  # fmt: skip
    return record(CONNECTIONS, value)


def forecast() -> Record:
    block = {"capacity": 5.0, "phase": "ALL", "unit": "KW", "start_time": T0.isoformat(), "end_time": (T0 + QUARTER).isoformat()}
    body = json.dumps({"group_id": "VEC-2", "type": "GENERATION", "forecasted_blocks": [block]})
    value = InboundMessage(
        event_id="f-1", at=T0, partner_id="vector", action="UpdateGroupCapacityForecast", method="POST", request_id="f-1",
        received_at=T0, group_id="VEC-2", body=body, body_digest=digest(body), credential_digest="x",
    )  # fmt: skip
    return record(INBOUND, value)


def verdict() -> Record:
    value = Verdict(
        event_id="v-1", at=T0 + timedelta(minutes=16), partner_id="vector", group_id="VEC-2", scope_id="mg-2", quarter=T0,
        direction=Direction.EXPORT, verdict=VerdictKind.BREACHED, used_wh=1500, allowed_wh=1250, reportable_forecasts=["f-1"], revision=1,
    )  # fmt: skip
    return record(COMPLIANCE, value)


def command(group: str) -> Record:
    payload = json.dumps({"forecast": "f-1", "message": "the feeder is out", "group_id": group})
    value = Command(
        event_id=f"cmd-{group}", at=T0, partner_id="vector", kind=CommandKind.COMPLIANCE_ERROR, by="ana", group_id=group, payload=payload
    )
    return record(COMMANDS, value)


def run(polls: Iterable[Iterable[Record]], recovery: Path | None = None) -> list[Out]:
    written: list[Out] = []
    flow = reporting_flow(
        records=TestingSource(list(polls), batch_size=1),
        out=TestingSink(written),
        clock=FrozenClock(T0 + timedelta(minutes=17)),
        config=FixedView(CONFIG),
    )
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(recovery) if recovery else None)
    return written


def messages(written: list[Out]) -> list[OutboundMessage]:
    return [out.value for out in written if isinstance(out.value, OutboundMessage)]


def test_rows_of_two_scopes_become_two_messages_for_the_partner() -> None:
    written = run([[online()], [row(Level.ASSET, 1), row(Level.ASSET, 2), row(Level.GROUP, 1), row(Level.GROUP, 2)]])
    assert {(out.topic, out.key) for out in written} == {(OUTBOUND, "vector")}
    assert sorted((message.group_id, message.action) for message in messages(written)) == [
        ("VEC-1", "UpdateAssetMeasurements"),
        ("VEC-2", "UpdateAssetMeasurements"),
    ]


def test_repaired_rows_are_told_and_those_of_a_backfill_are_not() -> None:
    rows = [row(level, 1, origin=Origin.BACKFILL) for level in Level]
    rows += [row(level, 1, origin=Origin.REPAIR, revision=2, export_wh=2000.0) for level in Level]
    rows += [row(level, 2, origin=Origin.BACKFILL) for level in Level]
    (message,) = messages(run([[online()], rows]))
    (entry,) = json.loads(message.body)["measurements"]
    assert (message.group_id, entry["energy_measurement"]["value"]) == ("VEC-1", 2.0)


def test_a_breach_and_a_command_become_compliance_errors() -> None:
    written = run([[online(), forecast()], [verdict(), command("VEC-1")]])
    told = {message.group_id: message for message in messages(written)}
    assert {message.correlation_id for message in told.values()} == {"f-1"}
    assert json.loads(told["VEC-2"].body)["forecasted_blocks"][0]["capacity"] == 5.0
    assert json.loads(told["VEC-1"].body) == {"message": "the feeder is out"}


def test_a_segment_of_a_forecast_is_no_forecast() -> None:
    """Only the blocks of the whole message are quoted."""
    whole = forecast().value
    assert isinstance(whole, InboundMessage)
    segment = record(INBOUND, whole.model_copy(update={"segment_index": 1, "segment_count": 2}))
    (message,) = messages(run([[online(), segment], [verdict()]]))
    assert "forecasted_blocks" not in json.loads(message.body)


def test_a_command_for_an_unknown_group_is_answered_with_an_event() -> None:
    (out,) = run([[command("VEC-9")]])
    assert (out.topic, out.key) == (EVENTS, "vector")
    assert isinstance(out.value, Event)
    assert "there is no group 'VEC-9'" in out.value.words


def test_what_cannot_be_read_disturbs_nothing() -> None:
    written = run([[online(), record(QUARTER_HOURS, Unreadable("no Avro", b"x"), 7), row(Level.ASSET, 1), row(Level.GROUP, 1)]])
    assert [type(out.value) for out in written] == [DeadLetter, OutboundMessage]


def test_a_restart_goes_on_where_it_was_and_says_nothing_twice(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)
    polls: list[list[Record]] = [[online()], [row(Level.ASSET, 1)], [row(Level.GROUP, 1)], [row(Level.ASSET, 1), row(Level.GROUP, 1)]]
    undisturbed = run(polls)
    disturbed = run([*polls[:2], TestingSource.ABORT(), *polls[2:]], tmp_path)  # type: ignore[list-item]
    disturbed += run(polls, tmp_path)
    assert [message.message_id for message in messages(disturbed)] == [message.message_id for message in messages(undisturbed)]
    assert len(messages(undisturbed)) == 1


def test_a_wish_for_another_capacity_is_followed_to_its_answer() -> None:
    block = {"capacity": 5.0, "phase": "ALL", "unit": "KW", "start_time": T0.isoformat(), "end_time": (T0 + QUARTER).isoformat()}
    wish = Command(
        event_id="w", at=T0 - QUARTER, partner_id="vector", kind=CommandKind.ADJUST, by="ana", group_id="VEC-2",
        payload=json.dumps({"type": "GENERATION", "forecasted_blocks": [block]}),
    )  # fmt: skip
    (message,) = messages(run([[record(COMMANDS, wish)]]))
    taken = Delivery(
        event_id="d", at=T0 - timedelta(minutes=1), message_id=message.message_id, partner_id="vector", action=message.action,
        group_id="VEC-2", attempt=1, outcome=Outcome.DELIVERED,
    )  # fmt: skip
    written = run([[record(COMMANDS, wish)], [record(DELIVERIES, taken)], [forecast()]])
    told = [out for out in written if out.topic is ADJUSTMENTS]
    assert [(out.key, out.value.state, out.value.scope_id) for out in told if isinstance(out.value, Adjustment)] == [
        ("VEC-2", state, "mg-2") for state in (AdjustmentState.REQUESTED, AdjustmentState.DELIVERED, AdjustmentState.ANSWERED)
    ]
    assert [out.value.kind for out in written if isinstance(out.value, Event)] == ["adjustment.requested", "adjustment.answered"]


def test_it_reads_what_it_says_and_step_ids_are_pinned() -> None:
    assert set(BARRIER) <= set(READS)
    flow = reporting_flow(
        records=TestingSource([]), out=TestingSink([]), clock=FrozenClock(T0), config=FixedView(CONFIG)
    )  # fmt: skip
    assert flow.flow_id == "reporting"
    ids = {step.step_id for step in flow.substeps}
    assert {"reporting.in", "reporting.reporting", "reporting.adjustments", "reporting.out"} <= ids


def test_waits_have_the_clocks_floor() -> None:
    assert waits_of(FrozenClock(T0), CONFIG).settle == timedelta(seconds=0.5)
    assert waits_of(FrozenClock(T0, speed=240), CONFIG).settle == timedelta(seconds=480)
