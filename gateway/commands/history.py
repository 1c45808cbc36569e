"""`derms history` and `derms sql`: the analysts' saved questions and read-only SQL, over ClickHouse's HTTP protocol.

They work the same on a running instance's embedded history and on a ClickHouse server.
"""

import csv
import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.table import Table

from gateway.commands.target import DataOption, Target
from schemas.units import rfc3339
from sinks.clickhouse.client import client_of, translated
from sinks.clickhouse.fence import check
from sinks.clickhouse.queries import Question, question, questions
from sinks.errors import Misconfigured

Connect = Callable[[Path | None], Client]


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def run_history(client: Client, name: str, params: Mapping[str, str], format_: Format, out: BinaryIO) -> int:
    """Ask the saved question `name` and write the answer to `out`; gives the number of rows.

    Raises `Misconfigured` for an unknown question, parameter or value, `Refused` and `Unavailable` from the history.
    """
    asked = question(name)
    return run_sql(client, asked.sql, asked.values(params), format_, out, title=asked.title)


def run_sql(client: Client, sql: str, params: Mapping[str, str], format_: Format, out: BinaryIO, title: str | None = None) -> int:
    """Ask one reading statement (`{name:Type}` parameters) and write the answer to `out`; gives the number of rows.

    CSV has a line of names, instants RFC 3339 in UTC; JSON is one array of objects. For Parquet the number is 0: the
    file is the store's own. Raises `Refused` for anything but one reading statement, and what the history answers.
    """
    sql = check(sql).sql
    settings = _readonly(client)
    try:
        if format_ is Format.PARQUET:
            out.write(client.raw_query(sql, parameters=dict(params), fmt="Parquet", settings=settings))
            return 0
        result = client.query(sql, parameters=dict(params), settings=settings)
    except ClickHouseError as error:
        raise translated(error) from error
    rows = [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
    match format_:
        case Format.JSON:
            out.write(json.dumps(rows, default=_plain, indent=2).encode() + b"\n")
        case Format.CSV:
            _write_csv(result.column_names, rows, out)
        case _:
            _write_table(title, result.column_names, rows, out)
    return len(rows)


def _readonly(client: Client) -> dict[str, Any]:
    """A server is told that this is reading, too; the embedded history knows already and takes no settings."""
    known = client.server_settings.get("readonly")
    return {} if known is None or known.value != "0" else {"readonly": 2}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return rfc3339(value)
        case bytes():
            return value.decode(errors="replace")
        case _:
            return str(value)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case list() | tuple() | dict():
            return json.dumps(value, default=_plain)
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case float() | int():
            return f"{value:g}" if isinstance(value, float) and value == int(value) else str(value)
        case _:
            return str(_plain(value))


def _write_csv(names: tuple[str, ...], rows: list[dict[str, Any]], out: BinaryIO) -> None:
    class _Lines:
        def write(self, text: str) -> int:
            return out.write(text.encode())

    writer = csv.writer(_Lines())
    writer.writerow(names)
    writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _write_table(title: str | None, names: tuple[str, ...], rows: list[dict[str, Any]], out: BinaryIO) -> None:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name in names:
        values = [row[name] for row in rows]
        numeric = any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    text = _text_of(table)
    out.write(text.encode())


def _text_of(renderable: Any) -> str:
    terminal = Console()
    console = Console(width=terminal.width if terminal.is_terminal else 200, color_system="standard" if terminal.is_terminal else None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def listing(known: list[Question]) -> Table:
    """The saved questions with their parameters, for people."""
    table = Table(box=None, header_style="bold")
    for heading in ("question", "answers", "parameters"):
        table.add_column(heading, overflow="fold")
    for each in known:
        parameters = "\n".join(f"{p.name}={p.default or chr(39) * 2}  {p.words}" for p in each.parameters)
        table.add_row(each.name, f"{each.title}\n{each.words}", parameters)
    return table


def pairs(given: list[str]) -> dict[str, str]:
    """`name=value` arguments; raises `Misconfigured` for one without `=`."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise Misconfigured("--param", f"{text!r} is no name=value", "for example --param hours=48")
        found[name] = value
    return found


def connected(data: Path | None) -> Client:
    """A client of the running instance's history, else of the server the settings name."""
    target = Target(data)
    settings = target.settings.clickhouse
    return client_of(target.history_url, database=settings.database, user=settings.user, password=settings.password.get_secret_value())


FormatOption = Annotated[Format, typer.Option("--format", help="table, csv, json or parquet")]


def register(app: typer.Typer, connect: Connect = connected) -> None:
    """Add `history` and `sql` to the command line; `connect` gives the client for the value of --data."""

    @app.command("history")
    def history(
        name: Annotated[str | None, typer.Argument(help="A saved question; without it they are listed.")] = None,
        param: Annotated[list[str] | None, typer.Option("--param", help="name=value, as often as needed")] = None,
        format_: FormatOption = Format.TABLE,
        data: DataOption = None,
    ) -> None:
        """Ask a saved question of the history, or list them."""
        if name is None:
            typer.echo(_text_of(listing(questions())), nl=False)
            return
        params = question(name).values(pairs(param or []))
        _with(connect, data, lambda client: run_history(client, name, params, format_, sys.stdout.buffer))

    @app.command("sql")
    def sql(
        statement: Annotated[str, typer.Argument(help="One reading statement, such as SELECT * FROM v_breaches")],
        format_: FormatOption = Format.TABLE,
        data: DataOption = None,
    ) -> None:
        """Ask the history in SQL, read-only."""
        _with(connect, data, lambda client: run_sql(client, statement, {}, format_, sys.stdout.buffer))


def _with(connect: Connect, data: Path | None, ask: Callable[[Client], int]) -> None:
    client = connect(data)
    try:
        ask(client)
    finally:
        client.close()
