"""What a repair reads of the history: over HTTP from the embedded store, the same as a list would answer."""

import random
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from gateway.history import serving_history
from pipelines.repairing import Repairer, Wanted
from pipelines.rules.quarter_roster import Rosters
from pipelines.rules.repair import reached
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.telemetry import Level, Measurement, Origin, Quality, QuarterHour
from schemas.units import Phase, from_ms, to_ms
from sinks.clickhouse import measured
from sinks.clickhouse.client import Store, client_of
from sinks.clickhouse.measured import MeasuredHistory, ReadingColumns
from sinks.clickhouse.readings import frame_of
from sinks.clickhouse.sink import Batch, History, batches
from sinks.codec import encode
from sinks.columns import decode_readings
from sinks.errors import Unavailable
from tests.builders import T0
from tests.embedded_history import emptied_store, history_store, settings_of
from tests.rules.archived import ListedHistory, asset_row
from tests.rules.metering import START, differences
from tests.rules.reference_quarter_hours import Reading
from tests.rules.test_quarter_hours_stream import stream
from tests.rules.test_repair import CONFIG, END, rows_in, truth, written

HOUR = 3_600_000
ODD = 'it\'s\\ an "ünusual" {name:String} -- /* id'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_history(settings_of(history_store())) as address:
        yield address


@pytest.fixture
def store() -> Store:
    return emptied_store()


@pytest.fixture
def history(url: str) -> Iterator[MeasuredHistory]:
    made = MeasuredHistory(lambda: client_of(url))
    yield made
    made.close()


def measurement(reading: Reading) -> Measurement:
    return Measurement(
        asset_id=reading.asset, measured_at=from_ms(reading.at), power_w=reading.power, import_wh=reading.imported,
        export_wh=reading.exported, stored_wh=reading.stored, phase=tuple(Phase)[reading.phase], quality=Quality(reading.quality),
    )  # fmt: skip


def archive(store: Store, readings: list[Reading], rows: list[QuarterHour]) -> None:
    archived, payloads = History(store, "life", 1), [encode(measurement(reading)) for reading in readings]
    frame = frame_of(decode_readings(payloads), np.arange(len(payloads)))
    archived.add(Batch("derms.telemetry", 0, 0, len(payloads), readings=frame))
    for batch in batches("derms.quarter-hours", [(0, offset, row) for offset, row in enumerate(rows)]):
        archived.add(batch)
    archived.flush()


