"""`derms status`, `dead-letters`: looking at a running instance."""

import time
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from gateway.commands.flow_tables import flows_view
from gateway.commands.tables import moment, plain, table
from gateway.commands.target import DataOption, Target

dead_letters = typer.Typer(help="What could not be read or used.", no_args_is_help=True)


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
    return table("partners", shown, ("partner", "state", "since", "heartbeat in", "heartbeat out", "words"))


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, with every partition, until Ctrl-C.")] = False,
    partitions: Annotated[bool, typer.Option("--partitions", help="Show flows' workers and partitions one by one.")] = False,
    data: DataOption = None,
) -> None:
    """What is running, lag, partners, open breaches."""
    target = Target(data)
    console = Console(width=max(100, Console().width))
    if not watch:
        console.print(status_view(target.operations("GET", "/status"), partitions=partitions))
        return
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            live.update(status_view(target.operations("GET", "/status"), partitions=True))
            time.sleep(1)


def status_view(found: dict[str, Any], *, partitions: bool = False) -> Group:
    """What `/status` answered, for a terminal: a few lines, processes and flows where they are known, the partners."""
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
    today = datetime.fromisoformat(now).astimezone(UTC).date()
    parts: list[RenderableType] = [lines]
    if found["processes"]:
        parts.append(table("processes", [_process(*each) for each in found["processes"].items()], ("name", "state", "pid", "restarts")))
    parts += flows_view(found["flows"], today, partitions=partitions)
    if found["partners"]:
        parts.append(partners_table(found["partners"], today))
    return Group(*parts)


def _lag(seconds: float | None) -> str:
    return "no quarter hour has closed yet" if seconds is None else f"event time is {seconds:.0f} s behind the clock"


def _process(name: str, process: dict[str, Any]) -> dict[str, Any]:
    state = "not running" if not process["running"] else "ready" if process["ready"] else "starting"
    return {"name": name, "state": state, "pid": process["pid"], "restarts": process["restarts"]}


@dead_letters.command("list")
def list_dead_letters(data: DataOption = None) -> None:
    """The last dead letters: reason, count, where they stand."""
    rows = Target(data).operations("GET", "/dead-letters")["items"]
    Console(width=140).print(table("dead letters", rows, ("at", "topic", "partition", "offset", "subject", "reason", "count")))


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.command()(status)
    app.add_typer(dead_letters, name="dead-letters")
