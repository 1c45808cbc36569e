"""`derms partner …`: connections to Capacity Providers (their timelines: `timelines`)."""

import typer
from rich.console import Console

from gateway.commands.target import DataOption, Target
from gateway.commands.timelines import PartnerArgument, partner_path, show, timeline
from gateway.commands.watching import partners_table

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


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(partner, name="partner")
