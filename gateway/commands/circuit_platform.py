"""`derms circuit-platform`: a stand-in for the legacy circuit platform, to write through to (docs/circuits.md)."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.target import DataOption
from sinks.errors import Misconfigured


def circuit_platform(
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8490,
    token: Annotated[str | None, typer.Option("--token", help="Token writers have to present; without one nobody has to.")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with that token, so that it is in no list of processes.")
    ] = None,
    data: DataOption = None,
    ready: Annotated[Path | None, typer.Option("--ready", help="File to write its addresses to while it serves.")] = None,
) -> None:
    """Run a stand-in for the legacy circuit platform until Ctrl-C; it shows a card for each circuit and checks all it is told.

    It prints its addresses as one line of JSON: set DERMS_CIRCUITS__URL to its url. With --data the cards also have names, ratings
    and next changes, from the instance that runs there. How it misbehaves is sent to /platform/switches: docs/circuits.md.
    """
    from gateway.circuit_platform import PlatformOptions, run

    if token_file is not None:
        try:
            token = token_file.read_text().strip()
        except OSError as problem:
            raise Misconfigured(
                "--token-file", f"{problem.strerror or 'cannot be read'}: {token_file}", "name a file that can be read"
            ) from None
    try:
        run(PlatformOptions(host, port, token, data), ready)
    except OSError as problem:
        raise Misconfigured("--port", f"{problem.strerror}: {host}:{port}", "free it, or name another") from None


def register(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command("circuit-platform")(circuit_platform)
