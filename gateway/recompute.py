"""What `derms telemetry repair` and `backfill` share: quarters computed again against a running system, with progress (semantics 1.10)."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from gateway.commands.target import Target
from pipelines.repair import waits_of
from pipelines.repairing import Repairer, Wanted
from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.quarter_roster import Rosters
from pipelines.rules.repair import Span, open_from_ms
from pipelines.rules.repair_rows import EMPTY, GROUPS, LOST, OWN, SAME, WRITTEN
from pipelines.views import ConfigView
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.telemetry import Origin
from schemas.topics import QUARTER_HOURS, Topic
from schemas.units import to_ms
from sinks.clickhouse.client import connected
from sinks.clickhouse.measured import MeasuredHistory
from sinks.errors import Unavailable
from sinks.kafka import Producer
from sinks.kafka_archived import Archived, lacking

CONFIG_WITHIN_S = 10.0
STALLED_S = 60.0
"""An archive that takes nothing for so long is not running."""
ACKNOWLEDGED = 1_000
"""So many rows are acknowledged before more are sent: none waits longer than its time-out."""
_ASK_S = 0.2
_MS = timedelta(milliseconds=1)


@dataclass
class System:
    """A running system as these commands need it: its configuration and clock, its history, its topics."""

    config: Configuration
    clock: Clock
    history: MeasuredHistory
    repairer: Repairer
    producer: Producer
    archived: Archived

    @property
    def timing(self) -> MeterTiming:
        """The metering rule's durations."""
        return MeterTiming.of(self.config.timing, self.clock)

    def open_from(self) -> int:
        """Quarters that end later than this (ms) are the running flow's."""
        return open_from_ms(to_ms(self.clock.now()), self.timing, waits_of(self.clock).margin // _MS)


@dataclass
class Summary:
    """What became of the quarters, by the outcomes of `rules.repair_rows`, and readings that do not count, by reason."""

    tally: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        """For people."""
        found = self.tally
        looked = sum(found[name] for name in (SAME, WRITTEN, EMPTY, LOST, OWN))
        yield f"{looked} quarter hours computed: {found[WRITTEN]} rows of assets and {found[GROUPS]} of groups written"
        if found[EMPTY]:
            yield f"{found[EMPTY]} rows stay although the history has no readings for them: missing is never zero"
        if found[LOST]:
            yield f"{found[LOST]} rows stay since the history no longer has all readings they were made from"
        if found[OWN]:
            yield f"{found[OWN]} rows are of the system's own time and stay; derms telemetry repair computes them, and they are reported"
        for reason, count in sorted(self.left_out.items()):
            yield f"{count} readings do not count: {reason}"


@contextmanager
def opened(target: Target, client_id: str) -> Iterator[System]:
    """Connect to the system a command speaks to. Raises Misconfigured and Unavailable where it cannot be reached."""
    settings, clock = target.kafka, target.clock
    url, credentials = target.history_url, target.settings.clickhouse
    with ExitStack() as stack:
        view = ConfigView(settings, clock)
        stack.callback(view.stop)
        view.start()
        view.wait_ready(CONFIG_WITHIN_S)
        config = view.current()
        history, archived = MeasuredHistory(partial(connected, credentials, url)), Archived(settings, client_id)
        stack.callback(history.close)
        stack.callback(archived.close)
        rosters = Rosters(lambda: config, clock)
        repairer = Repairer(history, rosters, clock, lambda: config.timing.asset_expiry)
        producer = Producer(settings, client_id, many=True)
        stack.callback(producer.close)
        yield System(config, clock, history, repairer, producer, archived)


def wait_archived(system: System, topics: Iterable[Topic], on_progress: Callable[[int, int], None] = lambda _done, _all: None) -> None:
    """Block until the history has what now stands on some topics. `on_progress` is told how many records of how many.

    Raises Unavailable when nothing comes into it for `STALLED_S`.
    """
    ends = system.archived.ends(topics)
    least = behind = lacking(ends, system.archived.kept(ends))
    total, moved = behind, time.monotonic()
    while behind:
        on_progress(total - behind, total)
        if time.monotonic() - moved > STALLED_S:
            raise Unavailable(
                f"the history lacks {behind} records and takes none: is derms run archive running? Nothing is lost or doubled"
            )
        time.sleep(_ASK_S)
        behind = lacking(ends, system.archived.kept(ends))
        if behind < least:
            least, moved = behind, time.monotonic()


def recompute(
    system: System, spans: Mapping[str, Sequence[Span]], origin: Origin, on_progress: Callable[[int], None] = lambda _until: None
) -> Summary:
    """Compute the spans' quarters and write what differs, piece by piece; `on_progress` is told how far (ms) that is.

    Blocks. Raises Unavailable when the history or the broker does not answer; asking again goes on where this ended.
    """
    wait_archived(system, [QUARTER_HOURS])
    summary = Summary()
    for piece in system.repairer.run(Wanted(spans, origin)):
        for number, row in enumerate(piece.rows, 1):
            system.producer.send(QUARTER_HOURS, row.id, row)
            if number % ACKNOWLEDGED == 0:
                system.producer.flush()
        system.producer.flush()
        summary.tally += piece.tally
        summary.left_out += piece.left_out
        on_progress(piece.until)
    return summary
