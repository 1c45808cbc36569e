"""`derms telemetry`: readings from files to Kafka."""

import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway import replay as replaying
from gateway.commands.target import DataOption, Target
from schemas.clock import Clock, ScaledClock
from sinks.errors import Misconfigured
from sinks.kafka import Producer

telemetry = typer.Typer(help="Readings.", no_args_is_help=True)


@telemetry.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV (gz allowed): asset_id,measured_at,power_w,import_wh,export_wh")],
    speed: Annotated[
        float | None, typer.Option("--speed", min=0.001, help="Recorded seconds in one wall second; default: the instance's clock.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Produce recorded readings with their true timestamps, when the clock reaches them."""
    target = Target(data)
    try:
        measurements = replaying.readings(file)
    except OSError as error:
        raise Misconfigured(file.name, error.strerror or "cannot be read", "name a file that exists") from None
    except replaying.BadRecording as error:
        raise Misconfigured(file.name, str(error), "mend that line; nothing was sent") from None
    if not measurements:
        raise Misconfigured(file.name, "has no readings", "name a file with at least one line below the header")
    clock = target.clock if speed is None else _from_first(measurements[0], speed)
    producer = Producer(target.kafka, "derms-replay", many=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns) as bar:
            task = bar.add_task(file.name, total=len(measurements))
            sent = replaying.replay(
                measurements, producer, clock, stop=threading.Event(), on_progress=lambda now: bar.update(task, completed=now.sent)
            )
    finally:
        producer.close()
    typer.echo(f"{sent} readings sent")


def _from_first(first: object, speed: float) -> Clock:
    from datetime import UTC, datetime

    from schemas.telemetry import Measurement

    assert isinstance(first, Measurement)  # noqa: S101 - the caller's list
    return ScaledClock(first.measured_at, datetime.now(UTC), speed)


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(telemetry, name="telemetry")