def as_set(found: ReadingColumns) -> set[tuple[object, ...]]:
    columns = [[None if bit else float(value) for value, bit in zip(column, np.isnan(column), strict=True)] for column in found.values]
    assets = [found.ids[asset] for asset in found.asset.tolist()]
    return set(
        zip(assets, found.phase.tolist(), found.at.tolist(), found.present.tolist(), found.estimated.tolist(), *columns, strict=True)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_it_answers_as_a_list_does(store: Store, history: MeasuredHistory, seed: int) -> None:
    readings = stream(seed, 0, conflicts=False)
    rows = written(truth(readings))
    listed = ListedHistory(readings, rows)
    archive(store, readings, rows)
    names = [f"asset-{n}" for n in range(3)]
    first, until = START + HOUR, START + 4 * HOUR
    counted = history.counts(names, first, until)
    assert {name: count for name, count in counted.items() if count} == pytest.approx(listed.counts(names, first, until), abs=40)
    assert as_set(history.readings(names, first, until)) == as_set(listed.readings(names, first, until))
    for newest in (True, False):
        instants = history.instants(names, first, until, 3, newest=newest)
        assert instants == listed.instants(names, first, until, 3, newest=newest)
        assert as_set(history.at(instants)) == as_set(listed.at(instants))
    assert len(history.at({})) == 0

    def told(found: Iterator[dict[str, object]]) -> list[str]:
        return sorted(str({name: str(row[name]) for name in (*measured.ROW_FIELDS, "start", "at")}) for row in found)

    assert told(history.rows(Level.ASSET, names, first, until)) == told(listed.rows(Level.ASSET, names, first, until))
    assert history.own_time(names) == listed.own_time(names)


def test_the_last_revision_counts_and_provisional_rows_do_not(store: Store, history: MeasuredHistory) -> None:
    content = truth([Reading("a", START, 60.0)])["a", 0, START]
    rows = [asset_row("a", 0, START, content, revision=revision, import_wh=float(revision)) for revision in (2, 3, 1)]
    rows.append(asset_row("a", 0, START + HOUR, content, revision=0, provisional=True))
    rows.append(asset_row("b", 0, START, content, origin=Origin.BACKFILL, scope_id=None))
    archive(store, [], rows)
    found = {row["id"]: row for row in history.rows(Level.ASSET, ["a", "b"], START, START + 2 * HOUR)}
    assert (found["a"]["revision"], found["a"]["import_wh"], found["a"]["origin"], found["a"]["scope_id"]) == (3, 3.0, "LIVE", "s")
    assert (found["b"]["origin"], found["b"]["scope_id"]) == ("BACKFILL", None)
    assert history.own_time(["a", "b"]) == {"a": START}
    assert list(history.rows(Level.GROUP, ["a"], START, START + HOUR)) == []


def test_any_id_can_be_asked_for_and_any_number_of_them(store: Store, history: MeasuredHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(store, [Reading(ODD, START, 1.0), Reading("'", START, 2.0), Reading("plain", START, 3.0)], [])
    monkeypatch.setattr(measured, "IDS_BYTES", 30)
    names = [ODD, "'", "plain", *(f"nobody-{n}" for n in range(20))]
    assert history.counts(names, START, START + 1) == {ODD: 1, "'": 1, "plain": 1}
    assert {(name, power) for name, _, _, _, _, power, *_ in as_set(history.readings(names, START, START + 1))} == {
        (ODD, 1.0), ("'", 2.0), ("plain", 3.0),
    }  # fmt: skip
    monkeypatch.setattr(measured, "ALL_FROM", 2)
    assert history.counts(["plain", "x", "y"], START, START + 1) == {ODD: 1, "'": 1, "plain": 1}
    assert len(history.readings([], START, START + 1)) == 0


def test_readings_from_the_future_of_their_arrival_can_be_left_out(store: Store, history: MeasuredHistory) -> None:
    [row] = store.query("SELECT toUnixTimestamp64Milli(now64(3)) AS now")
    archive(store, [Reading("a", row["now"] + HOUR, 1.0), Reading("a", row["now"] - HOUR, 2.0)], [])
    span = (row["now"] - 2 * HOUR, row["now"] + 2 * HOUR)
    assert len(history.readings(["a"], *span)) == 2
    assert [at for _, _, at, *_ in as_set(history.readings(["a"], *span, ahead=120_000))] == [row["now"] - HOUR]


def test_a_history_that_is_away_is_unavailable_and_found_again(url: str, store: Store) -> None:
    places = ["http://127.0.0.1:1", url]
    history = MeasuredHistory(lambda: client_of(places.pop(0)))
    with pytest.raises(Unavailable):
        history.counts(["a"], START, START + 1)
    assert history.counts(["a"], START, START + 1) == {}
    history.close()
    history.close()


@pytest.mark.parametrize("seed", [3, 4])
def test_a_repair_over_the_store_is_one_over_a_list(store: Store, history: MeasuredHistory, seed: int) -> None:
    readings = stream(seed, 0, conflicts=False)
    rng = random.Random(seed)
    late = {(r.asset, r.phase, r.at) for r in readings if rng.random() < 0.2}
    rows = written(truth([r for r in readings if (r.asset, r.phase, r.at) not in late]))
    archive(store, readings, rows)
    clock = FrozenClock(T0 + timedelta(days=10))
    config: Configuration = CONFIG
    repairer = Repairer(history, Rosters(lambda: config, clock), clock, lambda: config.timing.asset_expiry)
    asked: dict[str, list[tuple[int, int]]] = {}
    for asset, _, at in sorted(late):
        asked.setdefault(asset, []).append(reached(at, Rosters(lambda: config, clock).current().timing))
    found = repairer.beyond(asked, dict.fromkeys(asked, END))
    spans = {asset: [(min(first for first, _ in some), max(until for _, until in some))] for asset, some in found.items()}
    made = [row for piece in repairer.run(Wanted(spans)) for row in piece.rows]
    shown = ListedHistory(readings, [*rows, *made])
    want = truth(readings)
    assert differences({place: row for place, row in rows_in(shown).items() if place in want}, want) == []
    archive(store, readings, [*rows, *made])
    assert [row for piece in repairer.run(Wanted(spans)) for row in piece.rows] == []
    assert all(to_ms(row.start) % 900_000 == 0 for row in made)
