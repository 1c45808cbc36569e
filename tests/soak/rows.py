"""What a run wrote, what an undisturbed run would have written, and how the two differ."""

import math
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from pipelines.lanes import Lane
from pipelines.records import Mark, Out, Outs, Poll, Run
from pipelines.telemetry import telemetry_flow
from pipelines.views import FixedView
from schemas.clock import Clock
from schemas.outbound import DeadLetter
from schemas.telemetry import CONTENT_EXCLUDES, LateMeasurement, QuarterHour
from schemas.topics import DEAD_LETTERS, LATE_TELEMETRY, QUARTER_HOURS, TELEMETRY
from schemas.units import to_ms
from sinks.codec import decode
from sinks.kafka import topic_name
from sinks.kafka_clients import consumer_config, partitions_of
from sinks.settings import KafkaSettings
from tests.outs import each
from tests.soak.load import PARTITIONS, Load

Key = tuple[str, str, str, int]
"""(level, id, phase, start in seconds)."""
RELATIVE = 1e-9


@dataclass
class Rows:
    """The final rows: for each key the highest revision, of equal ones the last."""

    best: dict[Key, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    last: dict[Key, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """The row written last of each key, whatever its revision: what went wrong shows where it is not the best."""
    written: int = 0
    late: set[tuple[str, int]] = field(default_factory=set)
    """Readings of sites that were told to be too late: (asset, instant in ms)."""
    probes: set[tuple[str, int]] = field(default_factory=set)
    """Those of probes: (asset, instant in ms)."""
    letters: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Dead letters by event: whose readings, and how many."""
    unlike: int = 0
    """Rows that said something else than an earlier one of the same key and revision."""

    def add(self, value: Any) -> None:
        """Take in a value some flow wrote."""
        if isinstance(value, DeadLetter):
            self.letters[value.event_id] = (value.subject, value.count)
        elif isinstance(value, LateMeasurement):
            which = (value.measurement.asset_id, to_ms(value.measurement.measured_at))
            (self.probes if which[0].startswith("probe") else self.late).add(which)
        elif isinstance(value, QuarterHour) and not value.provisional:
            self.written += 1
            key = (value.level.value, value.id, value.phase.value, int(value.start.timestamp()))
            content = value.model_dump(exclude=set(CONTENT_EXCLUDES))
            revision, before = self.best.get(key, (0, {}))
            self.unlike += revision == value.revision and before != content
            self.last[key] = (value.revision, content)
            if value.revision >= revision:
                self.best[key] = (value.revision, content)

    def miscounted(self, load: Load) -> list[str]:
        """Assets' rows with another number of readings than the load has; a quarter without a row is not among them."""
        found = {(key[1], key[2], key[3]): content["samples"] for key, (_, content) in self.best.items() if key[0] == "ASSET"}
        wrong = [f"{key}: {found[key]} of {count}" for key, count in load.samples.items() if found.get(key, count) != count]
        return sorted(wrong)

    def rejected(self, asset_id: str) -> int:
        """How many readings of an asset became dead letters."""
        return sum(count for subject, count in self.letters.values() if subject == asset_id)

    def complete(self, load: Load) -> bool:
        """Whether event time has passed all of the load in every partition, and all groups know."""
        last, done = int(load.end.timestamp()) - 900, int(load.end.timestamp()) + 3600
        paced = all(("ASSET", f"pace-{number}", "ALL", done) in self.best for number in range(PARTITIONS))
        return paced and all(("GROUP", group.group_id, "ALL", last) in self.best for group in load.config.groups)


class Reader:
    """Follows what the flow writes."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.rows = Rows()
        topics = (QUARTER_HOURS, LATE_TELEMETRY, DEAD_LETTERS)
        self._consumer: Any = Consumer(consumer_config(settings, "soak-rows"))
        places = [
            TopicPartition(topic_name(settings, topic), number, OFFSET_BEGINNING)
            for topic, numbers in partitions_of(self._consumer, settings, topics, 10).items()
            for number in numbers
        ]
        self._consumer.assign(places)

    def read(self, wait_s: float = 0.05) -> int:
        """Take in what there is; how many records that was."""
        count = 0
        for message in self._consumer.consume(5000, wait_s):
            if message.error() is not None:
                continue
            count += 1
            self.rows.add(decode(message.value()))
        return count

    def until(self, condition: Callable[[Rows], bool], what: Callable[[], str], within_s: float) -> None:
        """Read until the rows meet a condition; AssertionError with `what` after the time."""
        deadline = time.monotonic() + within_s
        while not condition(self.rows):
            assert time.monotonic() < deadline, f"not within {within_s:g} s, {self.rows.written} rows written: {what()}"
            self.read()

    def rest(self) -> None:
        """Read what there still is, once nothing is written any more."""
        empty = 0
        while empty < 3:
            empty = 0 if self.read(0.3) else empty + 1

    def close(self) -> None:
        """End the connection."""
        self._consumer.close()


class _Collect(DynamicSink[Out | Outs]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Out | Outs]:
        return _Collecting(self.rows)


class _Collecting(StatelessSinkPartition[Out | Outs]):
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def write_batch(self, items: list[Out | Outs]) -> None:
        for item in each(items):
            self._rows.add(item.value)


def undisturbed(settings: KafkaSettings, load: Load, clock: Clock) -> Rows:
    """The rows of a run that nothing disturbed, in this process, over what is on the topic now."""
    rows = Rows()
    flow = telemetry_flow(
        polls=TestingSource(_polls(settings, clock), batch_size=1), out=_Collect(rows), clock=clock, config=FixedView(load.config)
    )
    run_main(flow, epoch_interval=timedelta(seconds=10))
    return rows


def _polls(settings: KafkaSettings, clock: Clock) -> Iterator[Poll]:
    """All that is on the topic as polls, and two more that say that it is all."""
    lane = Lane(settings, [TELEMETRY], "soak-undisturbed", queued_kbytes=32 * 1024)
    while not lane.open():
        pass
    ends = lane.ends(lane.parts)
    assert ends is not None
    partitions = tuple(number for _, number in lane.parts)
    while any(lane.read[part] < end for part, end in ends.items()):
        found: dict[int, list[Any]] = {}
        for (_, partition), messages in lane.poll(10_000, 0.02):
            found.setdefault(partition, []).extend(messages)
        payloads, runs = list[bytes](), list[Run]()
        for partition, messages in sorted(found.items()):
            runs.append(Run(partition, len(payloads), len(messages), array("q", (message.offset() for message in messages))))
            payloads += [message.value() or b"" for message in messages]
        if payloads:
            yield Poll(payloads, tuple(runs), (), partitions, clock.now())
    lane.close()
    for _ in range(2):
        now = clock.now()
        yield Poll([], (), tuple(Mark(number, now, now) for number in partitions), partitions, now)


@dataclass
class Difference:
    """How final rows differ from those they should equal."""

    missing: list[Key]
    surplus: list[Key]
    other: list[str]
    late: set[tuple[str, int]]
    """Readings that only one of the two called too late."""
    inexact: int
    """Numbers that agree to 1e-9 but not to the bit."""

    @property
    def none(self) -> bool:
        """Whether the rows are the same."""
        return not (self.missing or self.surplus or self.other or self.late)

    def __str__(self) -> str:
        parts = [f"{len(self.missing)} missing {self.missing[:3]}", f"{len(self.surplus)} too many {self.surplus[:3]}"]
        parts += [f"{len(self.other)} differ {self.other[:5]}", f"{len(self.late)} late in one only {sorted(self.late)[:3]}"]
        return "; ".join([*parts, f"{self.inexact} numbers not to the bit"])


def difference(found: Rows, wanted: Rows) -> Difference:
    """Compare the content of the final rows: keys and words exactly, numbers to 1e-9."""
    same = found.best.keys() & wanted.best.keys()
    other, inexact = [], 0
    for key in sorted(same):
        for name, value in wanted.best[key][1].items():
            mine = found.best[key][1][name]
            if mine == value:
                continue
            if isinstance(value, float) and isinstance(mine, float) and math.isclose(mine, value, rel_tol=RELATIVE, abs_tol=1e-9):
                inexact += 1
            else:
                other.append(f"{key} {name}: {mine!r}, should be {value!r} (revisions {found.best[key][0]}, {wanted.best[key][0]})")
    return Difference(sorted(wanted.best.keys() - same), sorted(found.best.keys() - same), other, found.late ^ wanted.late, inexact)
