"""Flow `archive`: every topic's records end up in the history once, whatever fails and when."""

from array import array
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.archive import READS, UNREAD_ELSEWHERE, archive_flow, reading_batches, record_batches
from pipelines.records import Out, Payload, Poll, Record, Run, Unreadable
from schemas.clock import FrozenClock
from schemas.facts import Value
from schemas.outbound import DeadLetter
from schemas.telemetry import Measurement, MeasurementBatch, QuarterHour
from schemas.topics import BACKFILL, EVENTS, FLOW_REPORTS, INBOUND, QUARTER_HOURS, TELEMETRY, TOPICS, Topic
from sinks.clickhouse.client import Store
from sinks.clickhouse.sink import HistorySink
from sinks.codec import encode
from sinks.errors import Unavailable
from tests.builders import T0
from tests.embedded_history import count, emptied_store, settings_of
from tests.schemas.golden import example

CLOCK = FrozenClock(T0)


@pytest.fixture
def store() -> Store:
    return emptied_store()


def record(topic: Topic, offset: int, value: Value | Unreadable | Payload, partition: int = 0) -> Record:
    return Record(topic.name, partition, offset, T0, "key", value)


def quarters(number: int) -> list[Record]:
    golden = example(QUARTER_HOURS.name)
    assert isinstance(golden, QuarterHour)
    values = [golden.model_copy(update={"start": T0 + timedelta(minutes=15 * n)}) for n in range(number)]
    return [record(QUARTER_HOURS, n, value, n % 3) for n, value in enumerate(values)]


def measurement(seconds: int) -> Measurement:
    return Measurement(asset_id="a", measured_at=T0 + timedelta(seconds=seconds), power_w=float(seconds))


def poll(payloads: list[bytes], *runs: Run) -> Poll:
    whole = (Run(0, 0, len(payloads), range(len(payloads))),)
    return Poll(payloads, runs or whole, (), (0, 1), T0)


def flow(store: Store, records: list[list[Record]], polls: list[Poll], letters: list[Out]) -> Dataflow:
    return archive_flow(
        records=TestingSource(records, batch_size=1),
        polls=TestingSource(polls, batch_size=1),
        history=HistorySink(settings_of(store), "life"),
        out=TestingSink(letters),
        clock=CLOCK,
    )


def test_every_topic_ends_up_in_the_history(store: Store) -> None:
    letters: list[Out] = []
    records = [[record(topic, 1, example(topic.name))] for topic in READS]
    run_main(flow(store, records, [poll([encode(measurement(n)) for n in range(10)])], letters))
    assert letters == []
    tables = {row["table"] for row in store.query("SELECT DISTINCT table FROM system.parts WHERE database = 'derms' AND active")}
    # connections' example and a forecast are among the goldens only if their goldens are such
    assert {"telemetry", "quarter_hours", "inbound_messages", "outbound_messages", "deliveries", "envelopes", "verdicts"} <= tables
    assert {"breaches", "connection_events", "circuit_capacity", "dead_letters", "connections", "commands", "config_changes"} <= tables
    assert count(store, "v_telemetry") == 10


def test_it_reads_every_topic_but_what_flows_say_of_themselves() -> None:
    assert {*READS, TELEMETRY} == {*TOPICS} - {FLOW_REPORTS}


def test_unreadable_records_are_told_where_nobody_else_reads_them(store: Store) -> None:
    letters: list[Out] = []
    broken = Unreadable("no Avro", b"\x00")
    good = quarters(3)
    records = [[record(EVENTS, 3, broken), *good, record(INBOUND, 4, broken), record(QUARTER_HOURS, 9, broken)]]
    run_main(flow(store, records, [], letters))
    assert count(store, "v_quarter_hours") == 3
    [letter] = [out.value for out in letters]
    assert isinstance(letter, DeadLetter)
    assert (letter.topic, letter.offset, letter.raw) == (EVENTS.name, 3, b"\x00")
    assert EVENTS.name in UNREAD_ELSEWHERE
    assert INBOUND.name not in UNREAD_ELSEWHERE


def test_batches_of_records_go_by_topic_and_partition() -> None:
    mixed = [*quarters(7), record(EVENTS, 5, example(EVENTS.name))]
    made = dict(record_batches(mixed))
    assert {key: (batch.first, batch.last, len(batch.values)) for key, batch in made.items()} == {
        "derms.quarter-hours/0": (0, 6, 3),
        "derms.quarter-hours/1": (1, 4, 2),
        "derms.quarter-hours/2": (2, 5, 2),
        "derms.events/0": (5, 5, 1),
    }


