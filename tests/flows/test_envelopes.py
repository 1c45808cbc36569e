"""The flow `envelopes`: records in, envelopes, circuit changes and events out, the same after a crash (semantics 3, 4)."""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from bytewax.visualize import to_rendered

from pipelines.envelopes import READS, envelopes_flow
from pipelines.records import Out, Record, Unreadable
from pipelines.rules.fan_out import AT_ONCE
from pipelines.views import FixedView
from schemas.capacity import CircuitCapacity, OperatingEnvelope
from schemas.clock import Clock, FrozenClock, ScaledClock, SystemClock
from schemas.config import ConfigChange, Configuration
from schemas.connection import Command, CommandKind, Connection, ConnectionState, Event, InboundMessage
from schemas.facts import Value, digest
from schemas.topics import CIRCUIT_CAPACITY, COMMANDS, CONFIG, CONNECTIONS, DEAD_LETTERS, ENVELOPES, EVENTS, INBOUND
from tests.builders import T0, configuration

CLOCK = FrozenClock(T0)
HOUR = timedelta(hours=1)


def forecast(request_id: str, received: datetime, *blocks: tuple[datetime, datetime, float], **more: Any) -> InboundMessage:
    body = {
        "group_id": "VEC-0001",
        "type": "CONSUMPTION",
        "forecasted_blocks": [
            {"capacity": kw, "phase": "ALL", "unit": "KW", "start_time": start.isoformat(), "end_time": end.isoformat()}
            for start, end, kw in blocks
        ],
    }
    text = json.dumps({**body, **more})
    return InboundMessage(
        event_id=f"inbound {request_id}", at=received, partner_id="vector", action="UpdateGroupCapacityForecast", method="POST",
        request_id=request_id, received_at=received, group_id="VEC-0001", body=text, body_digest=digest(text), credential_digest="c",
    )  # fmt: skip


def connection(state: ConnectionState, since: datetime) -> Connection:
    return Connection(event_id=f"{state} {since}", at=since, partner_id="vector", state=state, since=since)


def change(kind: str, body: dict[str, Any], when: datetime) -> ConfigChange:
    name = f"{body['partner_id']}/{body['group_id']}" if kind == "groups" else body["id"]
    return ConfigChange(event_id=f"{kind} {name}", at=when, kind=kind, id=name, body=json.dumps(body), revision=1, by="ana")


def asked(name: str, when: datetime, *blocks: tuple[datetime, datetime, float | None], scope_id: str = "mg-1") -> Command:
    said = [{"start": start.isoformat(), "end": end.isoformat(), "limit_w": kw and kw * 1000} for start, end, kw in blocks]
    payload = json.dumps({"scope_id": scope_id, "direction": "IMPORT", "blocks": said})
    return Command(event_id=name, at=when, partner_id="", kind=CommandKind.ENVELOPE, by="ada", payload=payload, scope_id=scope_id)


def record(offset: int, value: Value | Unreadable) -> Record:
    topic = {Connection: CONNECTIONS, ConfigChange: CONFIG, Command: COMMANDS}.get(type(value), INBOUND)
    return Record(topic.name, 0, offset, T0, "any key", value)


def polls(*values: Value | Unreadable) -> list[Any]:
    return [[record(offset, value)] for offset, value in enumerate(values)]


def flow(fed: Any, out: list[Out], clock: Clock = CLOCK, config: Configuration | None = None) -> Dataflow:
    source = TestingSource(fed) if isinstance(fed, list) else fed
    return envelopes_flow(records=source, out=TestingSink(out), clock=clock, config=FixedView(config or configuration()))


def run(*values: Value | Unreadable, config: Configuration | None = None) -> list[Out]:
    out: list[Out] = []
    run_main(flow(polls(*values), out, config=config))
    return out


def of(out: list[Out], model: type) -> list[Any]:
    return [item.value for item in out if isinstance(item.value, model)]


