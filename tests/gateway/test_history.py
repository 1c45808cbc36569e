"""The embedded history over HTTP, as clickhouse-connect, curl and a hostile caller see it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from gateway.history import serving_history
from schemas.clock import wall_seconds
from sinks.clickhouse.client import Store, client_of
from sinks.clickhouse.reader import Limits
from sinks.errors import Misconfigured, Unavailable
from sinks.http import Answer, fetch
from sinks.settings import ClickHouseSettings
from tests.embedded_history import count, emptied_store, history_store, settings_of

LIMITS = Limits(seconds=2, memory_bytes=200 * 1024 * 1024, result_bytes=32 * 1024 * 1024)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_history(settings_of(history_store()), limits=LIMITS) as address:
        yield address


@pytest.fixture
def store() -> Store:
    return emptied_store()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    made = client_of(url)
    yield made
    made.close()


def get(url: str, path: str = "/", body: str | None = None, **headers: str) -> Answer:
    content = None if body is None else body.encode()
    return fetch("GET" if body is None else "POST", url + path, headers=headers, content=content)


def test_a_plain_client_reads_it(url: str, store: Store) -> None:
    host, port = url.removeprefix("http://").split(":")
    plain = clickhouse_connect.get_client(host=host, port=int(port))
    store.insert_columns("breaches", {"breach_id": ["b1", "b2"], "quarters": [1, 2], "version": [1, 1]})
    assert plain.query("SELECT breach_id, quarters FROM v_breaches ORDER BY breach_id").result_rows == [("b1", 1), ("b2", 2)]
    assert plain.command("SELECT count() FROM v_breaches") == 2
    assert plain.ping()
    assert plain.query("SELECT 1").summary["read_rows"] == "1"
    plain.close()


def test_frames_and_arrow(client: Client, store: Store) -> None:
    store.insert_columns(
        "quarter_hours", {"id": ["a"], "start": [1_767_225_600_000], "import_wh": [1.5], "revision": [1], "version": [1 << 64]}
    )
    frame = client.query_df("SELECT id, start, import_wh FROM v_quarter_hours")
    assert frame["import_wh"].tolist() == [1.5]
    assert frame["start"][0].to_pydatetime() == datetime(2026, 1, 1, tzinfo=UTC)
    assert client.query_arrow("SELECT id, import_wh FROM v_quarter_hours").to_pylist() == [{"id": "a", "import_wh": 1.5}]


def test_instants_are_aware(client: Client) -> None:
    [(instant,)] = client.query("SELECT toDateTime64('2026-01-01 00:00:00.125', 3, 'UTC')").result_rows
    assert instant == datetime(2026, 1, 1, 0, 0, 0, 125_000, tzinfo=UTC)


def test_parameters(client: Client) -> None:
    sql = "SELECT {text:String} AS a, {number:Int32} AS b, {list:Array(String)} AS c, {instant:DateTime64(3, 'UTC')} AS d"
    given = {"text": "o'k\t\\ {x:String} --", "number": -3, "list": ["p'q", "r"], "instant": datetime(2026, 1, 2, tzinfo=UTC)}
    assert client.query(sql, parameters=given).first_item == {"a": given["text"], "b": -3, "c": ["p'q", "r"], "d": given["instant"]}


def test_long_parameters_come_as_a_form(client: Client) -> None:
    assert client.query("SELECT length({text:String}) AS n", parameters={"text": "ä" * 20_000}).first_item == {"n": 40_000}


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_more_than_65536_rows_arrive_whole(url: str, compress: Any) -> None:
    host, port = url.removeprefix("http://").split(":")
    made = clickhouse_connect.get_client(host=host, port=int(port), compress=compress)
    for _ in range(2):  # on one connection
        result = made.query("SELECT number, toString(number) AS text FROM numbers(200000)")
        assert len(result.result_rows) == 200_000
        assert sum(result.result_columns[0]) == 199_999 * 100_000
    made.close()


def test_a_block_stream_arrives_whole(client: Client) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(150000)") as stream:
        assert sum(len(block) for block in stream) == 150_000


@pytest.mark.parametrize("sql", ["SELECT * FROM v_quarter_hours WHERE 0", "SELECT * FROM v_quarter_hours LIMIT 0"])
def test_an_empty_answer_still_names_its_columns(client: Client, sql: str) -> None:
    found = client.query(sql)
    assert found.result_rows == []
    assert {"level", "id", "start", "import_wh"} <= set(found.column_names)
    assert str(found.column_types[found.column_names.index("import_wh")].name) == "Float64"
    assert list(client.query_df("SELECT id, start FROM v_quarter_hours WHERE 0").columns) in ([], ["id", "start"])


def test_settings_of_a_request_end_with_it(url: str, client: Client, store: Store) -> None:
    """A deduplication token once stayed on the session and swallowed what was inserted after it."""
    answer = get(url, "/?insert_deduplication_token=leak&query=SELECT+1")
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (403, "164")
    assert get(url, "/?max_threads=1&query=SELECT+getSetting('max_threads')").body == b"1\n"
    assert get(url, "/?query=SELECT+getSetting('max_threads')").body == b"2\n"
    assert get(url, "/?session_timezone=Asia/Tokyo&query=SELECT+timezone()").body == b"Asia/Tokyo\n"
    assert get(url, "/?query=SELECT+timezone()").body == b"UTC\n"
    for number in range(5):
        store.insert_columns("breaches", {"breach_id": [f"b{number}"], "version": [1]}, f"token {number}")
    assert count(store, "v_breaches") == 5
    assert client.query("SELECT count() FROM v_breaches").result_rows == [(5,)]


def test_errors_carry_clickhouses_codes(url: str, client: Client) -> None:
    with pytest.raises(DatabaseError) as failed:
        client.query("SELECT nope FROM v_breaches")
    assert failed.value.code == 47
    answer = get(url, body="SELECT * FROM nowhere")
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (404, "60")
    answer = get(url, body="SELECT (")
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (400, "62")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO breaches (breach_id) VALUES ('x')", "DROP TABLE breaches", "SELECT file('/etc/hostname')", "SET readonly = 0",
        "SELECT * FROM default.`/etc/hostname`", "DESCRIBE TABLE file('/etc/hostname')", "SELECT 1 INTO OUTFILE '/tmp/out.csv'",
        "SELECT * FROM url('http://127.0.0.1/', 'CSV')", "SELECT * FROM Python(url)", "SELECT 1; DROP TABLE breaches",
        "SELECT 1 SETTINGS max_execution_time = 0", "SELECT * FROM system.processes", "TRUNCATE TABLE breaches",
    ],
)  # fmt: skip
def test_it_is_a_window_not_a_door(url: str, store: Store, sql: str) -> None:
    store.insert_columns("breaches", {"breach_id": ["b"], "version": [1]})
    answer = get(url, body=sql)
    assert answer.status in (400, 403)
    assert answer.headers["x-clickhouse-exception-code"] in ("62", "164", "497")
    assert count(store, "breaches") == 1


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/?database=default&query=SELECT+1", {}, 404),
        ("/?query=SELECT+1&default_format=Template%20x", {}, 404),
        ("/?query=SELECT+1&default_format=Arrowtable", {}, 404),
        ("/?query=SELECT+1&compress=1", {}, 403),
        ("/?query=SELECT+1&output_format_schema=/tmp/x", {}, 403),
        ("/?query=SELECT+1", {"Host": "evil.example"}, 403),
        ("/?query=SELECT+1", {"Host": "127.0.0.1.evil.example:80"}, 403),
        ("/?query=SELECT+1&database=derms", {"X-ClickHouse-User": "anyone"}, 200),
    ],
)
def test_what_requests_may_ask(url: str, path: str, headers: dict[str, str], status: int) -> None:
    assert get(url, path, **headers).status == status


def test_requests_that_are_too_much(url: str) -> None:
    assert get(url, body="SELECT '" + "x" * 600_000 + "'").status == 413
    assert get(url, body="SELECT '" + "x" * 300_000 + "'").status == 413
    assert get(url, body="SELECT 1", **{"Content-Encoding": "gzip"}).status == 500
    assert fetch("POST", url, content=b"SELECT '\xff'").status == 400
    answer = get(url, body="SELECT groupArray(number) FROM numbers(1000000000)")
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (500, "241")
    answer = get(url, body="SELECT * FROM numbers(100000000)")
    assert answer.headers["x-clickhouse-exception-code"] == "396"


def test_a_query_ends_at_its_time(url: str) -> None:
    answer = get(url, "/?max_execution_time=1", body="SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1")
    assert answer.headers["x-clickhouse-exception-code"] == "159"
    assert get(url, "/?max_execution_time=0&query=SELECT+getSetting('max_execution_time')").body == b"2\n"


def test_curl(url: str) -> None:
    assert get(url, "/ping").body == b"Ok.\n"
    assert get(url).body == b"Ok.\n"
    answer = get(url, "/?query=SELECT+1+AS+one,'a'")
    assert (answer.body, answer.headers["x-clickhouse-format"]) == (b"1\ta\n", "TabSeparated")
    assert get(url, body="SELECT 1 AS one FORMAT JSONEachRow").body == b'{"one":1}\n'
    assert get(url, "/?default_format=CSVWithNames", body="SELECT 1 AS one").body == b'"one"\n1\n'
    assert get(url, "/?query=SELECT+1,", body="2").body == b"1\t2\n"
    assert get(url, "/?param_x=5&query=SELECT+%7Bx:UInt8%7D").body == b"5\n"
    assert get(url, body="SELECT 1", **{"X-ClickHouse-Format": "JSONEachRow"}).body == b'{"1":1}\n'
    assert get(url, body="SELECT 7 FORMAT Parquet").body.startswith(b"PAR1")


def test_many_at_once_while_rows_come_in(url: str, store: Store) -> None:
    stop = threading.Event()

    def insert() -> int:
        number = 0
        while not stop.is_set():
            store.insert_columns("breaches", {"breach_id": [f"b{number}"], "version": [1]}, f"many {number}")
            number += 1
        return number

    def ask(number: int) -> int:
        mine = client_of(url)
        try:
            return int(mine.query(f"SELECT {number} + count() * 0 FROM v_breaches").first_row[0])
        finally:
            mine.close()

    with ThreadPoolExecutor(9) as pool:
        inserted = pool.submit(insert)
        try:
            assert list(pool.map(ask, range(40))) == list(range(40))
        finally:
            stop.set()
        assert count(store, "v_breaches") == inserted.result()


def test_the_end_does_not_wait_for_long_queries(store: Store) -> None:
    """A query that went on while the interpreter ended took the process down with it."""
    running = "SELECT count() AS n FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'"
    with ThreadPoolExecutor(1) as pool:
        with serving_history(settings_of(store)) as address:
            asked = pool.submit(fetch, "POST", address, content=b"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1")
            deadline = wall_seconds() + 10
            while not store.query(running)[0]["n"]:
                assert wall_seconds() < deadline
        assert store.query(running) == [{"n": 0}]
        assert asked.result().headers["x-clickhouse-exception-code"] == "394"


def test_it_listens_on_loopback_only() -> None:
    with (
        pytest.raises(Misconfigured, match="loopback"),
        serving_history(ClickHouseSettings(path=history_store().path, url="http://0.0.0.0:0")),
    ):
        pass


def test_a_taken_port_is_said(url: str) -> None:
    taken = settings_of(history_store()).model_copy(update={"url": url})
    with pytest.raises(Unavailable, match="cannot be listened on"), serving_history(taken):
        pass
