"""`derms secret rotate`: a new installation secret (semantics 6.2, `gateway.rotation`)."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway import rotation
from gateway.commands.target import DataOption, Target
from gateway.secret_use import in_use
from pipelines.views import ConnectionsView
from sinks.errors import Misconfigured, Unavailable

RENEWED_WITHIN_S = 150.0
LOOK_EVERY_S = 0.5
READ_WITHIN_S = 15.0

secret = typer.Typer(help="The installation secret.", no_args_is_help=True)


@secret.command()
def rotate(
    data: DataOption = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="File of the secret; else the instance's, or what DERMS_SECRET_FILE names.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Remove the old secret, once no connection needs it.")] = False,
) -> None:
    """Put a new secret in the old one's place; partners keep the tokens they have.

    A running `derms up` restarts its processes by itself, and the old secret is removed when all is encrypted anew. Else: restart
    the lifecycle and dispatch flows, then the gateways, and run it again with --finish. People have to sign in again.
    """
    target = Target(data)
    path = _secret_file(target, file)
    if not finish:
        _demand_used(target, path)
        key_id = rotation.begin(path).key_id
        typer.echo(f"a new secret ({key_id}) is in {path}; the old one is beside it until nothing needs it")
        if target.endpoints is None:
            typer.echo(f"restart the lifecycle and dispatch flows, then the gateways; then: {rotation.FINISH}")
            return
        _wait(target, key_id)
    view = _connections(target)
    try:
        rotation.finish(path, view.current(), in_use(target.kafka))
    finally:
        view.stop()
    typer.echo("every connection is kept under the new secret and every process works with it; the old one is removed")


def _demand_used(target: Target, path: Path) -> None:
    """Before anything is changed: those who run work with this very secret. Where nothing runs, nobody can say."""
    try:
        used = in_use(target.kafka)
    except (Unavailable, Misconfigured):
        if target.endpoints is not None:
            raise
        return
    rotation.demand_used(path, used)


def _secret_file(target: Target, file: Path | None) -> Path:
    directory = target.data or target.settings.data
    own = directory / "secret" if directory is not None and (directory / "secret").exists() else None
    named = os.environ.get("DERMS_SECRET_FILE")
    path = file or (Path(named) if named else None) or own
    if path is None:
        raise Misconfigured(
            "DERMS_SECRET_FILE", "is not set", "keep the secret in a file that it names (DERMS_SECRET alone cannot be changed from here)"
        )
    return path


def _connections(target: Target) -> ConnectionsView:
    view = ConnectionsView(target.kafka, target.clock)
    view.start()
    try:
        view.wait_ready(READ_WITHIN_S)
    except Unavailable:
        view.stop()
        raise
    return view


def _wait(target: Target, key_id: str) -> None:
    """Until the running instance's processes work with the new secret and have encrypted all anew."""
    view, deadline = _connections(target), time.monotonic() + RENEWED_WITHIN_S
    try:
        # The instance may not have seen the new secret yet: somebody has to say that it works with it.
        while True:
            used = in_use(target.kafka)
            why = rotation.still_needed(view.current(), used, key_id)
            if why is None and key_id in used.values():
                return
            if time.monotonic() > deadline:
                words = f"after {RENEWED_WITHIN_S:g} s both secrets are still in use: {why or 'no process works with the new one yet'}"
                raise Unavailable(f"{words}. When all runs again: {rotation.FINISH}")
            time.sleep(LOOK_EVERY_S)
    finally:
        view.stop()


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(secret, name="secret")
