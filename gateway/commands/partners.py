"""`derms partner …` (its timeline: `timelines`), `adjust`, `compliance-error`: connections and the manual flows."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from gateway.commands.target import DataOption, Target
from gateway.commands.timelines import PartnerArgument, partner_path, show, timeline
from gateway.commands.watching import partners_table
from sinks.errors import Misconfigured

partner = typer.Typer(help="Connections to Capacity Providers.", no_args_is_help=True)
ACTIONS = {
    "register": "Start the registration ourselves (base_url and initial_token_file are configured).",
    "handshake": "Acknowledge again: send our requirements anew.",
    "suspend": "Stop sending to the partner; what it sends is still taken.",
    "resume": "Send again, and try at once what failed or is held back.",
    "deregister": "End the connection and tell the partner.",
}


@partner.command("list")
def list_partners(data: DataOption = None) -> None:
    """Partners with their state."""
    Console(width=max(100, Console().width)).print(partners_table(Target(data).operations("GET", "/partners")["items"]))


@partner.command()
def token(partner_id: PartnerArgument, data: DataOption = None) -> None:
    """Issue a new registration token; printed once, alone on the last line, when the gateway accepts it."""
    found = Target(data).operations("POST", partner_path(partner_id, "/token"))
    typer.echo(f"registration token for {partner_id}; the gateway accepts it now", err=True)
    typer.echo(found["token"])


partner.command()(show)
partner.command()(timeline)


def _action(name: str, words: str) -> None:
    def act(partner_id: PartnerArgument, data: DataOption = None) -> None:
        found = Target(data).operations("POST", partner_path(partner_id, f"/{name}"))
        typer.echo(f"{name} asked for {partner_id} (command {found['id']})")

    act.__doc__ = words
    partner.command(name)(act)


for _name, _words in ACTIONS.items():
    _action(_name, _words)


def _blocks(file: Path) -> list[Any]:
    try:
        found = yaml.safe_load(file.read_text())
    except OSError as error:
        raise Misconfigured(file.name, error.strerror or "cannot be read", "name a file that exists") from None
    except yaml.YAMLError:
        raise Misconfigured(file.name, "is neither JSON nor YAML", "write a list of OSCP forecasted blocks") from None
    if not isinstance(found, list) or not found:
        raise Misconfigured(file.name, "is not a list of blocks", "write a list of OSCP forecasted blocks")
    return [{name: _plain(value) for name, value in block.items()} if isinstance(block, dict) else block for block in found]


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def adjust(
    partner_id: PartnerArgument,
    group_id: Annotated[str, typer.Argument(help="The group's id.")],
    type_: Annotated[str, typer.Option("--type", help="CONSUMPTION, GENERATION, …")],
    file: Annotated[Path, typer.Option("--file", help="JSON or YAML: a list of OSCP forecasted blocks.")],
    data: DataOption = None,
) -> None:
    """Ask the partner for another capacity (AdjustGroupCapacityForecast)."""
    body = {"partner_id": partner_id, "group_id": group_id, "type": type_, "forecasted_blocks": _blocks(file)}
    typer.echo(f"asked (command {Target(data).operations('POST', '/commands/adjust', body)['id']})")


def compliance_error(
    partner_id: PartnerArgument,
    group_id: Annotated[str, typer.Argument(help="The group's id.")],
    forecast: Annotated[str, typer.Option("--forecast", help="X-Request-ID of the forecast that cannot be met.")],
    message: Annotated[str, typer.Option("--message", help="What to tell the partner.")],
    file: Annotated[Path | None, typer.Option("--file", help="JSON or YAML: the blocks that cannot be met.")] = None,
    data: DataOption = None,
) -> None:
    """Tell the partner that a forecast cannot be met (GroupCapacityComplianceError)."""
    body: dict[str, Any] = {"partner_id": partner_id, "group_id": group_id, "forecast": forecast, "message": message}
    if file is not None:
        body["forecasted_blocks"] = _blocks(file)
    typer.echo(f"asked (command {Target(data).operations('POST', '/commands/compliance-error', body)['id']})")


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(partner, name="partner")
    app.command()(adjust)
    app.command("compliance-error")(compliance_error)
