"""`derms status`, `messages`, `dead-letters`: looking at a running instance."""

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from gateway.commands.target import DataOption, Target

messages = typer.Typer(help="Messages we owe partners.", no_args_is_help=True)
dead_letters = typer.Typer(help="What could not be read or used.", no_args_is_help=True)


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in columns))
    return table


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl-C.")] = False,
    data: DataOption = None,
) -> None:
    """What is running, lag, partners, open breaches."""
    target = Target(data)
    console = Console(width=max(100, Console().width))
    if not watch:
        console.print(_status(target))
        return
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            live.update(_status(target))
            time.sleep(1)


def _status(target: Target) -> Group:
    found = target.operations("GET", "/status")
    plain = [{"what": name, "value": value} for name, value in found.items() if not isinstance(value, list | dict)]
    lists = [
        _table(name.replace("_", " "), rows, tuple(rows[0]))
        for name, rows in found.items()
        if isinstance(rows, list) and rows and isinstance(rows[0], dict)
    ]
    return Group(_table("status", plain, ("what", "value")), *lists)


@messages.command("list")
def list_messages(data: DataOption = None) -> None:
    """The last messages with what became of them."""
    rows = Target(data).operations("GET", "/messages")["items"]
    Console(width=140).print(
        _table("messages", rows, ("message_id", "partner_id", "action", "group_id", "outcome", "status", "attempts", "words"))
    )


@messages.command("show")
def show_message(message_id: Annotated[str, typer.Argument()], data: DataOption = None) -> None:
    """One message, whole."""
    typer.echo(json.dumps(Target(data).operations("GET", f"/messages/{message_id}"), indent=2))


@dead_letters.command("list")
def list_dead_letters(data: DataOption = None) -> None:
    """The last dead letters: reason, count, where they stand."""
    rows = Target(data).operations("GET", "/dead-letters")["items"]
    Console(width=140).print(_table("dead letters", rows, ("at", "topic", "partition", "offset", "subject", "reason", "count")))


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.command()(status)
    app.add_typer(messages, name="messages")
    app.add_typer(dead_letters, name="dead-letters")
