"""Reading the embedded store on behalf of others: every query on an engine handle of its own.

A handle costs about a millisecond, and with it ends whatever a request set: nothing can leak from one request to the
next or to the archive (a token kept on a session lost 50,004 of 50,006 rows once: history-store.md). The handle gets
the limits, then the few settings a reader may choose, then `readonly=1`, which cannot be taken back.
"""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sinks.clickhouse.fence import Statement, check
from sinks.errors import Refused

MIB = 1024 * 1024

CHOOSABLE = frozenset(
    {
        "date_time_output_format", "extremes", "final", "format_csv_delimiter", "join_use_nulls", "limit", "max_block_size",
        "max_execution_time", "max_result_rows", "max_threads", "offset", "output_format_arrow_compression_method",
        "output_format_arrow_string_as_string", "output_format_json_quote_64bit_floats",
        "output_format_json_quote_64bit_integers", "output_format_json_quote_decimals",
        "output_format_json_quote_denormals", "output_format_parquet_compression_method",
        "output_format_parquet_string_as_string", "session_timezone",
    }
)  # fmt: skip
"""Settings a request may choose. Not by prefix: `output_format_schema` writes files."""

_CODE = re.compile(r"Code: (\d+)")
READONLY, ACCESS_DENIED, SYNTAX_ERROR, QUERY_TOO_LARGE, UNKNOWN_FORMAT, ABORTED = 164, 497, 62, 307, 73, 236
_STATUS = {
    46: 404, 47: 404, 60: 404, 73: 404, 81: 404, 115: 404,  # unknown function, identifier, table, format, database, setting
    42: 400, 43: 400, 53: 400, 62: 400, 386: 400, 456: 400, 457: 400,  # syntax, types, parameters
    164: 403, 497: 403, 307: 413, 236: 503,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may take."""

    seconds: int = 60
    memory_bytes: int = 400 * MIB
    result_bytes: int = 256 * MIB
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Result:
    """A query's answer in `format`: rows, bytes read and time as the engine counted them."""

    body: bytes
    format: str
    read_rows: int
    read_bytes: int
    elapsed_ns: int


class QueryFailed(Exception):
    """The engine or the fence said no: ClickHouse's `code`, the HTTP `status` that goes with it, and the words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.status = _STATUS.get(code, 500)
        self.words = words


class Reader:
    """Read-only queries on the embedded store at `path`, which this process must have open. Thread-safe; calls block.

    The store's own connection (`open_store`) has to stay open as long as this is used: it keeps the engine alive.
    """

    def __init__(self, path: Path, database: str = "derms", limits: Limits | None = None) -> None:
        import chdb

        self._chdb: Any = chdb
        # The very spelling the store was opened with: the engine compares paths as text.
        self._path = str(path.resolve())
        self.database = database
        self._limits = limits or Limits()
        handle = self._chdb.connect(self._path)
        try:
            names = handle.query("SELECT lower(name) FROM system.table_functions", "TabSeparated").data()
            self.version = handle.query("SELECT version()", "TabSeparated").data().strip()
        finally:
            handle.close()
        self._table_functions = frozenset(names.split())
        self._turn = threading.Condition()
        self._running = 0
        self._closing = False

    def close(self, timeout_s: float = 5.0) -> None:
        """Take no more queries and end those that run. Blocks until they have ended, at most `timeout_s` wall seconds.

        Without this the engine would go on with them while the interpreter ends, and take the process down.
        """
        deadline = time.monotonic() + timeout_s
        with self._turn:
            self._closing = True
            while self._running and time.monotonic() < deadline:
                handle = self._chdb.connect(self._path)
                try:
                    _query(handle, "KILL QUERY WHERE Settings['readonly'] = '1' ASYNC", {})
                finally:
                    handle.close()
                self._turn.wait(0.1)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._turn:
            if self._closing:
                raise QueryFailed(ABORTED, f"Code: {ABORTED}. DB::Exception: The history is stopping")
            self._running += 1
        try:
            yield
        finally:
            with self._turn:
                self._running -= 1
                self._turn.notify_all()

    def run(self, sql: str, default_format: str, parameters: Mapping[str, str], settings: Mapping[str, str]) -> Result:
        """The answer to one reading statement. Raises `QueryFailed` with ClickHouse's code and words.

        `parameters` are `{name:Type}`'s values as ClickHouse's own HTTP interface takes them.
        """
        try:
            statement = check(sql, self._table_functions)
        except Refused as refused:
            code = {400: SYNTAX_ERROR, 413: QUERY_TOO_LARGE}.get(refused.status, ACCESS_DENIED)
            raise QueryFailed(code, f"Code: {code}. DB::Exception: {refused.words}") from refused
        format_ = statement.format or default_format
        if not re.fullmatch(r"\w+", format_, re.ASCII):
            raise QueryFailed(UNKNOWN_FORMAT, f"Code: {UNKNOWN_FORMAT}. DB::Exception: Unknown format {format_[:40]!r}")
        with self._counted():
            return self._answer(statement, format_, parameters, settings)

    def _answer(self, statement: Statement, format_: str, parameters: Mapping[str, str], settings: Mapping[str, str]) -> Result:
        handle = self._handle(settings)
        try:
            started = time.perf_counter_ns()
            # In the text, so that the engine judges it: given beside the text, the Python layer knows formats of its own.
            found = _query(handle, f"{statement.sql} FORMAT {format_}", parameters)
            body = found.bytes()
            if not body and format_ == "Native":
                body = self._header(handle, statement, parameters)
            return Result(body, format_, found.rows_read(), found.bytes_read(), time.perf_counter_ns() - started)
        finally:
            handle.close()

    def _handle(self, settings: Mapping[str, str]) -> Any:
        for name in settings:
            if name not in CHOOSABLE:
                words = f"Code: {READONLY}. DB::Exception: Cannot modify '{name}' setting in readonly mode. (READONLY)"
                raise QueryFailed(READONLY, words)
        limits = self._limits
        chosen = {
            "session_timezone": "UTC",
            "max_memory_usage": str(limits.memory_bytes),
            "max_result_bytes": str(limits.result_bytes),
            "max_threads": str(limits.threads),
            "enable_http_compression": "1",  # what this window does, so that clients ask for it
            **settings,
            "max_execution_time": _seconds(settings.get("max_execution_time", ""), limits.seconds),
            "readonly": "1",
        }
        handle = self._chdb.connect(self._path)
        try:
            _query(handle, f"USE `{self.database}`", {})
            _query(handle, "SET " + ", ".join(f"{name} = {_quoted(value)}" for name, value in chosen.items()), {})
        except BaseException:
            handle.close()
            raise
        return handle

    def _header(self, handle: Any, statement: Statement, parameters: Mapping[str, str]) -> bytes:
        """An empty Native answer as a server gives it: a block of no rows that still names the columns and their types."""
        if statement.verb not in ("select", "with"):
            return b""
        described = json.loads(_query(handle, f"DESCRIBE ({statement.sql}) FORMAT JSONCompact", parameters).bytes())
        columns = [(row[0], row[1]) for row in described["data"]]
        return _varint(len(columns)) + _varint(0) + b"".join(_text(name) + _text(kind) for name, kind in columns)


def _query(handle: Any, sql: str, parameters: Mapping[str, str]) -> Any:
    try:
        return handle.query(sql, "TabSeparated", params=dict(parameters))
    except Exception as error:  # the engine raises its own class and RuntimeError alike
        words = str(error)
        code = _CODE.search(words)
        raise QueryFailed(int(code[1]) if code else 1000, words[code.start() :] if code else words) from error


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _seconds(wanted: str, most: int) -> str:
    """The time a query may take: what was asked for, but never more than the limit (0 would mean none)."""
    return str(min(int(wanted), most)) if wanted.isdecimal() and int(wanted) > 0 else str(most)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(text: str) -> bytes:
    raw = text.encode()
    return _varint(len(raw)) + raw
