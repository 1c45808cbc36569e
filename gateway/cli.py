"""The `derms` command: exit 0 done, 1 failed (one sentence of cause, one of cure), 2 wrong usage."""

import sys
from typing import Annotated

import typer

from gateway.commands import (
    asking,
    circuit_platform,
    configuring,
    history,
    messages,
    partners,
    readings,
    running,
    secrets,
    setup,
    simulating,
    watching,
)
from sinks.errors import Misconfigured, OutsideError, Refused, Unavailable

app = typer.Typer(
    name="derms",
    help="Vector DERMS: an OSCP 2.0 Flexibility Provider built from stream-processing dataflows.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for family in (running, setup, secrets, configuring, partners, asking, messages, readings, watching, history, simulating, circuit_platform):
    family.register(app)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("vector-derms"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line; errors of the outside become a sentence of cause and one of cure."""
    try:
        app()
    except OutsideError as error:
        typer.echo(f"error: {words_of(error)}", err=True)
        sys.exit(1)


def words_of(error: OutsideError) -> str:
    """A sentence of cause and one of cure."""
    match error:
        case Misconfigured(setting=setting, problem=problem, cure=cure):
            return f"{setting}: {problem}. {_sentence(cure or 'correct it and try again')}"
        case Refused(status=status, words=words):
            return f"refused ({status}): {words}. Correct what it names and try again."
        case Unavailable(words=words):
            return f"{words}. {_sentence('try again when it answers; derms doctor says what is missing')}"
        case _:
            return str(error)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


if __name__ == "__main__":
    main()