STORY = (
    forecast("f1", T0 - HOUR, (T0 - HOUR, T0 + 10 * HOUR, 100)),
    forecast("b1", T0 - HOUR, (T0 - HOUR, T0 + 10 * HOUR, 30), type="FALLBACK_CONSUMPTION"),
    connection(ConnectionState.ONLINE, T0 - HOUR),
    forecast("f2", T0 - HOUR / 2, (T0 - HOUR / 2, T0, 20)),
    connection(ConnectionState.OFFLINE, T0 - timedelta(minutes=20)),
    connection(ConnectionState.ACKING, T0 - timedelta(minutes=10)),
    connection(ConnectionState.ONLINE, T0 - timedelta(minutes=9)),
    forecast("f1", T0 - timedelta(minutes=1), (T0 - HOUR, T0 + 10 * HOUR, 100)),
)


def told(out: list[Out]) -> set[tuple[str, str, str]]:
    return {(item.topic.name, item.key, item.value.event_id) for item in out}


def test_forecasts_and_connections_become_envelopes_and_the_circuits_values():
    out = run(*STORY)
    envelopes = of(out, OperatingEnvelope)
    assert [(e.scope_id, e.revision, e.effective_at) for e in envelopes] == [
        ("mg-1", 1, T0 - HOUR), ("mg-1", 2, T0 - HOUR / 2), ("mg-1", 3, T0 - timedelta(minutes=20)),
        ("mg-1", 4, T0 - timedelta(minutes=10)),
    ]  # fmt: skip
    assert [(c.circuit_id, c.available_import_w, c.kind.value) for c in of(out, CircuitCapacity)] == [
        ("feeder-17", 100_000, "FORECAST"), ("feeder-17", 20_000, "FORECAST"), ("feeder-17", 30_000, "FALLBACK"),
        ("feeder-17", 20_000, "FORECAST"),
    ]  # fmt: skip
    assert {(item.topic, item.key) for item in out} == {(ENVELOPES, "mg-1"), (CIRCUIT_CAPACITY, "feeder-17")}


MINUTE = timedelta(minutes=1)
HANDED = (
    forecast("f1", T0 - HOUR, (T0 - HOUR, T0 + 10 * HOUR, 100)),
    asked("o1", T0 - 30 * MINUTE, (T0 - HOUR, T0 + HOUR, 40)),
    asked("o2", T0 - 20 * MINUTE, (T0 - HOUR, T0, 30)),
    asked("o1", T0 - 30 * MINUTE, (T0 - HOUR, T0 + HOUR, 40)),
    asked("o3", T0 - 10 * MINUTE, (T0 - HOUR, T0 - 5 * MINUTE, None)),
)


def test_an_operators_limit_goes_the_way_forecasts_go():
    out = run(*HANDED)
    assert [(c.effective_from, c.available_import_w, c.previous_import_w, c.kind.value, c.cause) for c in of(out, CircuitCapacity)] == [
        (T0 - HOUR, 100_000, None, "FORECAST", "f1"), (T0 - 30 * MINUTE, 40_000, 100_000, "OPERATOR", "o1"),
        (T0 - 20 * MINUTE, 30_000, 40_000, "OPERATOR", "o2"), (T0 - 10 * MINUTE, 100_000, 30_000, "FORECAST", "f1"),
    ]  # fmt: skip
    assert [(e.revision, e.cause_id, e.effective_at) for e in of(out, OperatingEnvelope)] == [
        (1, "inbound f1", T0 - HOUR), (2, "o1", T0 - 30 * MINUTE), (3, "o2", T0 - 20 * MINUTE), (4, "o3", T0 - 10 * MINUTE),
    ]  # fmt: skip


def test_an_operators_limit_that_cannot_be_carried_out_is_told():
    (out,) = run(asked("o1", T0, (T0, T0 + HOUR, 40), scope_id="mg-9"))
    assert (out.topic, out.key, out.value.kind) == (EVENTS, "mg-9", "command.refused")


