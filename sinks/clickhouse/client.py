"""The store's own connection: embedded in this process, or a ClickHouse server (contract 6, history-store.md).

`open_store` gives a `Store`; archive, migrations and commands use nothing else. Readers of the embedded store go
through `sinks.clickhouse.reader`, which gives every query a handle of its own.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError, ProgrammingError

from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.settings import ClickHouseSettings

logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())  # what it warns of, we raise

MIB = 1024 * 1024
ENGINE_OPTIONS = {
    # The engine sizes itself by the machine; an embedded one is a guest in a process that others share memory with.
    "max_server_memory_usage": 800 * MIB,
    "mark_cache_size": 32 * MIB,
    "primary_index_cache_size": 32 * MIB,
    "index_mark_cache_size": 8 * MIB,
    "query_condition_cache_size": 8 * MIB,
    "compiled_expression_cache_size": 16 * MIB,
    "max_parts_cleaning_thread_pool_size": 2,
    "max_active_parts_loading_thread_pool_size": 2,
    "max_outdated_parts_loading_thread_pool_size": 2,
    "background_schedule_pool_initial_size": 2,
}
INSERT_SETTINGS = {
    # Set explicitly: their defaults moved between versions (history-store.md).
    "async_insert": "0",
    "insert_deduplicate": "1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    # A producer's clock may be wrong by decades, and one reading must not stop the line.
    "max_partitions_per_insert_block": "0",
}
ANSWER_WITHIN_S = 300
QUERY_SETTINGS = {"max_execution_time": "60"}
_TRY_AGAIN = frozenset({159, 202, 209, 210, 241, 242, 243, 252, 394, 425, 999})
"""Server error codes that pass: time-outs, network, memory, no space, too many queries or parts."""
_ACCESS = frozenset({192, 193, 194, 497, 516})


class Store:
    """One connection to the store, one query at a time; open another for another thread. All calls block.

    Errors: `Unavailable` when it does not answer or is out of resources (nothing is known about an insert then: send
    it again with the same token), `Misconfigured` for wrong credentials, `Refused` when it says no to a statement.
    """

    def __init__(self, client: Client, database: str, path: Path | None) -> None:
        self._client = client
        self.database = database
        self.path = path
        self._types: dict[str, dict[str, str]] = {}

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a SELECT as dicts; instants are aware UTC datetimes. Parameters as `{name:Type}`."""
        try:
            result = self._client.query(sql, parameters=dict(parameters or {}), settings=dict(QUERY_SETTINGS))
            return [dict(row) for row in result.named_results()]
        except ClickHouseError as error:
            raise translated(error) from error

    def command(self, sql: str) -> Any:
        """Run a statement that is not a SELECT of rows; gives its single value, if it has one."""
        try:
            return self._client.command(sql)
        except ClickHouseError as error:
            raise translated(error) from error

    def insert_columns(self, table: str, columns: Mapping[str, Sequence[Any]], token: str | None = None) -> None:
        """Insert one block given as columns of equal length; returns when the store has it on disk.

        Instants are int milliseconds (for `DateTime64(3)`), the fastest form the client takes. The same `token` with
        the same rows, sent again, changes nothing; a token covers the rows it was first used with: never reuse one.
        """
        known = self._columns(table)
        try:
            self._client.insert(
                table,
                list(columns.values()),
                column_names=list(columns),
                column_type_names=[known[name] for name in columns],
                column_oriented=True,
                settings=_insert_settings(token),
            )
        except KeyError as error:
            raise Refused(400, f"table {table} has no column {error}; the store's schema is older than the program") from error
        except ClickHouseError as error:
            raise translated(error) from error

    def insert_arrow(self, table: str, names: Sequence[str], stream: bytes, token: str | None = None) -> None:
        """As `insert_columns`, from an Arrow IPC file: for readings, without a Python object for each."""
        try:
            self._client.raw_insert(table, column_names=list(names), insert_block=stream, fmt="Arrow", settings=_insert_settings(token))
        except ClickHouseError as error:
            raise translated(error) from error

    def _columns(self, table: str) -> dict[str, str]:
        if table not in self._types:
            # The name comes from the tables of sinks.clickhouse.rows.
            self._types[table] = {row["name"]: row["type"] for row in self.query(f"DESCRIBE TABLE {table}")}
        return self._types[table]

    def close(self) -> None:
        """Let go of it. An embedded store can be opened by another process once its last connection is closed."""
        self._client.close()


def _insert_settings(token: str | None) -> dict[str, Any]:
    return dict(INSERT_SETTINGS) if token is None else {**INSERT_SETTINGS, "insert_deduplication_token": token}


