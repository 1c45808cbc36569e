"""The embedded history over ClickHouse's HTTP protocol, read-only and on loopback (contract 6).

`clickhouse_connect.get_client(host, port)`, curl and Grafana read it as they would read a server. There is no user
and no password, since whoever reaches the port may read: so it listens on loopback only, and a request whose Host is
no loopback name is refused, lest a web page reach it under a name of its own.
"""

import json
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.to_thread
import uvicorn
from clickhouse_connect.driver.compression import available_compression, comp_map, get_compressor
from fastapi import FastAPI, Request, Response

from sinks.clickhouse.client import open_store
from sinks.clickhouse.fence import MAX_QUERY_BYTES
from sinks.clickhouse.migrations import migrate
from sinks.clickhouse.reader import Limits, QueryFailed, Reader, Result
from sinks.errors import Misconfigured, Unavailable
from sinks.settings import ClickHouseSettings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
AT_ONCE = 4
"""Queries that run at the same time; more wait their turn."""

LAST_ANSWERS_S = 5.0
MAX_BODY = 2 * MAX_QUERY_BYTES
DEFAULT_FORMAT = "TabSeparated"
BAD_ARGUMENTS, UNKNOWN_DATABASE, NOT_IMPLEMENTED = 36, 81, 48

_TRANSPORT = frozenset(
    {
        "buffer_size", "cancel_http_readonly_queries_on_client_close", "cast_string_to_dynamic_use_inference",
        "client_protocol_version", "close_session", "database", "date_time_input_format", "decompress", "default_format",
        "enable_http_compression", "format", "http_headers_progress_interval_ms", "http_write_exception_in_output_format",
        "log_comment", "password", "query", "query_id", "quota_key", "role",
        "send_progress_in_http_headers", "session_check", "session_id", "session_timeout", "stacktrace", "user",
        "wait_end_of_query",
    }
)  # fmt: skip
"""What requests may carry and this window needs no setting for: queries are whole, bounded and without sessions."""

CONTENT_TYPES = {
    "CSV": "text/csv; charset=UTF-8", "CSVWithNames": "text/csv; charset=UTF-8", "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8", "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8", "Native": "application/octet-stream",
    "Arrow": "application/octet-stream", "ArrowStream": "application/octet-stream", "Parquet": "application/octet-stream",
}  # fmt: skip


def history_app(reader: Reader) -> FastAPI:
    """The web application; queries run in threads, at most `AT_ONCE` of them together."""
    app = FastAPI(title="History", docs_url=None, redoc_url=None, openapi_url=None)
    gate = anyio.CapacityLimiter(AT_ONCE)

    @app.get("/ping", include_in_schema=False)
    async def ping() -> Response:
        return Response("Ok.\n", media_type="text/plain")

    @app.api_route("/", methods=["GET", "POST"], include_in_schema=False)
    async def query(request: Request) -> Response:
        query_id = request.query_params.get("query_id") or str(uuid.uuid4())
        try:
            _check_host(request)
            sql, options = await _read(request)
            if not sql.strip():
                return Response("Ok.\n", media_type="text/plain")
            result = await anyio.to_thread.run_sync(_answer, reader, sql, options, limiter=gate)
        except QueryFailed as failed:
            return _failure(failed, query_id)
        encoding = _encoding(request.headers.get("Accept-Encoding", ""), options)
        body = await anyio.to_thread.run_sync(_compressed, result.body, encoding)
        return Response(body, headers=_headers(result, encoding, query_id, reader))

    return app


def _check_host(request: Request) -> None:
    host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    if host not in LOOPBACK:
        raise QueryFailed(497, "Code: 497. DB::Exception: The history answers to loopback names only")


async def _read(request: Request) -> tuple[str, dict[str, str]]:
    """The query and everything beside it: from the address, the body, or a form as clients send long parameters."""
    headers = {"x-clickhouse-format": "default_format", "x-clickhouse-database": "database"}
    options = {option: request.headers[name] for name, option in headers.items() if name in request.headers}
    options.update(parse_qsl(request.url.query, keep_blank_values=True))
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise QueryFailed(NOT_IMPLEMENTED, f"Code: {NOT_IMPLEMENTED}. DB::Exception: Compressed requests are not served")
    parts = bytearray()
    async for chunk in request.stream():
        parts += chunk
        if len(parts) > MAX_BODY:
            raise QueryFailed(307, f"Code: 307. DB::Exception: The request is longer than {MAX_BODY} bytes")
    kind = request.headers.get("Content-Type", "")
    try:
        if kind.startswith("multipart/form-data"):
            options.update(_form(kind, bytes(parts)))
            return options.get("query", ""), options
        body = parts.decode()
    except UnicodeDecodeError:
        raise QueryFailed(62, "Code: 62. DB::Exception: Syntax error: the query is not UTF-8") from None
    return "\n".join(text for text in (options.get("query", ""), body) if text), options


