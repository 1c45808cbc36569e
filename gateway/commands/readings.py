"""`derms telemetry`: readings from files, and quarter hours computed again from the readings there are."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway import replay as replaying
from gateway.commands.running import instant
from gateway.commands.target import DataOption, Target
from schemas.clock import Clock, ScaledClock
from schemas.intervals import QUARTER_MS
from schemas.telemetry import Measurement
from schemas.units import from_ms, rfc3339, to_ms
from sinks.errors import Misconfigured
from sinks.kafka import Producer

telemetry = typer.Typer(help="Readings.", no_args_is_help=True)


def _say(bar: Progress) -> Callable[[str], None]:
    """Words above the bar, one line each however long."""
    return lambda words: bar.console.print(words, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        yield bar


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
    try:
        with _bar() as bar:
            task = bar.add_task(file.name, total=len(measurements))
            sent = replaying.replay(
                measurements, producer, clock, stop=threading.Event(), on_progress=lambda now: bar.update(task, completed=now.sent)
            )
    finally:
        producer.close()
    typer.echo(f"{sent} readings sent")


def _from_first(first: Measurement, speed: float) -> Clock:
    return ScaledClock(first.measured_at, datetime.now(UTC), speed)


@telemetry.command()
def backfill(
    file: Annotated[
        Path,
        typer.Argument(help="CSV (gz allowed): asset_id,measured_at,power_w,import_wh,export_wh and, if wanted, phase,quality,stored_wh"),
    ],
    batch: Annotated[int, typer.Option("--batch", min=1, max=1000, help="Readings of an asset in one message.")] = 200,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad lines and readings of the system's own time instead of refusing the file.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Load readings from before the system's time, in any order: history and quarter hours; nothing is reported or judged.

    Running it again changes nothing. Readings of the system's own time belong to derms telemetry replay: late ones are
    corrected and reported.
    """
    from gateway import backfill as loading
    from gateway.readings_file import BadFile
    from gateway.recompute import opened

    try:
        with opened(Target(data), "derms-backfill") as system, _bar() as bar:
            task = bar.add_task("checking", total=None)
            summary = loading.load(
                system,
                file,
                batch=batch,
                skip=skip_bad,
                say=_say(bar),
                on_progress=lambda what, done, of: bar.update(task, description=what, completed=done, total=of),
            )
    except OSError as error:
        raise Misconfigured(file.name, error.strerror or "cannot be read", "name a file that exists") from None
    except BadFile as error:
        raise Misconfigured(file.name, error.problem, f"{error.cure}; nothing was sent") from None
    for words in summary.lines():
        typer.echo(words)


@telemetry.command()
def repair(
    from_: Annotated[str, typer.Option("--from", help="Instant at which the first quarter hour begins (RFC 3339).")],
    to: Annotated[str, typer.Option("--to", help="Instant at which the last one ends (RFC 3339).")],
    asset: Annotated[list[str] | None, typer.Option("--asset", help="Only this one, as often as needed; else all.")] = None,
    data: DataOption = None,
) -> None:
    """Compute quarter hours again from all readings the history has, and write those that come out otherwise.

    Their groups follow; partners are told within the report horizon. Running it again changes nothing.
    """
    from gateway.recompute import opened, recompute, wait_archived
    from schemas.telemetry import Origin
    from schemas.topics import TELEMETRY

    first, until = _ms(from_) // QUARTER_MS * QUARTER_MS, -(-_ms(to) // QUARTER_MS) * QUARTER_MS
    if first >= until:
        raise typer.BadParameter("--to must be after --from")
    with opened(Target(data), "derms-repair-command") as system, _bar() as bar:
        names = [item.id for item in system.config.assets]
        for name in asset or ():
            if name not in names:
                raise Misconfigured(
                    "--asset", f"{name} is not configured", "add it with derms config apply; its readings are kept until then"
                )
        end = min(until, system.open_from() // QUARTER_MS * QUARTER_MS)
        if end < until:
            gone = rfc3339(from_ms(until + to_ms(system.clock.now()) - system.open_from()))
            words = f"still open to correction by the running flow until {gone}"
            if end <= first:
                raise Misconfigured("--from", f"these quarter hours are {words}", "late readings reach them by themselves; ask again then")
            _say(bar)(f"left out: quarter hours from {rfc3339(from_ms(end))} on are {words}")
        task = bar.add_task("waiting for the history", total=None)
        wait_archived(system, [TELEMETRY], lambda done, of: bar.update(task, completed=done, total=of))
        bar.update(task, description="computing", completed=0, total=(end - first) // QUARTER_MS)
        summary = recompute(
            system,
            {name: [(first, end)] for name in asset or names},
            Origin.REPAIR,
            lambda done: bar.update(task, completed=(min(done, end) - first) // QUARTER_MS),
        )
    for words in summary.lines():
        typer.echo(words)


def _ms(text: str) -> int:
    found = instant(text)
    return 0 if found is None else to_ms(found)


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    app.add_typer(telemetry, name="telemetry")