def translated(error: ClickHouseError) -> Misconfigured | Refused | Unavailable:
    """The client's error as ours."""
    words = str(error).split("\n")[0][:500]
    code = getattr(error, "code", None)
    if code in _ACCESS:
        return Misconfigured("DERMS_CLICKHOUSE__USER", f"the history refuses it: {words}", "check user and password")
    if code in _TRY_AGAIN or isinstance(error, OperationalError):
        return Unavailable(f"the history does not take it now: {words}")
    if isinstance(error, DatabaseError) and code is None:
        return Unavailable(f"the history does not answer: {words}")
    return Refused(400, words)


def open_store(settings: ClickHouseSettings) -> Store:
    """Open the store `settings` name: embedded at `path`, else the server at `url`; the database is made where missing.

    Blocks; 0.6 s for the first embedded one of a process. Raises `Misconfigured` (names the setting) when neither is
    set, the URL is none, or another process has the directory; `Unavailable` when the server does not answer.
    """
    if settings.path is not None:
        return _open_embedded(settings.path, settings.database)
    if not settings.url:
        raise Misconfigured("DERMS_CLICKHOUSE__URL", "is not set", "for example http://clickhouse:8123")
    return _open_server(settings)


def _open_server(settings: ClickHouseSettings) -> Store:
    def connect(database: str | None) -> Client:
        return client_of(settings.url, database=database, user=settings.user, password=settings.password.get_secret_value())

    first = connect(None)
    try:
        first.command(f"CREATE DATABASE IF NOT EXISTS {_identifier(settings.database)}")
    except ClickHouseError as error:
        raise translated(error) from error
    finally:
        first.close()
    return Store(connect(settings.database), settings.database, None)


def client_of(
    url: str, *, database: str | None = "derms", user: str = "default", password: str = "", timeout_s: int = ANSWER_WITHIN_S
) -> Client:
    """A clickhouse-connect client of a ClickHouse HTTP address, embedded or server; aware datetimes. `timeout_s` (wall) is for an answer.

    Raises `Misconfigured` for an address that is none, `Unavailable` when nothing answers there.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured("DERMS_CLICKHOUSE__URL", f"{url!r} is not an http address", "for example http://clickhouse:8123")
    try:
        return clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            secure=parts.scheme == "https",
            database=database,
            username=user,
            password=password,
            tz_mode="aware",
            connect_timeout=min(10, timeout_s),
            send_receive_timeout=timeout_s,
            # Concurrent use and retries must not depend on a session that lives on the server.
            autogenerate_session_id=False,
        )
    except OperationalError as error:
        raise Unavailable(f"the history at {url} does not answer") from error
    except ClickHouseError as error:
        raise translated(error) from error


def connected(settings: ClickHouseSettings, url: str = "", timeout_s: int = ANSWER_WITHIN_S) -> Client:
    """A client of the history at `url` (default: that of the settings), with the settings' credentials. Raises as `client_of`."""
    password = settings.password.get_secret_value()
    return client_of(url or settings.url, database=settings.database, user=settings.user, password=password, timeout_s=timeout_s)


def _open_embedded(path: Path, database: str) -> Store:
    """Each open gives the engine's overlay database `default`, which shows the machine's files as tables, a plain one's place."""
    setting = "DERMS_CLICKHOUSE__PATH"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(setting, f"{error.strerror}: {path}", "name a directory that can be made and written") from error
    try:
        first = clickhouse_connect.get_client(interface="chdb", path=str(path), chdb_options=dict(ENGINE_OPTIONS))
    except ImportError as error:
        raise Misconfigured(setting, "the embedded engine is not installed", "install vector-derms[embedded], or name a server") from error
    except ProgrammingError as error:
        cure = "stop the other process that has it, or name another directory"
        raise Misconfigured(setting, f"history directory in use or damaged: {path}", cure) from error
    try:
        if first.command("SELECT engine = 'Memory' FROM system.databases WHERE name = 'default'") != 1:
            first.command("DROP DATABASE IF EXISTS default")
            first.command("CREATE DATABASE default ENGINE = Memory")
        first.command(f"CREATE DATABASE IF NOT EXISTS {_identifier(database)}")
        client = clickhouse_connect.get_client(
            interface="chdb", path=str(path), database=database, tz_mode="aware", chdb_options=dict(ENGINE_OPTIONS)
        )
    except ClickHouseError as error:
        raise translated(error) from error
    finally:
        first.close()
    return Store(client, database, path)


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
