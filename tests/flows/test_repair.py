"""Flow `repair`: late readings wait for the history, then their rows are written; trouble outside is waited out."""

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.records import Out, Record, Unreadable
from pipelines.repair import Desk, repair_flow, waits_of
from pipelines.repairing import Wanted
from pipelines.rules.quarter_roster import Rosters
from pipelines.rules.repair_schedule import ScheduleState
from schemas.clock import Clock, FrozenClock, ScaledClock
from schemas.config import Configuration
from schemas.connection import Event, Severity
from schemas.intervals import QUARTER_MS
from schemas.telemetry import LateMeasurement, Measurement, Origin, QuarterHour
from schemas.topics import EVENTS, LATE_TELEMETRY, QUARTER_HOURS, TELEMETRY, Topic
from schemas.units import from_ms, to_ms
from sinks.errors import Misconfigured, Unavailable
from tests.builders import T0
from tests.flows.test_telemetry_groups import ASSETS, CHANGES, Changing, a_day_in_short
from tests.flows.test_telemetry_groups import run as telemetry
from tests.rules.archived import ListedHistory, repaired, repairer
from tests.rules.metering import START, minutes
from tests.rules.reference_quarter_hours import Reading

NOW = from_ms(START) + timedelta(hours=6)
SITE = Configuration.model_validate(
    {
        "scopes": [{"id": "s"}],
        "assets": [{"id": "a", "scope_id": "s", "category": "CONSUMPTION"}, {"id": "b", "scope_id": "s", "category": "CONSUMPTION"}],
        "partners": [{"id": "vector"}],
        "groups": [{"partner_id": "vector", "group_id": "g", "scope_id": "s"}],
    }
)
READING = Reading("a", START + minutes(14.5), 1600.0)
IN_TIME = [Reading("a", START + minutes(n), 400.0) for n in range(15)]


def late(asset: str = "a", offset: int = 7, at: int = READING.at, now: datetime = NOW) -> LateMeasurement:
    measurement = Measurement(asset_id=asset, measured_at=from_ms(at), power_w=1600.0)
    return LateMeasurement(
        event_id=f"late-{offset}", at=now, measurement=measurement, watermark=now - timedelta(minutes=1), partition=0, offset=offset
    )


class Archive:
    """How far the archive is, as the test says."""

    def __init__(self, telemetry: int = 8, rows: int = 100) -> None:
        self.at = {(TELEMETRY.name, 0): telemetry, (QUARTER_HOURS.name, 0): rows}
        self.away = False
        self.end = 100

    def ends(self, topics: Iterable[Topic]) -> dict[tuple[str, int], int]:
        if self.away:
            raise Unavailable("the broker is away")
        return {(topic.name, 0): self.end for topic in topics}

    def kept(self, parts: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {part: self.at[part] for part in parts if part in self.at}


class World:
    """A desk over a listed history, and its state."""

    def __init__(self, clock: Clock | None = None, stopping: bool = False) -> None:
        self.clock = FrozenClock(NOW)
        self.history, self.archive, self.state = ListedHistory(IN_TIME), Archive(), ScheduleState()
        used = clock or self.clock
        rosters = Rosters(lambda: SITE, used)
        self.desk = Desk(repairer(self.history, SITE, used), self.archive, rosters, used, lambda: stopping)

    def work(self, after: timedelta) -> list[Out]:
        self.clock.advance(after)
        outs = self.desk.work(self.state)
        self.history.write(out.value for out in outs if isinstance(out.value, QuarterHour))
        return outs


def rows(outs: list[Out]) -> list[tuple[str, str, float, int]]:
    found = [(out.key, out.value) for out in outs if out.topic is QUARTER_HOURS]
    return [(key, row.id, round(row.net_wh, 9), row.revision) for key, row in found if isinstance(row, QuarterHour)]


def test_a_late_reading_changes_its_rows_once_the_history_has_it() -> None:
    world = World()
    assert rows(world.desk.work(world.state)) == []
    world.desk.take(world.state, [late()])
    world.archive.at[TELEMETRY.name, 0] = 7
    assert world.work(waits_of(world.clock).settle) == []
    world.archive.at[TELEMETRY.name, 0], world.archive.at[QUARTER_HOURS.name, 0] = 8, 99
    world.history.add([READING])
    assert world.work(waits_of(world.clock).again) == []  # the rows written before are not all there yet
    world.archive.at[QUARTER_HOURS.name, 0] = 100
    world.archive.end = 1_000_000  # what was written since is not waited for
    assert world.desk.due(world.state) == world.clock.now() + waits_of(world.clock).again
    outs = world.work(waits_of(world.clock).again)
    # the reading holds for the minutes that follow it, too
    assert rows(outs) == [("a", "a", 110.0, 1), ("g", "g", 110.0, 1)]
    assert [getattr(out.value, "cause_id", "") for out in outs] == ["late-7", None, "late-7"]
    event = outs[-1].value
    assert isinstance(event, Event)
    assert (outs[-1].topic, outs[-1].key, event.kind, event.subject_id) == (EVENTS, "s", "quarters_repaired", "a")
    assert world.desk.due(world.state) is None
    world.desk.take(world.state, [late(offset=6)])
    assert world.work(waits_of(world.clock).every) == []  # nothing differs: nothing is said


def test_what_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.history.add([READING])
    world.desk.take(world.state, [late(), late("b"), late("c"), late("d")])
    world.archive.away = True
    with caplog.at_level(logging.WARNING):
        assert world.work(waits_of(world.clock).settle) == []
    assert "late readings of a, b, c and 1 more wait to be repaired: the broker is away" in caplog.text
    world.archive.away = False
    assert [name for _, name, _, _ in rows(world.work(waits_of(world.clock).again))] == ["a", "g"]


def test_one_assets_reading_does_not_wait_for_anothers() -> None:
    world = World()
    world.history.add([READING])
    world.desk.take(world.state, [late(), late("b", offset=9)])
    assert [name for _, name, _, _ in rows(world.work(waits_of(world.clock).settle))] == ["a", "g"]
    assert world.state.pending.keys() == {"b"}


def test_giving_up_is_said_with_the_cure() -> None:
    world = World()
    world.archive.at[TELEMETRY.name, 0] = 0
    world.desk.take(world.state, [late()])
    world.work(waits_of(world.clock).settle)
    [out] = world.work(waits_of(world.clock).patience + timedelta(seconds=1))
    assert isinstance(out.value, Event)
    assert out.value.severity is Severity.ALARM
    assert "derms telemetry repair --from 2026-10-20T09:00:00.000Z --to 2026-10-20T11:15:00.000Z --asset a" in out.value.words
    assert world.desk.due(world.state) is None


def test_a_stop_ends_a_repair_between_its_pieces() -> None:
    world = World(stopping=True)
    world.history.add([READING])
    world.desk.take(world.state, [late()])
    assert world.work(waits_of(world.clock).settle) == []
    assert world.state.pending


def test_wrong_credentials_end_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def refuse(*_: Any) -> None:
        raise Misconfigured("DERMS_CLICKHOUSE__USER", "the history refuses it")

    monkeypatch.setattr(world.history, "counts", refuse)
    world.desk.take(world.state, [late()])
    with pytest.raises(Misconfigured):
        world.work(waits_of(world.clock).settle)


def record(value: LateMeasurement | Unreadable) -> Record:
    return Record(LATE_TELEMETRY.name, 0, 0, NOW, "a", value)


def test_without_a_history_nothing_happens_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    written: list[Out] = []
    records = [[record(late()), record(Unreadable("no Avro", b"x"))], [record(late())], [record(Unreadable("no Avro", b"x"))]]
    source: Any = TestingSource(records, batch_size=1)
    with caplog.at_level(logging.WARNING):
        run_main(repair_flow(records=source, out=TestingSink(written), clock=FrozenClock(NOW), desk=None))
    assert written == []
    assert caplog.text.count("no history is configured (DERMS_CLICKHOUSE__URL)") == 1


class _Until(StatelessSourcePartition[list[Record]]):
    """Emits once what is given, then stays until something was written."""

    def __init__(self, records: list[Record], written: list[Out]) -> None:
        self._records, self._written = records, written
        self._deadline = time.monotonic() + 10

    def next_batch(self) -> list[list[Record]]:
        records, self._records = self._records, []
        if records:
            return [records]
        if self._written:
            raise StopIteration
        assert time.monotonic() < self._deadline, "nothing was written"
        return []

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=20)