def _form(kind: str, body: bytes) -> dict[str, str]:
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    found: dict[str, str] = {}
    for part in message.iter_parts():
        name, content = part.get_param("name", header="Content-Disposition"), part.get_payload(decode=True)
        if part.get_filename() is not None or not isinstance(name, str) or not isinstance(content, bytes):
            raise QueryFailed(NOT_IMPLEMENTED, f"Code: {NOT_IMPLEMENTED}. DB::Exception: External data is not served")
        found[name] = content.decode()
    return found


def _answer(reader: Reader, sql: str, options: Mapping[str, str]) -> Result:
    database = options.get("database", "")
    if database not in ("", reader.database):
        raise QueryFailed(UNKNOWN_DATABASE, f"Code: {UNKNOWN_DATABASE}. DB::Exception: Only the database {reader.database} is served")
    parameters = {name.removeprefix("param_"): value for name, value in options.items() if name.startswith("param_")}
    settings = {name: value for name, value in options.items() if name not in _TRANSPORT and not name.startswith("param_")}
    return reader.run(sql, options.get("default_format") or options.get("format") or DEFAULT_FORMAT, parameters, settings)


def _encoding(accepted: str, options: Mapping[str, str]) -> str | None:
    """The first way of compression the caller takes that we know; none unless it takes one."""
    if options.get("enable_http_compression", "1") in ("0", "false"):
        return None
    offered = [item.split(";")[0].strip() for item in accepted.split(",")]
    return next((name for name in offered if name in comp_map and name in available_compression), None)


def _compressed(body: bytes, encoding: str | None) -> bytes:
    """One frame, however long the body: some readers stop after the first."""
    if encoding is None:
        return body
    compressor: Any = get_compressor(encoding)
    return bytes(compressor.compress_block(body)) + bytes(compressor.flush() or b"")


def _headers(result: Result, encoding: str | None, query_id: str, reader: Reader) -> dict[str, str]:
    summary = {
        "read_rows": str(result.read_rows),
        "read_bytes": str(result.read_bytes),
        "written_rows": "0",
        "written_bytes": "0",
        "elapsed_ns": str(result.elapsed_ns),
    }
    headers = {
        "Content-Type": CONTENT_TYPES.get(result.format, "text/plain; charset=UTF-8"),
        "X-ClickHouse-Summary": json.dumps(summary),
        "X-ClickHouse-Format": result.format,
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Server-Display-Name": "Vector DERMS embedded history",
    }
    return headers | ({"Content-Encoding": encoding} if encoding else {})


def _failure(failed: QueryFailed, query_id: str) -> Response:
    headers = {"X-ClickHouse-Exception-Code": str(failed.code), "X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Timezone": "UTC"}
    return Response(failed.words.rstrip() + "\n", failed.status, headers, media_type="text/plain")


@contextmanager
def serving_history(settings: ClickHouseSettings, *, limits: Limits | None = None) -> Iterator[str]:
    """Own the embedded store at `settings.path`, bring it up to date, and answer at `settings.url` until the end of the block.

    Gives the address (with the port that was chosen where the URL names port 0). The server runs in a thread. Raises
    `Misconfigured` where another process has the directory or the URL is not loopback, `Unavailable` where the port is taken.
    """
    address = urlsplit(settings.url or "http://127.0.0.1:0")
    if settings.path is None or address.hostname not in LOOPBACK:
        raise Misconfigured("DERMS_CLICKHOUSE__URL", "an embedded history listens on loopback only", "for example http://127.0.0.1:8123")
    store = open_store(settings)
    try:
        migrate(store)
        reader = Reader(settings.path, settings.database, limits)
        listening = _listen(address.hostname, address.port or 0)
        server = uvicorn.Server(uvicorn.Config(history_app(reader), log_config=None, access_log=False, lifespan="off", server_header=False))
        thread = threading.Thread(target=server.run, args=([listening],), name="history-http", daemon=True)
        thread.start()
        try:
            host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
            yield f"http://{host}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            reader.close()
            thread.join(LAST_ANSWERS_S)
    finally:
        store.close()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: from here on callers are taken, and wait until the server is up."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128)
    except OSError as error:
        raise Unavailable(f"the history's port {host}:{port} cannot be listened on: {error.strerror}") from None
