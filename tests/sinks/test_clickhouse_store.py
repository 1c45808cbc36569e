"""Opening, migrating and losing the store."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from sinks.clickhouse.client import Store, client_of, open_store, translated
from sinks.clickhouse.migrations import migrate, migrations, pending
from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.settings import ClickHouseSettings
from tests.embedded_history import count

CONTRACT = {
    "telemetry", "quarter_hours", "inbound_messages", "forecast_blocks", "envelopes", "circuit_capacity", "breaches",
    "outbound_messages", "deliveries", "connection_events", "verdicts", "dead_letters",
}  # fmt: skip
ANSWERS = {"v_headroom", "v_compliance", "v_delivery_daily", "v_completeness", "v_forecast_in_force", "v_link_uptime"}
NOT_FOR_ANALYSTS = {"incarnations", "schema_migrations"}


def relations(store: Store, kind: str) -> set[str]:
    sql = f"SELECT name FROM system.tables WHERE database = currentDatabase() AND engine {kind} 'View'"
    return {row["name"] for row in store.query(sql)}


def test_migrations_run_once_and_can_be_repeated(store: Store) -> None:
    assert migrate(store) == []
    assert pending(store) == []
    for migration in migrations():
        for statement in migration.statements:
            store.command(statement)


def test_numbers_of_migrations_are_a_row() -> None:
    assert [migration.number for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_changed_or_unknown_migration_is_refused(store: Store) -> None:
    row = {"number": [9999], "name": ["9999_newer.sql"], "digest": ["x"]}
    store.insert_columns("schema_migrations", row)
    with pytest.raises(Misconfigured, match="newer program"):
        pending(store)
    store.command("DELETE FROM schema_migrations WHERE number = 9999")
    store.insert_columns("schema_migrations", {"number": [1], "name": ["0001_readings.sql"], "digest": ["other"]})
    with pytest.raises(Misconfigured, match="another text"):
        pending(store)
    store.command("DELETE FROM schema_migrations WHERE digest = 'other'")
    store.command("TRUNCATE TABLE schema_migrations")
    assert len(migrate(store)) == len(migrations())


def test_all_tables_and_views_of_the_contract_are_there(store: Store) -> None:
    assert relations(store, "!=") >= CONTRACT
    views = relations(store, "=")
    assert views >= ANSWERS | {f"v_{table}" for table in CONTRACT}
    assert {f"v_{table}" for table in relations(store, "!=") - NOT_FOR_ANALYSTS} <= views


def test_everything_has_a_comment(store: Store) -> None:
    sql = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = '' AND NOT startsWith(table, 'v_')"
    assert store.query(sql) == []
    assert store.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''") == []


def test_tables_are_safe_for_replays(store: Store) -> None:
    """Replacing, deduplicated, partitioned by what is in the key, retention from the time of insertion."""
    sql = """
        SELECT name, engine, engine_full, partition_key, sorting_key FROM system.tables
        WHERE database = currentDatabase() AND engine != 'View' AND name NOT IN ('incarnations', 'schema_migrations')
    """
    for table in store.query(sql):
        assert table["engine"] == "ReplacingMergeTree", table
        assert "ReplacingMergeTree(version)" in table["engine_full"]
        assert "non_replicated_deduplication_window = 1000" in table["engine_full"]
        if table["name"] != "config_changes":
            assert "TTL toDateTime(inserted_at)" in table["engine_full"]
        if table["partition_key"]:
            column = table["partition_key"].split("(")[1].rstrip(")")
            assert column in table["sorting_key"].split(", ")


def test_retention_counts_from_the_insertion(store: Store) -> None:
    """A recording of 2007 stays; what came in long ago goes, whatever its event time."""
    now = 1_767_225_600_000
    row = {"asset_id": ["recorded", "old"], "measured_at": [1_181_260_800_000, now], "version": [1, 1]}
    store.insert_columns("telemetry", {**row, "inserted_at": [4_000_000_000_000, 1_000_000_000_000]})
    store.command("OPTIMIZE TABLE telemetry FINAL")
    assert store.query("SELECT asset_id FROM v_telemetry") == [{"asset_id": "recorded"}]


def test_no_materialised_view_sums_input_that_may_come_twice(store: Store) -> None:
    assert store.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'") == []


def test_the_engines_window_on_the_machines_files_is_closed(store: Store) -> None:
    assert store.query("SELECT engine FROM system.databases WHERE name = 'default'") == [{"engine": "Memory"}]
    with pytest.raises(Refused):
        store.query("SELECT * FROM default.`/etc/hostname`")


def test_a_second_process_hears_that_the_directory_is_in_use(store: Store) -> None:
    assert store.path is not None
    program = (
        "from pathlib import Path; import sys\n"
        "from sinks.clickhouse.client import open_store\n"
        "from sinks.errors import Misconfigured\n"
        "from sinks.settings import ClickHouseSettings\n"
        "try: open_store(ClickHouseSettings(path=Path(sys.argv[1])))\n"
        "except Misconfigured as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(store.path)], capture_output=True, text=True, timeout=60, check=True)
    assert "DERMS_CLICKHOUSE__PATH: history directory in use or damaged" in done.stdout
    assert count(store, "telemetry") == 0  # and the first one goes on


INSERTS_UNTIL_KILLED = """
import sys
from pathlib import Path
from sinks.clickhouse.client import open_store
from sinks.clickhouse.migrations import migrate
from sinks.settings import ClickHouseSettings
store = open_store(ClickHouseSettings(path=Path(sys.argv[1])))
migrate(store)
number = 0
while True:
    row = {"breach_id": [f"b{number}"], "revision": [1], "version": [1]}
    store.insert_columns("breaches", row, f"t{number}")
    number += 1
    print(number, flush=True)