class Until(DynamicSource[list[Record]]):
    def __init__(self, records: list[Record], written: list[Out]) -> None:
        self._part = (records, written)

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Until:
        return _Until(*self._part)


def test_the_engine_wakes_it_and_it_goes_on_from_its_store(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)
    clock = ScaledClock(NOW, datetime.now(UTC), speed=1_000, floor=timedelta(0))
    world = World(clock)
    world.history.add([READING])
    written: list[Out] = []

    def run(source: Any, timers: Clock) -> None:
        flow = repair_flow(records=source, out=TestingSink(written), clock=timers, desk=world.desk)
        run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(tmp_path))

    run(TestingSource([[record(late())]], batch_size=1), FrozenClock(NOW))  # a clock that wakes nobody
    assert written == []
    run(Until([], written), clock)
    assert [name for _, name, _, _ in rows(written)] == ["a", "g"]
    assert {out.value.origin for out in written if isinstance(out.value, QuarterHour)} == {Origin.REPAIR}


def test_step_ids_are_recovery_keys() -> None:
    flow = repair_flow(records=TestingSource([]), out=TestingSink([]), clock=FrozenClock(NOW), desk=None)
    assert {"repair.in", "repair.repair"} <= {step.step_id for step in flow.substeps}


@pytest.mark.parametrize("what", CHANGES)
def test_a_repair_of_what_was_written_while_bindings_changed_says_the_same(what: str) -> None:
    clock, moved_at = FrozenClock(T0 + timedelta(days=1)), T0 + timedelta(minutes=20)
    live = [out.value for out in telemetry(a_day_in_short(), moved_at, what=what) if isinstance(out.value, QuarterHour)]
    readings = [
        Reading(asset, to_ms(T0) + minutes(at), 100.0 + n + at / 7)
        for n, asset in enumerate(ASSETS)
        for at in range(58 if n % 4 == 3 else 60)
    ]
    history, config = ListedHistory(readings, (row for row in live if row.revision)), Changing(clock, moved_at, what).current()
    wanted = Wanted({asset: [(to_ms(T0), to_ms(T0) + 4 * QUARTER_MS)] for asset in ASSETS})
    assert repaired(history, config, clock, wanted) == []
    written, history.last = dict(history.last), {}
    repaired(history, config, clock, wanted)
    assert history.last.keys() == written.keys()
    for place, row in history.last.items():
        old = written[place]
        assert (row.scope_id, row.missing_members, row.method) == (old.scope_id, old.missing_members, old.method)
        assert row.net_wh == pytest.approx(old.net_wh)
