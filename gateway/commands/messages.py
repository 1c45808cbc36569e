"""`derms messages …`: what we owe partners, where it stands and why it waits; sent again or given up (semantics 7, 8)."""

import json
import re
import sys
import time
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.table import Table

from gateway.asked import AskedState
from gateway.commands.tables import moment, plain
from gateway.commands.target import DataOption, Target
from gateway.messages_model import Stand
from gateway.messages_rows import brief
from schemas.clock import Clock
from schemas.outbound import FINAL_OUTCOMES, Outcome
from schemas.units import rfc3339
from sinks.errors import Refused

messages = typer.Typer(help="Messages we owe partners.", no_args_is_help=True)
WIDE = 170
AT_ONCE = 500
LOOK_EVERY_S = 0.25
LOOKS = 24
"""So often it is looked at what became of a request: some seconds."""
_BACK = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
IdArgument = Annotated[str, typer.Argument(help="The message's id: its X-Request-ID.")]
WhoseOption = Annotated[str, typer.Option("--partner", help="Whose message it is, where only dispatch still knows it.")]


@messages.command("list")
def list_messages(
    partner: Annotated[str, typer.Option("--partner", help="Only this partner's.")] = "",
    action: Annotated[str, typer.Option("--action", help="Only these, such as UpdateAssetMeasurements.")] = "",
    group: Annotated[str, typer.Option("--group", help="Only about this group.")] = "",
    state: Annotated[
        Stand | None, typer.Option("--state", case_sensitive=False, help="Only those that stand so; waiting: all without an end yet.")
    ] = None,
    since: Annotated[str, typer.Option("--since", help="Made since then: RFC 3339, or so long ago as in 90m, 24h, 7d. Else 31 days.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the newest.")] = 50,
    *,
    heartbeats: Annotated[bool, typer.Option("--heartbeats", help="With heartbeats.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, as the API has it.")] = False,
    data: DataOption = None,
) -> None:
    """Messages to partners, the newest first: where each stands, and why it waits."""
    target = Target(data)
    query = {"partner_id": partner, "action": action, "group_id": group, "outcome": state.value if state else ""}
    query |= {"since": _since(since, target.clock), "heartbeats": "true" if heartbeats or action == "Heartbeat" else "false"}
    found = _found(target, {name: value for name, value in query.items() if value}, limit)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    Console(width=max(WIDE, Console().width)).print(messages_table(found["items"]))
    if found["note"]:
        typer.echo(found["note"], err=True)
    if found["next"]:
        typer.echo(f"there are older ones: --limit {limit * 10} shows more", err=True)


@messages.command()
def show(message_id: IdArgument, data: DataOption = None) -> None:
    """One message, whole, as JSON: its body without secrets, every attempt, why it waits."""
    typer.echo(json.dumps(Target(data).operations("GET", _path(message_id)), indent=2))


@messages.command()
def retry(message_id: IdArgument, partner: WhoseOption = "", data: DataOption = None) -> None:
    """Send a message now that was set aside, or waits after a failure."""
    _asked(Target(data), message_id, "retry", partner, Outcome.DELIVERED)


@messages.command()
def drop(
    message_id: IdArgument,
    partner: WhoseOption = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask at a terminal.")] = False,
    data: DataOption = None,
) -> None:
    """Give a message up: the partner will not get it."""
    question = f"Give {message_id} up? The partner will not get it."
    if sys.stdin.isatty() and not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    _asked(Target(data), message_id, "drop", partner, Outcome.DROPPED)


def messages_table(items: list[dict[str, Any]]) -> Table:
    """Messages as `/messages` answers them, the newest first."""
    table = Table(box=None, pad_edge=False)
    for name in ("made", "state", "partner", "message", "group", "tries", "took", "why", "id"):
        table.add_column(name, overflow="fold", no_wrap=name in ("made", "state", "id"), ratio=1 if name == "why" else None)
    for item in items:
        status = "" if item["status"] is None else f" {item['status']}"
        took = "" if item["latency_ms"] is None else brief(item["latency_ms"])
        row = (
            moment(item["at"]), item["stand"].lower() + status, item["partner_id"], item["action"], item["group_id"],
            item["attempts"] or "", took, item["why"] or item["words"], item["message_id"],
        )  # fmt: skip
        table.add_row(*map(plain, row))
    return table


def _found(target: Target, query: dict[str, str], limit: int) -> dict[str, Any]:
    """As `/messages` answers, part by part."""
    items: list[Any] = []
    before: dict[str, str] = {}
    while True:
        part = target.operations("GET", f"/messages?{urlencode({**query, **before, 'limit': min(AT_ONCE, limit - len(items))})}")
        items += part["items"]
        if len(items) >= limit or part["next"] is None:
            return {**part, "items": items}
        before = {"before": part["next"]}


def _asked(target: Target, message_id: str, what: str, partner_id: str, wanted: Outcome) -> None:
    """Ask for it, and say for some seconds what comes of it. Raises Exit 1 where the message ends otherwise than wanted."""
    query = f"?{urlencode({'partner_id': partner_id})}" if partner_id else ""
    command = target.operations("POST", f"{_path(message_id)}/{what}{query}")["id"]
    typer.echo(f"asked (command {command})")
    stands: dict[str, Any] | None = None
    for _ in range(LOOKS):
        time.sleep(LOOK_EVERY_S)
        standing = (_known(target, f"/commands/{quote(command)}") or {}).get("standing", {})
        if standing.get("state") == AskedState.REFUSED:
            raise Refused(409, standing["words"])
        stands = _known(target, _path(message_id)) or stands
        if stands is not None and stands["outcome"] in FINAL_OUTCOMES:
            typer.echo(f"{stands['outcome'].lower()}: {stands['words'] or 'the partner has it'}")
            if stands["outcome"] != wanted:
                raise typer.Exit(1)
            return
    typer.echo(f"taken; {stands['why']}" if stands is not None else "taken; it is not known here what comes of it")


def _known(target: Target, path: str) -> dict[str, Any] | None:
    """What is there, None where there is nothing (yet)."""
    try:
        found: dict[str, Any] = target.operations("GET", path)
    except Refused as error:
        if error.status != 404:
            raise
        return None
    return found


def _since(text: str, clock: Clock) -> str:
    if not text:
        return ""
    if (back := _BACK.fullmatch(text)) is not None:
        return rfc3339(clock.now() - timedelta(**{_UNITS[back[2]]: int(back[1])}))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("write it as 2026-10-20T14:15:00Z, or as 24h", param_hint="--since") from None
    if found.tzinfo is None:
        raise typer.BadParameter("say the offset, too: 2026-10-20T14:15:00Z", param_hint="--since")
    return rfc3339(found)


def _path(message_id: str) -> str:
    return f"/messages/{quote(message_id, safe='')}"


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(messages, name="messages")