def test_a_scope_without_a_circuit_has_its_envelope_only():
    plain = configuration(circuits=[], scopes=[{"id": "mg-1"}])
    assert {item.topic for item in run(*STORY, config=plain)} == {ENVELOPES}


def test_configuration_changes_are_looked_at():
    group = {"partner_id": "vector", "group_id": "VEC-0001", "scope_id": "mg-1", "safe_import_kw": 5}
    out = run(change("groups", group, T0), config=configuration(groups=[group]))
    (envelope,) = of(out, OperatingEnvelope)
    assert (envelope.effective_at, envelope.cause_id) == (T0, "groups vector/VEC-0001")
    assert [(c.available_import_w, c.kind.value, c.effective_from) for c in of(out, CircuitCapacity)] == [(5_000, "SAFE", T0)]


def test_a_scope_that_gets_a_group_of_a_partner_that_is_away_falls_back_at_once():
    group = {"partner_id": "vector", "group_id": "VEC-0001", "scope_id": "mg-1"}
    away = connection(ConnectionState.OFFLINE, T0 - HOUR)
    values = (
        change("groups", group, T0),
        forecast("b1", T0, (T0, T0 + HOUR, 30), type="FALLBACK_CONSUMPTION"),
    )
    before = run(away, config=configuration(groups=[]))
    assert before == []
    out = run(away, *values)
    assert [c.kind.value for c in of(out, CircuitCapacity)] == ["FALLBACK"]


def test_what_cannot_be_used_is_told_and_what_cannot_be_read_is_a_dead_letter():
    stray = forecast("f9", T0, (T0, T0 + HOUR, 1), group_id="VEC-9")
    theirs = stray.model_copy(update={"partner_id": "other", "body": forecast("x", T0, (T0, T0 + HOUR, 1)).body})
    broken = stray.model_copy(update={"event_id": "broken", "body": "{}"})
    out = run(stray, theirs, broken, Unreadable("no known prefix", b"x"), stray.model_copy(update={"action": "Heartbeat"}))
    assert [item.topic for item in out] == [EVENTS, EVENTS, EVENTS, DEAD_LETTERS]
    assert [event.kind for event in of(out, Event)] == ["forecast not used"] * 3
    assert "group VEC-9 is not one of this partner's any more" in of(out, Event)[0].words


@pytest.mark.parametrize(("story", "crash"), [*((STORY, crash) for crash in (1, 3, 5, 7)), *((HANDED, crash) for crash in (1, 2, 3, 4))])
def test_a_crash_anywhere_changes_nothing_that_is_told(tmp_path: Path, story: tuple[Value, ...], crash: int):
    whole = run(*story)
    init_db_dir(tmp_path, 1)
    recovery, parts = RecoveryConfig(str(tmp_path)), []
    fed = polls(*story)
    broken = [*fed[:crash], TestingSource.ABORT(), *fed[crash:]]
    for _ in range(2):
        run_main(flow(broken, parts), epoch_interval=timedelta(0), recovery_config=recovery)
    assert told(parts) == told(whole)


def test_a_replay_without_a_recovery_store_says_the_same():
    assert told(run(*STORY, *HANDED)) == told(run(*STORY, *HANDED))


