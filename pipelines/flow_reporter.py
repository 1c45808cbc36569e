"""Sends the reports of a process's flows to `derms.flow-reports`: a thread beside the work, which never waits for it."""

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from pipelines.meters import Meters
from schemas.clock import wall_seconds
from schemas.facts import Value
from schemas.flows import FlowReport
from schemas.topics import FLOW_REPORTS, Topic
from sinks.errors import OutsideError, Unavailable

log = logging.getLogger(__name__)

EVERY_S = 5.0
QUIET_S = 15.0
"""A worker to which nothing happens says so less often: on the embedded broker, which forgets nothing, each message costs."""
LAST_WORD_S = 2.0


class Sender(Protocol):
    """What reports go by; `sinks.kafka.Producer`."""

    def send(self, topic: Topic, key: str, value: Value) -> None:
        """Hand a value over."""

    def flush(self) -> None:
        """Wait for all that was sent; raises OutsideError if any of it did not arrive."""


class FlowReporter:
    """Tells at once, then every `every_s` (wall) what the meters say, or every `quiet_s` where nothing is counted and no queue changes.

    A broker that is away costs the reports of that time and nothing else: the next one says it all; so does a worker that does not
    know for the moment how its queues stand. `sender` is used by the thread alone; give it a short time-out. `meters` may become
    more while this runs.
    """

    def __init__(self, sender: Sender, meters: Sequence[Meters], *, every_s: float = EVERY_S, quiet_s: float = QUIET_S) -> None:
        self._sender, self._meters, self._every_s, self._quiet_s = sender, meters, every_s, quiet_s
        self._told: dict[str, tuple[float, object]] = {}
        self._stopping = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._run, name="flow-reporter", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def stop(self) -> None:
        """Send a last report, marked as such, and end; blocks at most `LAST_WORD_S`. Harmless twice, and without a start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORD_S)

    def _run(self) -> None:
        self._tell()
        while not self._stopping.wait(self._every_s):
            self._tell()
        self._tell(ended=True)

    def _tell(self, *, ended: bool = False) -> None:
        reports = [report for report in self._known(ended=ended) if self._due(report)]
        try:
            for report in reports:
                self._sender.send(FLOW_REPORTS, report.key, report)
            if reports:
                self._sender.flush()
        except OutsideError as error:
            if not self._away:
                log.warning("the flows' reports do not get through: %s", error)
            self._away = True
            return
        self._away = False
        for report in reports:
            self._told[report.key] = (wall_seconds(), _gist(report))

    def _known(self, *, ended: bool) -> Iterator[FlowReport]:
        for meters in list(self._meters):
            try:
                yield meters.report(ended=ended)
            except Unavailable as unknown:
                log.debug("flow %s does not report this time: %s", meters.flow, unknown.words)

    def _due(self, report: FlowReport) -> bool:
        told = self._told.get(report.key)
        return told is None or report.ended or _gist(report) != told[1] or wall_seconds() - told[0] >= self._quiet_s


def _gist(report: FlowReport) -> object:
    """What is told at once when it changes: the rest comes with it, or with the next report."""
    queues = [(each.partner_id, each.waiting, each.parked, each.breaker, each.held, each.draining) for each in report.queues]
    return report.tallies, queues
