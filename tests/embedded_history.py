"""One embedded history for a whole test process: the engine has one directory a process, and importing it costs 250 MiB."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from sinks.clickhouse.client import Store, open_store
from sinks.clickhouse.migrations import migrate
from sinks.settings import ClickHouseSettings

KEPT = "schema_migrations"


@functools.cache
def history_store() -> Store:
    """The process's store, brought up to date."""
    path = Path(tempfile.mkdtemp(prefix="derms-history-"))
    store = open_store(ClickHouseSettings(path=path))
    migrate(store)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    atexit.register(store.close)
    return store


def emptied_store() -> Store:
    """The process's store without a row in it."""
    store = history_store()
    filled = store.query(
        "SELECT DISTINCT table FROM system.parts WHERE database = currentDatabase() AND active AND table != {kept:String}", {"kept": KEPT}
    )
    for row in filled:
        store.command(f"TRUNCATE TABLE {row['table']}")
    return store


def settings_of(store: Store) -> ClickHouseSettings:
    """Settings that open the same embedded store again."""
    assert store.path is not None
    return ClickHouseSettings(path=store.path, url="http://127.0.0.1:0")


def count(store: Store, table: str) -> int:
    """How many rows a table or view shows."""
    return int(store.query(f"SELECT count() AS n FROM {table}")[0]["n"])
