"""`derms adjust`, `compliance-error`, `limit` and `requests`: what operators ask for, looked at first, and followed (semantics 3.3, 7.4).

Before anything is said its exact JSON is shown; at a terminal a person is asked, a program is not.
"""

import json
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
import yaml
from rich.console import Console
from rich.table import Table

from gateway.asked import AskedState
from gateway.commands.tables import moment, plain
from gateway.commands.target import DataOption, Target
from gateway.commands.timelines import PartnerArgument
from gateway.hand_requests import WHAT
from schemas.connection import CommandKind
from schemas.units import W_PER_KW, Direction, rfc3339
from sinks.errors import Misconfigured, Refused

LOOK_EVERY_S = 1.0
WIDE = 140
FINAL = frozenset({AskedState.ANSWERED, AskedState.REFUSED, AskedState.EXPIRED})
FAILED = frozenset({AskedState.REFUSED, AskedState.EXPIRED})
GroupArgument = Annotated[str, typer.Argument(help="The group's id.")]
BlocksOption = Annotated[Path | None, typer.Option("--file", help="JSON or YAML: a list of OSCP forecasted blocks.")]
PreviewOption = Annotated[bool, typer.Option("--preview", help="Only show the exact message; nothing is sent.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask at a terminal.")]
FollowOption = Annotated[bool, typer.Option("--follow", help="Wait until it is answered, refused or over; exit 1 for the last two.")]


class Wanted(StrEnum):
    """The forecast types an operator can ask about."""

    CONSUMPTION = "CONSUMPTION"
    GENERATION = "GENERATION"
    FALLBACK_CONSUMPTION = "FALLBACK_CONSUMPTION"
    FALLBACK_GENERATION = "FALLBACK_GENERATION"
    OPTIMUM = "OPTIMUM"


def adjust(
    partner_id: PartnerArgument,
    group_id: GroupArgument,
    type_: Annotated[Wanted, typer.Option("--type", help="Which limit it is about.")],
    file: BlocksOption = None,
    *,
    prefill: Annotated[bool, typer.Option("--prefill", help="Print what the forecasts say from now on, as a file to begin with.")] = False,
    preview: PreviewOption = False,
    yes: YesOption = False,
    follow: FollowOption = False,
    data: DataOption = None,
) -> None:
    """Ask the partner for another capacity (AdjustGroupCapacityForecast). A partner that agrees answers with a new forecast."""
    target = Target(data)
    if prefill:
        found = target.operations("GET", f"/forecasts?{urlencode({'group_id': group_id, 'type': type_.value})}")
        typer.echo(yaml.safe_dump([one["block"] for one in found["ahead"]], sort_keys=False), nl=False)
        return
    if file is None:
        raise typer.BadParameter("name a file of blocks, or have one made with --prefill", param_hint="--file")
    body = {"partner_id": partner_id, "group_id": group_id, "type": type_.value, "forecasted_blocks": _blocks(file)}
    _said(target, "adjust", body, preview=preview, yes=yes, follow=follow)


def compliance_error(
    partner_id: PartnerArgument,
    group_id: GroupArgument,
    forecast: Annotated[str, typer.Option("--forecast", help="X-Request-ID of the forecast that cannot be met.")],
    message: Annotated[str, typer.Option("--message", help="What to tell the partner.")],
    file: BlocksOption = None,
    *,
    preview: PreviewOption = False,
    yes: YesOption = False,
    follow: FollowOption = False,
    data: DataOption = None,
) -> None:
    """Tell the partner that a forecast cannot be met (GroupCapacityComplianceError)."""
    body: dict[str, Any] = {"partner_id": partner_id, "group_id": group_id, "forecast": forecast, "message": message}
    if file is not None:
        body["forecasted_blocks"] = _blocks(file)
    _said(Target(data), "compliance-error", body, preview=preview, yes=yes, follow=follow)


def limit(
    scope_id: Annotated[str, typer.Argument(help="The scope's id.")],
    direction: Annotated[Direction, typer.Option("--direction", help="Which way is limited.")],
    start: Annotated[str, typer.Option("--from", help="RFC 3339, such as 2026-10-20T14:15:00Z.")],
    end: Annotated[str, typer.Option("--to", help="Likewise.")],
    kw: Annotated[float | None, typer.Option("--kw", min=0, help="At most this mean power.")] = None,
    *,
    lift: Annotated[bool, typer.Option("--lift", help="Lift what operators said about this time instead.")] = False,
    why: Annotated[str, typer.Option("--why", help="For people.")] = "",
    preview: PreviewOption = False,
    data: DataOption = None,
) -> None:
    """Limit a scope by our own word; the lower of it and the partners' limits holds. Partners are not told."""
    if (kw is None) != lift:
        raise typer.BadParameter("say either --kw N or --lift", param_hint="--kw")
    target = Target(data)
    block = {"start": _instant("--from", start), "end": _instant("--to", end), "limit_w": None if kw is None else kw * W_PER_KW}
    body = {"scope_id": scope_id, "direction": direction.value, "blocks": [block], "why": why}
    typer.echo(json.dumps(body), err=not preview)
    if datetime.fromisoformat(str(block["end"])) <= target.clock.now():
        typer.echo("mind: all of it is over: it will change nothing", err=True)
    if not preview:
        typer.echo(f"asked (command {target.operations('POST', '/commands/envelope', body)['id']})")


