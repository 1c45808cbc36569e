"""Replays do not double, the right one of several rows stays, tokens are never used for other rows."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.facts import Value
from schemas.outbound import DeadLetter
from schemas.telemetry import Measurement, MeasurementBatch, Quality, QuarterHour
from schemas.units import Phase
from sinks.clickhouse import sink
from sinks.clickhouse.client import Store, open_store
from sinks.clickhouse.migrations import migrations
from sinks.clickhouse.readings import COLUMNS, arrow_file, frame_of, telemetry_columns
from sinks.clickhouse.sink import Batch, Block, History, batches, life_of, open_history
from sinks.codec import encode
from sinks.columns import decode_readings
from sinks.errors import Misconfigured
from sinks.settings import ClickHouseSettings
from tests.builders import T0
from tests.embedded_history import count, emptied_store, settings_of
from tests.schemas.golden import example


def quarter(minutes: int, revision: int = 1, **fields: Any) -> QuarterHour:
    golden = example("derms.quarter-hours")
    assert isinstance(golden, QuarterHour)
    start = T0 + timedelta(minutes=15 * minutes)
    return golden.model_copy(update={"start": start, "revision": revision, "provisional": revision == 0, **fields})


def quarters(first: int, values: Iterable[Value], partition: int = 0) -> Batch:
    [batch] = batches("derms.quarter-hours", [(partition, first + index, value) for index, value in enumerate(values)])
    return batch


def readings(first: int, messages: Iterable[Value], partition: int = 0) -> Batch:
    payloads = [encode(message) for message in messages]
    offsets = np.arange(first, first + len(payloads))
    return Batch("derms.telemetry", partition, first, first + len(payloads) - 1, readings=frame_of(decode_readings(payloads), offsets))


def reading(seconds: float = 0, power_w: float | None = 1.0, **fields: Any) -> Measurement:
    plain: dict[str, Any] = {"asset_id": "a", "measured_at": T0 + timedelta(seconds=seconds), "power_w": power_w, **fields}
    return Measurement(**plain)


def write(store: Store, *written: Batch, life: int = 1, incarnation: str = "life") -> None:
    history = History(store, incarnation, life)
    for batch in written:
        history.add(batch)
    history.flush()


def powers(store: Store) -> list[float | None]:
    return [row["power_w"] for row in store.query("SELECT power_w FROM v_telemetry ORDER BY asset_id, measured_at, phase")]


def parts(store: Store, table: str) -> int:
    sql = "SELECT sum(rows) AS n FROM system.parts WHERE database = currentDatabase() AND table = {table:String} AND active"
    return int(store.query(sql, {"table": table})[0]["n"])


def test_the_same_block_again_is_not_even_stored(store: Store) -> None:
    for _ in range(3):
        write(store, quarters(10, [quarter(n) for n in range(50)]))
    assert parts(store, "quarter_hours") == 50
    assert count(store, "v_quarter_hours") == 50


def test_a_replay_cut_into_other_blocks_counts_once(store: Store) -> None:
    values = [quarter(n) for n in range(60)]
    write(store, quarters(0, values))
    write(store, quarters(0, values[:17]))
    write(store, quarters(17, values[17:]))
    assert count(store, "v_quarter_hours") == 60


def test_readings_again_count_once(store: Store) -> None:
    messages = [reading(n) for n in range(500)]
    write(store, readings(0, messages))
    write(store, readings(0, messages))
    assert parts(store, "telemetry") == 500
    write(store, readings(0, messages[:123]), readings(123, messages[123:300]))
    assert count(store, "v_telemetry") == 500


def test_a_token_is_never_good_for_other_rows(store: Store) -> None:
    """The topic was made anew, or the program learned to read more: same positions, other rows. All of them count."""
    write(store, quarters(0, [quarter(0)]))
    write(store, quarters(0, [quarter(1)]))
    write(store, readings(0, [reading(0)]))
    write(store, readings(0, [reading(1)]))
    assert count(store, "v_quarter_hours") == 2
    assert count(store, "v_telemetry") == 2


def test_each_insert_on_one_connection_has_its_own_token(store: Store) -> None:
    """A token kept on the connection once swallowed all inserts after the first."""
    history = History(store, "life", 1)
    for n in range(20):
        history.add(quarters(n, [quarter(n)]))
        history.flush()
    store.insert_columns("breaches", {"breach_id": ["b"], "version": [1]})
    assert count(store, "v_quarter_hours") == 20
    assert count(store, "v_breaches") == 1


def test_tokens_say_where_rows_come_from() -> None:
    block = Block()
    block.covers(quarters(5, [quarter(0), quarter(1)], partition=1))
    block.covers(quarters(9, [quarter(0)], partition=0))
    block.covers(quarters(7, [quarter(0)], partition=1))
    assert block.token("life", 255) == "life:derms.quarter-hours:0:9-9,derms.quarter-hours:1:5-7:000000ff"


def test_the_same_readings_make_the_same_bytes() -> None:
    made = [arrow_file(telemetry_columns(frame, 1)) for frame in (readings(3, [reading(n) for n in range(9)]).readings,) * 2]
    assert made[0] == made[1]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_the_highest_revision_holds_in_whatever_order(store: Store, order: tuple[int, ...]) -> None:
    for offset, revision in enumerate(order):
        write(store, quarters(offset, [quarter(0, revision, import_wh=float(revision))]))
    assert store.query("SELECT revision, import_wh FROM v_quarter_hours") == [{"revision": 3, "import_wh": 3.0}]


def test_of_one_revision_the_last_said_holds_also_in_a_new_life(store: Store) -> None:
    write(store, quarters(900, [quarter(0, 1, import_wh=1.0)]), life=1)
    write(store, quarters(901, [quarter(0, 1, import_wh=2.0)]), life=1)
    assert store.query("SELECT import_wh FROM v_quarter_hours") == [{"import_wh": 2.0}]
    write(store, quarters(0, [quarter(0, 1, import_wh=3.0)]), life=2, incarnation="next")
    assert store.query("SELECT import_wh FROM v_quarter_hours") == [{"import_wh": 3.0}]


def test_provisional_rows_yield_to_final_ones(store: Store) -> None:
    write(store, quarters(0, [quarter(0, 1, import_wh=5.0), quarter(1, 0, import_wh=1.0), quarter(1, 0, import_wh=2.0)]))
    write(store, quarters(7, [quarter(0, 0, import_wh=4.0)]))  # late, of a replay
    assert store.query("SELECT import_wh FROM v_quarter_hours") == [{"import_wh": 5.0}]
    assert store.query("SELECT import_wh FROM v_open_quarter_hours") == [{"import_wh": 2.0}]
    write(store, quarters(9, [quarter(1, 1, import_wh=9.0)]))
    assert count(store, "v_open_quarter_hours") == 0
    assert count(store, "v_quarter_hours") == 2


def test_the_first_of_two_readings_stays(store: Store) -> None:
    write(store, readings(5, [reading(0, 1.0), reading(0, 2.0)]))
    write(store, readings(9, [reading(0, 3.0)]))
    assert powers(store) == [1.0]
    write(store, readings(2, [reading(0, 4.0)]))  # an older one that comes later, as in a replay
    assert powers(store) == [4.0]
    write(store, readings(0, [reading(0, 5.0)]), life=2, incarnation="next")
    assert powers(store) == [4.0]


def test_within_one_message_the_first_stays(store: Store) -> None:
    batch = MeasurementBatch(measurements=[reading(0, 1.0), reading(1, 8.0), reading(0, 2.0), reading(0, 3.0)])
    write(store, readings(0, [batch]))
    assert powers(store) == [1.0, 8.0]


@pytest.mark.parametrize("bad", [reading(0, 1.0, quality=Quality.BAD), reading(0, float("nan")), reading(0, float("inf"))])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_left_out_does_not_occupy_its_identity(store: Store, bad: Measurement, first: bool) -> None:
    pair = [bad, reading(0, 7.0)] if first else [reading(0, 7.0), bad]
    write(store, readings(0, pair[:1]))
    write(store, readings(1, pair[1:]))
    assert powers(store) == [7.0]


def test_every_decodable_reading_is_kept_with_what_it_said(store: Store) -> None:
    messages = [
        reading(0, None, import_wh=1.25, export_wh=0.0, phase=Phase.TWO, quality=Quality.ESTIMATED),
        reading(1, float("nan"), stored_wh=3.0),
        reading(2, -0.1, quality=Quality.BAD),
        reading(3, 1.0, asset_id="nobody knows it"),
    ]
    write(store, readings(0, messages))
    found = store.query("SELECT * EXCEPT (inserted_at) FROM v_telemetry ORDER BY measured_at")
    for row, message in zip(found, messages, strict=True):
        want = {name: str(item) if name in ("phase", "quality") else item for name, item in message.model_dump().items()}
        assert row == pytest.approx(want, nan_ok=True)


def test_readings_of_any_year_go_into_one_block(store: Store) -> None:
    """A producer with a wrong clock spreads a block over hundreds of months; the line goes on."""
    messages = [reading(0, 1.0, measured_at=T0 - timedelta(days=31 * n)) for n in range(300)]
    write(store, readings(0, messages))
    assert count(store, "v_telemetry") == 300


def test_a_large_block_is_counted_whole(store: Store) -> None:
    several = [MeasurementBatch(measurements=[reading(n * 1000 + k) for k in range(1000)]) for n in range(70)]
    write(store, readings(0, several))
    assert count(store, "v_telemetry") == 70_000


def test_a_position_of_another_life_is_another_dead_letter(store: Store) -> None:
    letter = example("derms.dead-letters")
    assert isinstance(letter, DeadLetter)
    for life, incarnation in ((1, "one"), (2, "two")):
        write(store, Batch("derms.dead-letters", 0, 0, 0, [(0, letter)]), life=life, incarnation=incarnation)
    assert count(store, "v_dead_letters") == 2


def test_lives_are_numbered_in_the_order_they_are_met(store: Store) -> None:
    assert [life_of(store, name) for name in ("x", "y", "x", "z", "y")] == [1, 2, 1, 3, 2]
    store.insert_columns("incarnations", {"incarnation": ["last"], "ordinal": [(1 << 15) - 1]})
    with pytest.raises(Misconfigured, match="lives"):
        life_of(store, "one too many")


def test_opening_brings_an_embedded_store_up_to_date(store: Store) -> None:
    history = open_history(settings_of(store), "opened")
    history.add(quarters(0, [quarter(0)]))
    history.flush()
    history.close()
    assert count(store, "v_quarter_hours") == 1


def test_a_server_that_is_behind_is_for_a_person_to_migrate(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ClickHouseSettings(url="http://127.0.0.1:8123")
    monkeypatch.setattr(sink, "open_store", lambda _: open_store(settings_of(store)))
    open_history(server, "kafka").close()
    monkeypatch.setattr(sink, "pending", lambda _: migrations()[-1:])
    with pytest.raises(Misconfigured, match="run derms migrate"):
        open_history(server, "kafka")


def test_it_does_not_wait_when_there_is_enough(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "FLUSH_ROWS", 10)
    history = History(store, "life", 1)
    history.add(quarters(0, [quarter(n) for n in range(9)]))
    assert count(store, "v_quarter_hours") == 0
    history.add(quarters(9, [quarter(9)]))
    assert count(store, "v_quarter_hours") == 10


def test_it_does_not_wait_longer_than_a_second(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(sink, "wall_seconds", lambda: now[0])
    history = History(store, "life", 1)
    history.add(quarters(0, [quarter(0)]))
    assert count(store, "v_quarter_hours") == 0
    now[0] += 1.0
    history.add(quarters(1, [quarter(1)]))
    assert count(store, "v_quarter_hours") == 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_history_of_crashes_gives_the_rows_of_an_undisturbed_run(data: st.DataObject) -> None:
    """Blocks of any size, and after each a crash may take the reader back to any position it had finished."""
    store = emptied_store()
    log = [quarter(n % 7, 1 + n // 7, import_wh=float(n)) for n in range(30)]
    at = finished = 0
    for _ in range(12):
        size = data.draw(st.integers(1, 12))
        write(store, quarters(at, log[at : at + size]))
        at = min(at + size, len(log))
        if data.draw(st.booleans()):
            at = data.draw(st.integers(finished, at))
        finished = data.draw(st.integers(finished, at))
        if at == len(log):
            break
    if at < len(log):
        write(store, quarters(at, log[at:]))
    truth = {n % 7: float(n) for n in range(30)}
    found = store.query("SELECT start, import_wh FROM v_quarter_hours ORDER BY start")
    assert [row["import_wh"] for row in found] == [truth[n] for n in sorted(truth)]


def test_the_arrow_columns_are_those_of_the_table(store: Store) -> None:
    columns = [row["name"] for row in store.query("DESCRIBE TABLE telemetry")]
    assert sorted(columns) == sorted([*COLUMNS, "inserted_at"])
