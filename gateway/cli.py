"""The `derms` command: exit 0 done, 1 failed (one sentence of cause, one of cure), 2 wrong usage."""

import sys
from importlib import import_module
from typing import Annotated

import typer

from sinks.errors import Misconfigured, OutsideError, Refused, Unavailable

FAMILIES = {
    "running": ("up", "demo", "run", "gateway"),
    "setup": ("topics", "schemas", "operator", "migrate", "doctor"),
    "secrets": ("secret",),
    "configuring": ("config",),
    "partners": ("partner",),
    "asking": ("adjust", "compliance-error", "limit", "requests"),
    "messages": ("messages",),
    "readings": ("telemetry",),
    "watching": ("status", "dead-letters"),
    "history": ("history", "sql"),
    "simulating": ("simulator",),
    "circuit_platform": ("circuit-platform",),
}
"""The modules of `gateway.commands` and what each adds, in the order of the help."""


def command_line(first: str = "") -> typer.Typer:
    """All commands; where `first` is one of them, only its family: to import all takes a second, and a command should answer at once."""
    app = typer.Typer(
        name="derms",
        help="Vector DERMS: an OSCP 2.0 Flexibility Provider built from stream-processing dataflows.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    wanted = [family for family, names in FAMILIES.items() if first in names] or list(FAMILIES)
    for family in wanted:
        import_module(f"gateway.commands.{family}").register(app)
    return app


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
        command_line(sys.argv[1] if len(sys.argv) > 1 else "")()
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
