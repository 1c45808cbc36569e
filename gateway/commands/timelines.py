"""`derms partner show` and `timeline`: how a connection stands, and what passed between us and the partner."""

import time
from datetime import UTC, date, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from gateway.commands.tables import moment, plain
from gateway.commands.target import DataOption, Target

LOOK_EVERY_S = 2.0
MOST = 1000
WIDE = 140
PartnerArgument = Annotated[str, typer.Argument(help="The partner's id.")]


def partner_path(partner_id: str, below: str = "") -> str:
    """The path of a partner in the operations API, whatever characters its id has."""
    return f"/partners/{quote(partner_id, safe='/')}{below}"


def show(partner_id: PartnerArgument, data: DataOption = None) -> None:
    """How one partner's connection stands: its state, what each side asks of the other, its deadlines."""
    _console().print(partner_view(Target(data).operations("GET", partner_path(partner_id))))


def timeline(
    partner_id: PartnerArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST, help="At most so many lines, the newest.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="With heartbeats, the last 20 each way.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    data: DataOption = None,
) -> None:
    """What passed between us and a partner, the newest last: requests of both sides, and what became of the connection."""
    target, console = Target(data), _console()
    path = partner_path(partner_id, f"/timeline?heartbeats={'true' if everything else 'false'}")
    lines = target.operations("GET", f"{path}&limit={MOST if follow else limit}")["items"]
    console.print(timeline_table(lines[:limit]))
    seen = {line["id"] for line in lines}
    while follow:
        time.sleep(LOOK_EVERY_S)
        # All that is kept, since a line may come late and be older than others.
        fresh = [line for line in target.operations("GET", f"{path}&limit={MOST}")["items"] if line["id"] not in seen]
        if fresh:
            seen |= {line["id"] for line in fresh}
            console.print(timeline_table(fresh, head=False))


def partner_view(row: dict[str, Any]) -> Table:
    """What `/partners/{id}` answered, a line for each thing known."""
    lines = Table.grid(padding=(0, 2))
    measurements = ", ".join(row["measurements_asked_of_us"]) or None
    for name, value in {
        "partner": row["id"],
        "name": row["name"],
        "state": row["state"],
        "since": _moment(row["since"]),
        "words": row["words"],
        "its address": row["peer_base_url"],
        "OSCP version": row["peer_version"],
        "heartbeat in": _moment(row["last_heartbeat_received_at"]),
        "heartbeat out": _moment(row["last_heartbeat_delivered_at"]),
        "it asks of us": _seconds(row["heartbeat_asked_of_us_s"]),
        "measurements": measurements and measurements + (", withheld" if row["measurements_withheld_since"] else ""),
        "we ask of it": _seconds(row["heartbeat_asked_of_partner_s"]),
        "offline if silent at": _moment(row["liveness_deadline"]),
        "first handshake": _moment(row["first_acknowledged_at"]),
        "groups": ", ".join(row["groups"]),
    }.items():
        if value:
            lines.add_row(name, plain(value))
    return lines


def timeline_table(lines: list[dict[str, Any]], *, head: bool = True, today: date | None = None) -> Table:
    """Lines as `/partners/{id}/timeline` gives them, newest first, as a table with the newest last; columns are as wide in each part."""
    table = Table(show_header=head, box=None, padding=(0, 1), pad_edge=False)
    table.add_column("time", width=20, no_wrap=True)
    table.add_column("way", width=6, no_wrap=True)
    table.add_column("what", ratio=1, min_width=40, overflow="fold")
    table.add_column("answer", width=13, overflow="fold")
    table.add_column("took", width=8, justify="right")
    table.add_column("X-Request-ID", width=36, overflow="fold")
    for line in reversed(lines):
        table.add_row(moment(line["at"], today), *map(plain, _cells(line)))
    return table


def _cells(line: dict[str, Any]) -> tuple[str, str, str, str, str]:
    found = line["exchange"]
    if found is None:
        severity = line["severity"] or ""
        return "", line["words"], "" if severity == "INFO" else severity.lower(), "", line["request_id"] or ""
    what = " ".join(filter(None, (found["method"], found["action"], found["url"])))
    tries = f"attempt {found['attempt']}" if (found["attempt"] or 1) > 1 else ""
    answers = f"answers {found['correlation_id']}" if found["correlation_id"] else ""
    words = "; ".join(filter(None, (tries, found["words"], answers)))
    status = "no answer" if found["status"] is None else str(found["status"])
    outcome = (found["outcome"] or "").lower()
    answer = f"{outcome} {'' if found['status'] is None else status}".strip() if outcome else status
    took = "" if found["duration_ms"] is None else f"{found['duration_ms']} ms"
    arrow = "in ->" if found["direction"] == "in" else "<- out"
    return arrow, f"{what}: {words}" if words else what, answer, took, found["request_id"] or ""


def _moment(instant: str | None) -> str | None:
    return None if instant is None else moment(instant, datetime.now(UTC).date())


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"a heartbeat every {seconds:g} s"


def _console() -> Console:
    console = Console()
    return Console(width=max(WIDE, console.width))