@dataclass
class Until(FixedPartitionedSource[list[Record], int]):
    """Feeds its polls, then waits until `enough` has come out (or a deadline has passed)."""

    fed: list[list[Record]]
    out: list[Out]
    enough: int
    deadline: float = field(default_factory=lambda: time.monotonic() + 20)

    def list_parts(self) -> list[str]:
        return ["only"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> "UntilPart":
        return UntilPart(self, resume_state or 0)


class UntilPart(StatefulSourcePartition[list[Record], int]):
    def __init__(self, source: Until, fed: int) -> None:
        self._source, self._fed = source, fed

    def next_batch(self) -> list[list[Record]]:
        if self._fed < len(self._source.fed):
            self._fed += 1
            return [self._source.fed[self._fed - 1]]
        if len(of(self._source.out, CircuitCapacity)) >= self._source.enough or time.monotonic() > self._source.deadline:
            raise StopIteration
        return []

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + timedelta(milliseconds=5)

    def snapshot(self) -> int:
        return self._fed


def test_boundaries_change_the_circuit_when_the_clock_reaches_them_also_after_a_restart(tmp_path: Path):
    # A clock at which 2 s of patience pass in 4 ms: boundaries of hours come 7 ms apart.
    clock = ScaledClock(T0, datetime.now(UTC), speed=500_000, floor=timedelta(milliseconds=4))
    day = [(T0 + n * HOUR, T0 + (n + 1) * HOUR, 10.0 + n) for n in range(24)]
    fed, out = polls(forecast("f1", T0, *day)), []
    init_db_dir(tmp_path, 1)
    for enough in (6, 25):
        run_main(flow(Until(fed, out, enough), out, clock), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(tmp_path)))
    changes = list({change.event_id: change for change in of(out, CircuitCapacity)}.values())
    assert [(change.effective_from, change.available_import_w) for change in changes[:24]] == [(start, kw * 1000) for start, _, kw in day]
    assert (changes[24].effective_from, changes[24].available_import_w, changes[24].kind) == (T0 + 24 * HOUR, 33_000, "HELD")
    assert all(change.at >= change.effective_from for change in changes)


def forecasts(start: datetime, *kws: float, every: timedelta) -> InboundMessage:
    return forecast("f1", start - HOUR, *((start + n * every, start + (n + 1) * every, kw) for n, kw in enumerate(kws)))


def test_a_boundary_is_told_within_a_second_of_the_clock():
    clock = SystemClock()
    start, out = clock.now() + timedelta(milliseconds=1200), []
    fed = polls(forecasts(start, 10, 20, 30, every=timedelta(milliseconds=100)))
    run_main(flow(Until(fed, out, 4), out, clock), epoch_interval=timedelta(seconds=1))
    changes = of(out, CircuitCapacity)
    assert [change.available_import_w for change in changes] == [10_000, 20_000, 30_000, 30_000]
    assert all(timedelta(0) <= change.at - change.effective_from < timedelta(seconds=1) for change in changes)


def test_a_boundary_soon_after_a_restart_is_told_in_time_and_those_missed_while_down_all_the_same(tmp_path: Path):
    init_db_dir(tmp_path, 1)
    recovery = RecoveryConfig(str(tmp_path))
    start, out = datetime.now(UTC).replace(microsecond=0), []
    fed = polls(forecasts(start, 10, 20, 30, 40, every=10 * MINUTE))
    clock = ScaledClock(start, datetime.now(UTC))
    run_main(flow(Until(fed, out, 1), out, clock), epoch_interval=timedelta(0), recovery_config=recovery)
    # Down for half an hour: two boundaries were missed, the third comes 700 ms after the start.
    clock = ScaledClock(start + 30 * MINUTE - timedelta(milliseconds=700), datetime.now(UTC))
    run_main(flow(Until(fed, out, 4), out, clock), epoch_interval=timedelta(0), recovery_config=recovery)
    changes = of(out, CircuitCapacity)
    assert [(change.effective_from, change.available_import_w, change.previous_import_w) for change in changes] == [
        (start, 10_000, None), (start + 10 * MINUTE, 20_000, 10_000), (start + 20 * MINUTE, 30_000, 20_000),
        (start + 30 * MINUTE, 40_000, 30_000),
    ]  # fmt: skip
    assert timedelta(0) <= changes[-1].at - changes[-1].effective_from < timedelta(seconds=1)


