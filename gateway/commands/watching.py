"""`derms status`, `messages`, `dead-letters`: looking at a running instance."""

import json
import time
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.commands.target import DataOption, Target

messages = typer.Typer(help="Messages we owe partners.", no_args_is_help=True)
dead_letters = typer.Typer(help="What could not be read or used.", no_args_is_help=True)


def plain(value: Any) -> Text:
    """A cell: nothing for None, and neither markup nor control characters, whoever wrote the words."""
    return Text("" if value is None else "".join(each if each.isprintable() else " " for each in str(value)))


def moment(instant: str | None, today: date | None = None) -> str:
    """`2026-10-20 10:15:00Z` of an RFC 3339 instant, on `today` without its date; `-` for none."""
    if instant is None:
        return "-"
    found = datetime.fromisoformat(instant).astimezone(UTC)
    return f"{found:%H:%M:%S}Z" if found.date() == today else f"{found:%Y-%m-%d %H:%M:%S}Z"


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(plain(row.get(name)) for name in columns))
    return table


def partners_table(rows: list[dict[str, Any]], today: date | None = None) -> Table:
    """Partners with their state and heartbeats, as `/status` and `/partners` give them."""
    shown = [
        {
            "partner": row["id"],
            "state": row["state"],
            "since": moment(row.get("since"), today),
            "heartbeat in": moment(row.get("last_heartbeat_received_at"), today),
            "heartbeat out": moment(row.get("last_heartbeat_delivered_at"), today),
            "words": row.get("words"),
        }
        for row in rows
    ]
    return _table("partners", shown, ("partner", "state", "since", "heartbeat in", "heartbeat out", "words"))


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl-C.")] = False,
    data: DataOption = None,
) -> None:
    """What is running, lag, partners, open breaches."""
    target = Target(data)
    console = Console(width=max(100, Console().width))
    if not watch:
        console.print(status_view(target.operations("GET", "/status")))
        return
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            live.update(status_view(target.operations("GET", "/status")))
            time.sleep(1)


def status_view(found: dict[str, Any]) -> Group:
    """What `/status` answered, for a terminal: a few lines, the processes where they are known, the partners."""
    now, speed = found["clock"]["now"], found["clock"]["speed"]
    lines = Table.grid(padding=(0, 2))
    for name, value in {
        "clock": moment(now) + ("" if speed == 1 else f", {speed:g} times as fast"),
        "ready": "yes" if found["ready"] else "no",
        "checks": ", ".join(f"{name} {answer}" for name, answer in found["checks"].items()),
        "event time": _lag(found["event_time_lag_s"]),
        "open breaches": found["open_breaches"],
        "dead letters": found["dead_letters"],
        "records read": sum(found["records"].values()),
    }.items():
        lines.add_row(name, plain(value))
    parts = [lines]
    if found["processes"]:
        parts.append(_table("processes", [_process(*each) for each in found["processes"].items()], ("name", "state", "pid", "restarts")))
    if found["partners"]:
        parts.append(partners_table(found["partners"], datetime.fromisoformat(now).astimezone(UTC).date()))
    return Group(*parts)


def _lag(seconds: float | None) -> str:
    return "no quarter hour has closed yet" if seconds is None else f"event time is {seconds:.0f} s behind the clock"


def _process(name: str, process: dict[str, Any]) -> dict[str, Any]:
    state = "not running" if not process["running"] else "ready" if process["ready"] else "starting"
    return {"name": name, "state": state, "pid": process["pid"], "restarts": process["restarts"]}


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