def test_readings_keep_their_offsets_beside_broken_neighbours() -> None:
    batch = MeasurementBatch(measurements=[measurement(100), measurement(101)])
    payloads = [encode(measurement(0)), b"broken", encode(batch), encode(measurement(3)), b"\xc3\x01"]
    runs = (Run(4, 0, 3, array("q", [10, 12, 13])), Run(7, 3, 2, range(5, 7)))
    made = {batch.partition: batch for _, batch in reading_batches(poll(payloads, *runs))}
    assert {key: (batch.first, batch.last) for key, batch in made.items()} == {4: (10, 13), 7: (5, 6)}
    four, seven = made[4].readings, made[7].readings
    assert four is not None
    assert seven is not None
    assert four["offset"].to_list() == [10, 13, 13]
    assert four["power_w"].to_list() == [0.0, 100.0, 101.0]
    assert seven["offset"].to_list() == [5]


def backfilled(offset: int, *readings: Measurement) -> Record:
    return record(BACKFILL, offset, Payload(encode(MeasurementBatch(measurements=list(readings)))))


def test_readings_of_a_backfill_are_among_the_others_and_yield_to_live_ones(store: Store) -> None:
    letters: list[Out] = []
    later, live = measurement(1), measurement(2)
    changed = [reading.model_copy(update={"power_w": -1.0}) for reading in (later, live)]
    records = [
        [backfilled(0, *changed), record(BACKFILL, 1, Payload(b"no Avro"))],
        [backfilled(2, measurement(3), later.model_copy(update={"power_w": -2.0}))],
    ]
    run_main(flow(store, records, [poll([encode(live)], Run(0, 0, 1, range(1 << 40, (1 << 40) + 1)))], letters))
    found = store.query("SELECT measured_at, power_w FROM v_telemetry ORDER BY measured_at")
    assert [row["power_w"] for row in found] == [-1.0, 2.0, 3.0]  # the first of a backfill, but of all the live one
    [letter] = [out.value for out in letters]
    assert isinstance(letter, DeadLetter)
    assert (letter.topic, letter.offset, letter.raw) == (BACKFILL.name, 1, b"no Avro")


def test_polls_without_readings_make_nothing() -> None:
    assert list(reading_batches(poll([]))) == []
    assert list(reading_batches(poll([b"x"]))) == []


def test_no_python_object_is_made_for_a_reading() -> None:
    payload = encode(MeasurementBatch(measurements=[measurement(n) for n in range(1000)]))
    [(_, batch)] = reading_batches(poll([payload]))
    assert batch.readings is not None
    assert np.array_equal(batch.readings["power_w"].to_numpy(), np.arange(1000.0))


class Failing:
    """Inserts of the store fail from the `after`-th on, before or after they were stored, until `mended`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, stored: bool) -> None:
        self.left, self.stored, self.mended = after, stored, False
        for name in ("insert_columns", "insert_arrow"):
            monkeypatch.setattr(Store, name, self._instead_of(getattr(Store, name)))

    def _instead_of(self, insert: Any) -> Any:
        def failing(store: Store, *arguments: Any) -> None:
            if self.mended or arguments[0] == "incarnations":
                insert(store, *arguments)
                return
            self.left -= 1
            if self.left >= 0 or self.stored:
                insert(store, *arguments)
            if self.left < 0:
                raise Unavailable("the history is away")

        return failing


def lines(records: list[Record]) -> Iterator[list[Record]]:
    for start in range(0, len(records), 2):
        yield records[start : start + 2]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_a_store_that_fails_loses_nothing_and_doubles_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, stored: bool
) -> None:
    failing = Failing(monkeypatch, after, stored)
    init_db_dir(tmp_path, 1)
    records, polls = list(lines(quarters(12))), [poll([encode(measurement(n))], Run(0, 0, 1, range(n, n + 1))) for n in range(6)]
    letters: list[Out] = []
    with pytest.raises((Unavailable, BytewaxRuntimeError)):
        run_main(flow(store, records, polls, letters), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(tmp_path))
    failing.mended = True
    run_main(flow(store, records, polls, letters), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(tmp_path))
    assert count(store, "v_quarter_hours") == 12
    assert count(store, "v_telemetry") == 6


def test_step_ids_are_recovery_keys(store: Store) -> None:
    steps = [step.step_id for step in flow(store, [], [], []).substeps]
    assert steps == [f"archive.{name}" for name in ("records", "values", "dead", "polls", "readings", "rows", "history", "out")]