"""
COUNTS = """
import sys
from pathlib import Path
from sinks.clickhouse.client import open_store
from sinks.settings import ClickHouseSettings
store = open_store(ClickHouseSettings(path=Path(sys.argv[1])))
print(store.query("SELECT count() AS n FROM v_breaches")[0]["n"])
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", INSERTS_UNTIL_KILLED, str(tmp_path / "h")], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged >= 60:
            os.kill(writer.pid, signal.SIGKILL)
            break
    rest = writer.stdout.read().split()
    writer.stdout.close()
    writer.wait()
    acknowledged = int(rest[-1]) if rest and rest[-1].isdecimal() else acknowledged
    done = subprocess.run([sys.executable, "-c", COUNTS, str(tmp_path / "h")], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) in (acknowledged, acknowledged + 1)  # one may have been stored and not yet acknowledged


def test_settings_that_name_no_store_are_told_by_name() -> None:
    with pytest.raises(Misconfigured, match="DERMS_CLICKHOUSE__URL"):
        open_store(ClickHouseSettings())
    with pytest.raises(Misconfigured, match="DERMS_CLICKHOUSE__URL"):
        open_store(ClickHouseSettings(url="clickhouse:8123"))
    with pytest.raises(Misconfigured, match="DERMS_CLICKHOUSE__PATH"):
        open_store(ClickHouseSettings(path=Path("/proc/nowhere")))


def test_a_server_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        client_of("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OperationalError("reset by peer"), Unavailable),
        (DatabaseError("Code: 241. memory", code=241), Unavailable),
        (DatabaseError("no code at all"), Unavailable),
        (DatabaseError("Code: 516. no", code=516), Misconfigured),
        (DatabaseError("Code: 62. syntax", code=62), Refused),
    ],
)
def test_errors_say_what_has_to_happen_next(error: DatabaseError | OperationalError, kind: type[Exception]) -> None:
    assert isinstance(translated(error), kind)


def test_a_column_the_table_does_not_have_is_said(store: Store) -> None:
    with pytest.raises(Refused, match="no column 'nope'"):
        store.insert_columns("breaches", {"nope": [1]})