def requests(
    rows: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, the newest.")] = 20, data: DataOption = None
) -> None:
    """What operators asked for, and what became of it."""
    found = Target(data).operations("GET", f"/commands?limit={rows}")["items"]
    Console(width=max(WIDE, Console().width)).print(requests_table(found))


def requests_table(items: list[dict[str, Any]]) -> Table:
    """Requests as `/commands` answers them, the newest first."""
    table = Table(box=None, pad_edge=False)
    for name in ("time", "who", "what", "about", "stands", "", "id"):
        table.add_column(name, overflow="fold")
    for item in items:
        standing = item["standing"]
        about = item["scope_id"] or item["group_id"] or item["partner_id"]
        what = WHAT[CommandKind(item["kind"])]
        row = (moment(item["at"]), item["by"], what, about, standing["state"], standing["words"], item["id"])
        table.add_row(*(plain(cell) for cell in row))
    return table


def _said(target: Target, what: str, body: dict[str, Any], *, preview: bool, yes: bool, follow: bool) -> None:
    draft = target.operations("POST", f"/commands/{what}/preview", body)
    headers = {"X-Request-ID": draft["message_id"], "X-Correlation-ID": draft["correlation_id"]}
    for line in (draft["action"], *(f"{name}: {value}" for name, value in headers.items() if value)):
        typer.echo(line, err=True)
    typer.echo(draft["body"], err=not preview)
    for warning in draft["warnings"]:
        typer.echo(f"mind: {warning}", err=True)
    if preview:
        return
    if sys.stdin.isatty() and not yes and not typer.confirm("Send it?", err=True):
        raise typer.Exit(1)
    found = target.operations("POST", f"/commands/{what}", {**body, "command_id": draft["command_id"]})
    typer.echo(f"asked (command {found['id']})")
    if follow:
        _followed(target, found["id"], what)


def _followed(target: Target, command_id: str, what: str) -> None:
    """Say each change of where it stands, until nothing more is to come. Raises Refused where it came to nothing."""
    last, seen = "", False
    while True:
        try:
            standing = target.operations("GET", f"/commands/{quote(command_id)}")["standing"]
        except Refused as error:
            if error.status != 404:
                raise
            if seen:
                raise Refused(404, "it is not among the last requests any more; derms history adjustments has what became of it") from None
            standing = {"state": AskedState.ASKED.value, "words": "asked"}  # the live picture has not read it yet
        else:
            seen = True
        if (words := f"{standing['state'].lower().replace('_', ' ')}: {standing['words']}") != last:
            typer.echo(words)
            last = words
        state = AskedState(standing["state"])
        if state in FAILED:
            raise typer.Exit(1)
        if state in FINAL or (what == "compliance-error" and state is AskedState.DELIVERED):
            return
        time.sleep(LOOK_EVERY_S)


def _instant(option: str, text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("write it as 2026-10-20T14:15:00Z", param_hint=option) from None
    if found.tzinfo is None:
        raise typer.BadParameter("say the offset, too: 2026-10-20T14:15:00Z", param_hint=option)
    return rfc3339(found.astimezone(UTC))


def _blocks(file: Path) -> list[Any]:
    try:
        found = yaml.safe_load(file.read_text())
    except OSError as error:
        raise Misconfigured(file.name, error.strerror or "cannot be read", "name a file that exists") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Misconfigured(file.name, "is neither JSON nor YAML", "write a list of OSCP forecasted blocks") from None
    if not isinstance(found, list) or not found:
        raise Misconfigured(file.name, "is not a list of blocks", "write a list of OSCP forecasted blocks")
    plain_blocks = [{name: _plain(value) for name, value in block.items()} if isinstance(block, dict) else block for block in found]
    try:
        json.dumps(plain_blocks)
    except (TypeError, ValueError):
        raise Misconfigured(file.name, "has values JSON does not know", "write blocks as OSCP has them") from None
    return plain_blocks


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.command()(adjust)
    app.command("compliance-error")(compliance_error)
    app.command()(limit)
    app.command()(requests)
