"""`derms up`, `demo`, `run`, `gateway`: what stays in the foreground until it is stopped."""

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.target import DataOption
from gateway.logs import configure_logging
from gateway.settings import Settings, load
from sinks.errors import Misconfigured


def instant(text: str | None) -> datetime | None:
    """An RFC 3339 instant of the command line. Raises typer.BadParameter (usage)."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an instant such as 2007-06-09T13:00:00Z") from None
    if found.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no zone; write it as {text}Z")
    return found


def up(
    data: Annotated[Path, typer.Option("--data", envvar="DERMS_DATA", help="Directory of this instance; made where missing.")],
    config: Annotated[Path | None, typer.Option("--config", help="Configuration file to apply at start.")] = None,
    speed: Annotated[float, typer.Option("--speed", min=0.001, max=100_000, help="Clock seconds in one wall second.")] = 1.0,
    origin: Annotated[str | None, typer.Option("--origin", help="Instant at which the clock starts (RFC 3339).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Let the file win over changes made since.")] = False,
) -> None:
    """Run everything on this machine; Ctrl-C or SIGTERM drains and stops."""
    from gateway.hosting import stop_on_signals
    from gateway.instance import Instance, Options

    configure_logging("up")
    options = Options(directory=data, config_file=config, speed=speed, origin=instant(origin), force=force)
    stop = threading.Event()
    stop_on_signals(stop)
    running = Instance(load(), options, say=lambda words: typer.echo(words, err=True), stop_asked=stop)
    try:
        endpoints = running.start()
        typer.echo(f"ready: operations {endpoints.operations_url}, OSCP {endpoints.oscp_url}")
        typer.echo(f"       Kafka {endpoints.kafka_bootstrap}, history {endpoints.clickhouse_url}")
        typer.echo(f"       operator token in {endpoints.operator_token_file}; logs in {running.directory / 'logs'}")
        running.run()
    finally:
        killed = running.stop()
    if killed:
        typer.echo(f"had to kill: {', '.join(killed)}", err=True)


def demo(
    data: Annotated[Path | None, typer.Option("--data", help="Directory to use; else a temporary one.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the story is told.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write what happened as JSON (with --once).")] = None,
) -> None:
    """Everything, with a simulated Capacity Provider and a recorded house at speed."""
    from gateway.demo import run_demo

    raise typer.Exit(run_demo(data, once=once, report_file=report))


def run(
    flow: Annotated[
        str, typer.Argument(help="telemetry, lifecycle, envelopes, circuits, compliance, reporting, dispatch, archive or repair")
    ],
    data: DataOption = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Run and supervise so many processes that share the flow (telemetry).")
    ] = None,
    epoch: Annotated[
        float | None, typer.Option("--epoch", min=0.1, help="Seconds between snapshots; 10 for telemetry, else 1 or 2.")
    ] = None,
) -> None:
    """Run one dataflow against the configured Kafka.

    Of lifecycle, dispatch and circuits one process runs each; a second one stands by, says so, and takes over when the
    first is gone (exit code 75 when it turns out that another has taken over from this one: start it again).
    With --processes they are started again together when one dies; any number may go on with the same recovery store.
    Exit code 78: only a person can help, such as with a recovery store of another make.
    """
    from gateway.hosting import stop_on_signals
    from gateway.processes import FLOWS, LEASED, run_flows
    from gateway.supervisor import EXIT_MISCONFIGURED

    if flow not in FLOWS:
        raise typer.BadParameter(f"{flow!r} is not one of {', '.join(FLOWS)}")
    settings = load()
    if data is not None:
        settings = settings.model_copy(update={"data": data})
    stop = threading.Event()
    try:
        if processes is not None:
            raise typer.Exit(_run_cluster(flow, processes, settings, stop, epoch))
        configure_logging(flow)
        stop_on_signals(stop)

        def say(words: str) -> None:
            typer.echo(words, err=True)

        # A flow under a lease says by itself when it runs.
        ready: Callable[[], None] = (lambda: None) if flow in LEASED else (lambda: say(f"{flow} is running"))
        raise typer.Exit(run_flows((flow,), settings, stop, ready, epoch_s=epoch, say=say))
    except Misconfigured as error:
        # Who starts it again and again should know that this needs a person, whenever it was found out.
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_MISCONFIGURED) from None


def _run_cluster(flow: str, processes: int, settings: Settings, stop: threading.Event, epoch_s: float | None) -> int:
    from gateway.cluster import CLUSTERED, Cluster
    from gateway.hosting import stop_on_signals

    if processes > 1 and flow not in CLUSTERED:
        shared = " and ".join(CLUSTERED)
        raise typer.BadParameter(f"{flow} keeps one order and has one reader: run it in one process; more can share {shared}")
    configure_logging(f"{flow} cluster")
    stop_on_signals(stop)
    return Cluster(flow, processes, settings, say=lambda words: typer.echo(words, err=True), epoch_s=epoch_s).run(stop)


def gateway() -> None:
    """Run the web side: the OSCP listener and the operations listener."""
    from gateway.hosting import stop_on_signals
    from gateway.processes import run_gateway

    configure_logging("gateway")
    settings = load()
    if settings.operators_file is None:
        raise Misconfigured("DERMS_OPERATORS_FILE", "is not set", "a file made by: derms operator add NAME --role admin --file FILE")
    stop = threading.Event()
    stop_on_signals(stop)
    raise typer.Exit(run_gateway(settings, stop, lambda: typer.echo("gateway is running", err=True)))


def register(app: typer.Typer) -> None:
    """Add this family to the command line."""
    for command in (up, demo, run, gateway):
        app.command()(command)
