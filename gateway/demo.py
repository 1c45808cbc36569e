"""`derms demo`: everything on embedded engines, a simulated Capacity Provider, and a recorded house at speed (contract 1)."""

import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from gateway.commands.target import Target
from gateway.config_file import read_configuration
from gateway.demo_partner import SimulatedPartner
from gateway.demo_platform import DemoPlatform, unwritten
from gateway.demo_report import Story, differences, read_truth, report, untold
from gateway.demo_screen import closing, screen
from gateway.demo_sums import mistold
from gateway.hosting import stop_on_signals
from gateway.instance import Instance, Options
from gateway.logs import configure_logging
from gateway.replay import Progress, readings, replay
from gateway.settings import clock_of, load
from schemas.errors import Undecodable
from schemas.topics import BREACHES, BY_NAME, CIRCUIT_CAPACITY, CONNECTIONS, DELIVERIES, ENVELOPES, OUTBOUND, QUARTER_HOURS
from sinks.clickhouse.client import client_of
from sinks.codec import decode
from sinks.errors import OutsideError
from sinks.kafka import Follower, Producer, RawRecord

SPEED = 240.0
ORIGIN = datetime(2007, 6, 9, 13, 0, tzinfo=UTC)
ATTRIBUTION = (
    "Contains data by G. Hebrail and A. Berard (UCI Machine Learning Repository, doi:10.24432/C58K54), CC BY 4.0, cut and converted."
)
TOLD_WITHIN_S = 200.0
PLATFORM_WITHIN_S = 3.0
HISTORY_VIEWS = ("v_telemetry", "v_quarter_hours", "v_envelopes", "v_circuit_capacity", "v_breaches", "v_outbound_messages", "v_deliveries")


@contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        yield chosen
        return
    made = Path(tempfile.mkdtemp(prefix="derms-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def run_demo(data: Path | None, *, once: bool, report_file: Path | None) -> int:
    """Tell the story. With `once` 0 when all of it is as the recording's truth says, else 1; without, 0 when stopped. Blocks."""
    console, stop = Console(), threading.Event()
    stop_on_signals(stop)
    configure_logging("demo", logging.WARNING)
    with _directory(data) as directory, as_file(files("gateway").joinpath("demo_data")) as recorded:
        options = Options(
            directory=directory,
            config_file=recorded / "config.yaml",
            speed=SPEED,
            origin=ORIGIN,
            force=True,
            prefer_ports=True,
            attribution=ATTRIBUTION,
        )
        demo = Demo(Instance(load(), options, say=console.print, stop_asked=stop), recorded, console, stop)
        try:
            return demo.tell(once=once, report_file=report_file)
        finally:
            demo.end()


class Demo:
    """One telling of the story."""

    def __init__(self, instance: Instance, recorded: Path, console: Console, stop: threading.Event) -> None:
        self._instance, self._console, self._stop = instance, console, stop
        self._measurements = readings(recorded / "readings.csv.gz")
        self._truth = read_truth((recorded / "truth.csv").read_text())
        self._config = read_configuration(recorded / "config.yaml")
        self._progress = Progress(0, len(self._measurements), ORIGIN)
        self._story = Story()
        self._partner: SimulatedPartner | None = None
        self._platform: DemoPlatform | None = None
        self._follower: Follower | None = None
        self._failure: OutsideError | None = None
        self._no_more_readings = threading.Event()

    def tell(self, *, once: bool, report_file: Path | None) -> int:
        """Start everything and show what happens until the story is told (`once`) or a person stops it."""
        began = time.monotonic()
        self._console.print("starting the broker, the history, eight flows and the gateway ...")
        # In place of any platform that is set: a demo writes to no real one.
        self._platform = DemoPlatform(self._instance.directory.path)
        self._instance.settings = self._instance.settings.model_copy(update={"circuits": self._platform.settings()})
        endpoints = self._instance.start()
        kafka = self._instance.settings.kafka
        topics = (QUARTER_HOURS, ENVELOPES, CIRCUIT_CAPACITY, BREACHES, OUTBOUND, DELIVERIES, CONNECTIONS)
        self._follower = Follower(kafka, topics, self._take, client_id="derms-demo")
        self._follower.start()
        self._partner = SimulatedPartner.start(self._instance.directory.path)
        threading.Thread(target=self._replay, daemon=True, name="replay").start()
        target = Target(self._instance.directory.path)
        link = endpoints.operations_url + target.operations("POST", "/sign-in-links")["path"]
        self._console.print(f"everything runs after {time.monotonic() - began:.0f} s; open {link}", soft_wrap=True)
        self._console.print(
            f"the legacy platform's circuit card, as our circuit writer keeps it: {self._platform.page_url}", soft_wrap=True
        )
        self._console.print(ATTRIBUTION, style="dim", soft_wrap=True)
        told = self._watch(link, began + TOLD_WITHIN_S, once=once)
        if not once and not told:
            return 0
        heard = self._partner.report()
        found = report(self._story, self._truth, heard, self._platform_report(), self._history_rows(), ATTRIBUTION)
        failed = [] if self._failure is None else [f"the replay failed: {self._failure}"]
        if more := [*self._mistold(heard), *failed]:
            found["verdict"]["ok"] = False
            found["verdict"]["untold"] += more
        found["seconds"] = round(time.monotonic() - began, 1)
        closing(self._console, found, time.monotonic() - began)
        if report_file is not None:
            report_file.write_text(json.dumps(found, indent=2) + "\n")
        if once:
            return 0 if found["verdict"]["ok"] else 1
        self._console.print("it goes on until Ctrl-C")
        self._instance.run()
        return 0

    def end(self) -> None:
        """Stop everything that was started."""
        self._no_more_readings.set()
        if self._partner is not None:
            self._partner.stop()
        if self._platform is not None:
            self._platform.stop()
        if self._follower is not None:
            self._follower.stop()
        killed = self._instance.stop()
        if killed:
            self._console.print(f"had to kill: {', '.join(killed)}")

    def _watch(self, link: str, deadline: float, *, once: bool) -> bool:
        """Show the story until it is told; False when a person stopped it before."""
        clock = clock_of(self._instance.settings)
        with Live(console=self._console, auto_refresh=False) as live:
            while not self._stop.wait(0.5):
                self._instance.watch()
                live.update(screen(self._story, self._progress, clock.now(), link), refresh=True)
                if self._told() or self._failure is not None or time.monotonic() > deadline:
                    return True
        return False

    def _told(self) -> bool:
        """Whether all of it has happened, arrived, and is in the history."""
        if self._progress.sent < self._progress.total or differences(self._story, self._truth):
            return False
        if self._partner is None or self._platform is None:
            return False
        heard = self._partner.report()
        if untold(self._story, heard, self._platform.report()) or self._mistold(heard):
            return False
        return self._history_rows().get("v_quarter_hours", 0) >= len(self._story.quarters)

    def _mistold(self, heard: dict[str, Any]) -> list[str]:
        """What the partner was told that is not the truth; what was owed before its first handshake is not asked for."""
        connection = self._story.connection
        return mistold(heard, self._truth, self._config, connection.first_acknowledged_at if connection else None)

    def _platform_report(self) -> dict[str, Any]:
        """What the circuit platform has; waits for a change that is on its way this very moment."""
        assert self._platform is not None  # noqa: S101 - told only once it runs
        deadline = time.monotonic() + PLATFORM_WITHIN_S
        while unwritten(self._story.circuits, found := self._platform.report()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _replay(self) -> None:
        producer = Producer(self._instance.settings.kafka, "derms-demo", many=True)
        try:
            replay(
                self._measurements,
                producer,
                clock_of(self._instance.settings),
                stop=self._no_more_readings,
                on_progress=lambda progress: setattr(self, "_progress", progress),
            )
        except OutsideError as error:
            self._failure = error
        finally:
            producer.close()

    def _take(self, records: Sequence[RawRecord]) -> None:
        for record in records:
            try:
                self._story.take(decode(record.raw, BY_NAME[record.topic]))
            except Undecodable as error:
                self._console.print(f"{record.topic}, offset {record.offset}: {error}")

    def _history_rows(self) -> dict[str, int]:
        try:
            client = client_of(self._instance.settings.clickhouse.url)
            try:
                return {view: int(str(client.command(f"SELECT count() FROM {view}"))) for view in HISTORY_VIEWS}  # noqa: S608 - our own names
            finally:
                client.close()
        except OutsideError:
            return {}