@pytest.mark.parametrize("state", ConnectionState)
def test_the_fallback_holds_in_two_states_only(state: ConnectionState):
    away = state in (ConnectionState.OFFLINE, ConnectionState.DEREGISTERED)
    out = run(*STORY[:2], connection(state, T0 - 30 * MINUTE))
    assert of(out, CircuitCapacity)[-1].kind.value == ("FALLBACK" if away else "FORECAST")
    assert of(out, CircuitCapacity)[-1].available_import_w == (30_000 if away else 100_000)


def test_gone_for_good_after_an_offline_hour_the_fallback_goes_on():
    out = run(*STORY[:2], connection(ConnectionState.OFFLINE, T0 - 30 * MINUTE), connection(ConnectionState.DEREGISTERED, T0 - 10 * MINUTE))
    assert [(c.kind.value, c.effective_from) for c in of(out, CircuitCapacity)] == [("FORECAST", T0 - HOUR), ("FALLBACK", T0 - 30 * MINUTE)]


def test_a_partner_with_many_scopes_is_followed_by_all_of_them():
    many = range(3 * AT_ONCE // 2)
    plain = configuration(
        circuits=[{"id": f"c{n}", "rated_import_kw": 250, "rated_export_kw": 150} for n in many],
        scopes=[{"id": f"mg-{n}", "circuit_id": f"c{n}"} for n in many],
        assets=[],
        groups=[
            {"partner_id": "vector", "group_id": f"G{n}", "scope_id": f"mg-{n}", "safe_import_kw": 7, "fallback_hold": "PT0S"} for n in many
        ],
    )
    plans = [forecast(f"f{n}", T0 - HOUR, (T0 - HOUR, T0 + HOUR, 100), group_id=f"G{n}") for n in many]
    out: list[Out] = []
    fed = polls(*plans, connection(ConnectionState.OFFLINE, T0), connection(ConnectionState.ONLINE, T0 + MINUTE))
    run_main(flow(Until(fed, out, 3 * len(many)), out, ScaledClock(T0, datetime.now(UTC)), plain))
    for n in many:
        said = [(c.kind.value, c.effective_from) for c in of(out, CircuitCapacity) if c.circuit_id == f"c{n}"]
        assert said == [("FORECAST", T0 - HOUR), ("SAFE", T0), ("FORECAST", T0 + MINUTE)]


def test_units_and_phases_come_to_watts_for_each_phase():
    def block(unit: str, phase: str, capacity: float, hours: float) -> dict[str, Any]:
        return {
            "capacity": capacity, "phase": phase, "unit": unit, "start_time": T0.isoformat(), "end_time": (T0 + hours * HOUR).isoformat(),
        }  # fmt: skip

    blocks = [block("A", "UNKNOWN", 10, 1), block("KWH", "ONE", 3, 2), block("A", "TWO", 5, 1), block("W", "TWO", 900, 0.5)]
    out = run(forecast("f1", T0, forecasted_blocks=blocks))
    (envelope,) = of(out, OperatingEnvelope)
    first = {piece.phase.value: piece.import_limit_w for piece in reversed(envelope.pieces)}
    assert first == {"ALL": 6_900, "ONE": 1_500, "TWO": 900}
    (event,) = of(out, Event)  # the blocks of phase TWO, and those alone
    assert "overlap" in event.words
    assert [change.available_import_w for change in of(out, CircuitCapacity)] == [6_900]


def test_step_ids_are_recovery_keys():
    ids = {operator.step_id for operator in to_rendered(flow([], [])).substeps}
    assert ids == {f"envelopes.{name}" for name in (
        "in", "in_each", "in_readable", "in_dead", "config_changes", "scope_changes_pair", "scope_changes", "scope_changes_value", "news",
        "looks", "connections", "links_pair", "links", "links_value", "linked", "scopes",
        "oddities", "items", "envelopes_pair", "envelopes", "envelopes_value", "plans", "revisions", "circuits_pair",
        "circuits", "circuits_value", "outs", "out",
    )}  # fmt: skip


def test_it_reads_what_it_says():
    assert {topic.name for topic in READS} == {"derms.inbound", "derms.connections", "derms.commands", "derms.config"}
