"""`derms history` and `derms sql` against an embedded history that serves."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from gateway.commands.history import Format, pairs, register, run_history, run_sql
from gateway.history import serving_history
from schemas.units import to_ms
from sinks.clickhouse.client import Store, client_of
from sinks.clickhouse.queries import questions
from sinks.errors import Misconfigured, Refused
from tests.builders import T0
from tests.embedded_history import emptied_store, history_store, settings_of


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_history(settings_of(history_store())) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    made = client_of(url)
    yield made
    made.close()


@pytest.fixture
def store() -> Store:
    filled = emptied_store()
    starts = [to_ms(T0 + timedelta(minutes=15 * n)) for n in range(3)]
    filled.insert_columns(
        "quarter_hours",
        {
            "level": ["GROUP"] * 3, "id": ["VEC-0001"] * 3, "phase": ["ALL"] * 3, "start": starts, "revision": [1] * 3,
            "import_wh": [250.0, 500.0, 750.0], "coverage": [1.0] * 3, "version": [1 << 64] * 3,
        },
    )  # fmt: skip
    filled.insert_columns(
        "verdicts",
        {
            "group_id": ["VEC-0001"] * 2, "quarter": starts[:2], "direction": ["IMPORT"] * 2, "verdict": ["WITHIN", "BREACHED"],
            "used_wh": [250.0, 500.0], "allowed_wh": [400.0, 400.0], "revision": [1, 1], "version": [1 << 64] * 2,
        },
    )  # fmt: skip
    return filled


def asked(client: Client, format_: Format, name: str = "headroom", **params: str) -> bytes:
    out = io.BytesIO()
    run_history(client, name, params, format_, out)
    return out.getvalue()


def test_json(client: Client, store: Store) -> None:
    rows = json.loads(asked(client, Format.JSON, group="VEC-0001"))
    assert len(rows) == 6
    imports = [row for row in rows if row["direction"] == "IMPORT"]
    assert [(row["used_kw"], row["allowed_kw"], row["headroom_kw"], row["verdict"]) for row in imports] == [
        (3.0, None, None, "NOT_JUDGED"),
        (2.0, 1.6, -0.4, "BREACHED"),
        (1.0, 1.6, 0.6, "WITHIN"),
    ]
    assert imports[0]["quarter"] == "2026-10-20T10:30:00.000Z"


def test_csv(client: Client, store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(asked(client, Format.CSV, hours="24").decode())))
    assert len(rows) == 6
    assert (rows[1]["used_kw"], rows[1]["allowed_kw"], rows[1]["quarter"]) == ("3", "", "2026-10-20T10:30:00.000Z")


def test_table(client: Client, store: Store) -> None:
    text = asked(client, Format.TABLE).decode()
    assert "What each group used" in text
    assert "BREACHED" in text


def test_parquet(client: Client, store: Store) -> None:
    frame = pl.read_parquet(io.BytesIO(asked(client, Format.PARQUET)))
    assert frame.height == 6
    assert frame["used_kw"].max() == 3.0


def test_parameters_filter(client: Client, store: Store) -> None:
    assert json.loads(asked(client, Format.JSON, group="other")) == []
    assert len(json.loads(asked(client, Format.JSON, hours="0"))) == 0


@pytest.mark.parametrize("format_", Format)
@pytest.mark.parametrize("name", [each.name for each in questions()])
def test_every_question_over_http_in_every_format(client: Client, store: Store, name: str, format_: Format) -> None:
    assert asked(client, format_, name) or format_ is Format.CSV


def test_sql(client: Client, store: Store) -> None:
    out = io.BytesIO()
    assert run_sql(client, "SELECT max(import_wh) AS top, [1, 2] AS list FROM v_quarter_hours;", {}, Format.CSV, out) == 1
    assert out.getvalue() == b'top,list\r\n750,"[1, 2]"\r\n'


@pytest.mark.parametrize("sql", ["DROP TABLE telemetry", "SELECT nope", "SELECT 1; SELECT 2", "SELECT * FROM default.`/etc/hostname`"])
def test_sql_that_is_refused(client: Client, store: Store, sql: str) -> None:
    with pytest.raises(Refused):
        run_sql(client, sql, {}, Format.JSON, io.BytesIO())


@pytest.mark.parametrize("sql", ["SHOW TABLES", "DESCRIBE v_headroom", "EXISTS v_headroom", "EXPLAIN SELECT 1", "WITH 1 AS x SELECT x"])
def test_sql_reads_in_other_words_too(client: Client, store: Store, sql: str) -> None:
    assert run_sql(client, sql, {}, Format.JSON, io.BytesIO()) > 0


def test_pairs() -> None:
    assert pairs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(Misconfigured, match="--param"):
        pairs(["a"])


class Commands:
    """The two commands on an app of their own."""

    def __init__(self, url: str) -> None:
        self.seen: list[Path | None] = []
        self.app = typer.Typer()

        def connect(data: Path | None) -> Client:
            self.seen.append(data)
            return client_of(url)

        register(self.app, connect)

    def __call__(self, *arguments: str) -> Any:
        return CliRunner().invoke(self.app, list(arguments), catch_exceptions=False)


def test_the_commands(url: str, store: Store, tmp_path: Path) -> None:
    derms = Commands(url)
    listed = derms("history")
    assert listed.exit_code == 0
    for each in questions():
        assert each.name in listed.stdout
    assert derms.seen == []
    answer = derms("history", "headroom", "--param", "hours=1", "--format", "json", "--data", str(tmp_path))
    assert len(json.loads(answer.stdout)) == 6
    assert derms.seen == [tmp_path]
    answer = derms("sql", "SELECT count() AS n FROM v_quarter_hours", "--format", "csv")
    assert answer.stdout.splitlines() == ["n", "3"]
    assert derms("history", "headroom", "--format", "xml").exit_code == 2
    for wrong in (("history", "nope"), ("history", "headroom", "--param", "nope=1")):
        with pytest.raises(Misconfigured):
            derms(*wrong)


def test_instants_in_json_are_rfc_3339(client: Client, store: Store) -> None:
    [row] = json.loads(asked(client, Format.JSON, "energy", time_zone="UTC", days="1"))
    assert row["day"] == "2026-10-20"
    assert datetime.fromisoformat(row["day"])
