"""`derms simulator`: a simulated Capacity Provider, for whoever integrates with one (docs/partners.md)."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from gateway.simulator_config import SimulatorConfig
from schemas.oscp.checking import violations
from sinks.errors import Misconfigured


def simulator(
    config: Annotated[Path, typer.Option("--config", help="JSON file: where we are, the token, the group, what to send and do wrong.")],
    ready: Annotated[Path | None, typer.Option("--ready", help="File to write its addresses to while it serves.")] = None,
) -> None:
    """Run a simulated Capacity Provider until Ctrl-C; it checks all it hears (GET /simulator/report).

    It prints its addresses as one line of JSON. How it misbehaves is in the file, or sent to /simulator/switches: docs/partners.md.
    """
    from gateway.simulator import run

    try:
        wanted = SimulatorConfig.model_validate_json(config.read_bytes())
    except OSError as problem:
        raise Misconfigured(config.name, problem.strerror or "cannot be read", "name a file that exists") from None
    except ValidationError as problem:
        raise Misconfigured(config.name, "; ".join(map(str, violations(problem))), "correct it and try again") from None
    run(wanted, ready)


def register(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(simulator)
