"""`derms config apply|show|validate` (contract 3)."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from gateway.commands.target import DataOption, Target
from gateway.config_file import Applied, plan, publish, read_configuration
from pipelines.views import ConfigChangesView, ConfigView
from schemas.config import ConfigChange
from sinks.kafka import Producer

config = typer.Typer(help="Circuits, scopes, assets, partners, groups, timing.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help="Configuration file (YAML).")]


@config.command()
def validate(file: FileArgument) -> None:
    """Check a configuration file without applying it."""
    found = read_configuration(file)
    counts = {kind: len(getattr(found, kind)) for kind in ("circuits", "scopes", "assets", "partners", "groups")}
    typer.echo(f"{file.name} is right: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


@config.command()
def apply(
    file: FileArgument,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove what the file does not have.")] = False,
    data: DataOption = None,
) -> None:
    """Apply a configuration file, all or nothing; prints what changes."""
    wanted = read_configuration(file)
    target = Target(data)
    view = ConfigChangesView(target.kafka, target.clock)
    view.start()
    try:
        view.wait_ready(10)
        applied = plan(view.changes(), wanted, at=target.clock.now(), prune=prune, force=True, by=f"cli:{getpass.getuser()}")
    finally:
        view.stop()
    producer = Producer(target.kafka, "derms-config")
    try:
        publish(applied.changes, producer)
    finally:
        producer.close()
    for line in describe(applied):
        typer.echo(line)


@config.command()
def show(data: DataOption = None) -> None:
    """Print the configuration in force as YAML."""
    target = Target(data)
    view = ConfigView(target.kafka, target.clock)
    view.start()
    try:
        view.wait_ready(10)
        plain = view.current().model_dump(mode="json", exclude_defaults=True)
    finally:
        view.stop()
    typer.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip())


def describe(applied: Applied) -> list[str]:
    """What changes, one line an item."""
    if not applied.changes:
        return ["nothing changes"]
    return [f"{_what(change)} {change.kind}/{change.id} (revision {change.revision})" for change in applied.changes]


def _what(change: ConfigChange) -> str:
    if change.body is None:
        return "removed"
    return "added" if change.revision == 1 else "changed"


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(config, name="config")
