"""Which flows only one process runs at a time, and how the others stand by (semantics 8.1).

A flow under a lease is built once its lease is held: nobody else's work then comes between what it reads and what it does.
It goes on from its recovery store only if nobody else has had the lease since that was used; else the store is put aside,
and the flow begins where the other one stood, with what is on Kafka.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from gateway.recovery import taken_up
from gateway.settings import Settings
from pipelines import circuits, lifecycle
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.topics import EVENTS, Topic
from schemas.units import to_ms
from sinks.errors import OutsideError, Unavailable
from sinks.kafka import Positions, Producer, consumer_config, topic_name, watermarks
from sinks.lease import Holder, Lease, Spokesman, this_process
from sinks.lease_file import FileLease
from sinks.lease_kafka import KafkaLease
from sinks.settings import KafkaSettings

log = logging.getLogger(__name__)

POSITIONS: Mapping[str, Sequence[Topic]] = {
    "lifecycle": tuple(topic for topic in lifecycle.READS if topic not in lifecycle.BARRIER),
    "circuits": circuits.READS,
}
"""What a flow without the state of the one before it reads from where that one stood; the rest it reads from its beginning.
Dispatch is not here: it has no state in any case, and positions of its own."""
LOOK_BACK = timedelta(minutes=15)
"""So much (wall) is read again even so: the parts of what was not whole yet, such as a message in segments."""
ASK_WITHIN_S = 5.0
Start = Mapping[tuple[str, int], int]


@dataclass
class Candidacy:
    """One flow's wish to be the one. `settled` once it runs, is known to stand by, or has failed; `goes_on` is whether its
    recovery store is that of the last one that had the lease; `before` is who that was, where known."""

    flow: str
    settings: Settings
    root: Path | None
    lose: Callable[[str, str], None]
    say: Callable[[str], None] = log.info
    settled: threading.Event = field(default_factory=threading.Event)
    goes_on: bool = True
    before: Holder | None = None
    lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        told = Spokesman(self._stands_by, lambda words: self.lose(self.flow, words), self._store)
        if self.settings.kafka.embedded:
            assert self.root is not None  # noqa: S101 - `candidacies`' caller sees to it
            self.lease = FileLease(self.root / "run" / f"{self.flow}.lease", told)
        else:
            self.lease = KafkaLease(self.settings.kafka, self.flow, told)

    def _stands_by(self, words: str) -> None:
        self.say(f"{self.flow} stands by: {words}")
        self.settled.set()

    def _store(self, before: Holder | None) -> str:
        self.before = before
        if self.flow not in POSITIONS or self.root is None:
            return ""
        name, self.goes_on = taken_up(self.root, self.flow, self.settings.incarnation, before.store if before else None)
        if not self.goes_on:
            log.info("another process has run %s since it last ran here: its recovery store here is put aside", self.flow)
        return name

    def start(self) -> Start:
        """Where the flow begins where its recovery store does not say. Raises Unavailable."""
        return {} if self.goes_on else where_it_stood(self.settings.kafka, self.flow)

    def tell(self) -> None:
        """Say that the flow runs here now; operators hear of it where the one before did not end in order."""
        self.say(f"{self.flow} is running")
        if self.before is None or self.before.released:
            return
        who, at = this_process(), datetime.now(UTC)
        event = Event(
            event_id=derived_id("lease taken over", self.flow, self.before.process, who),
            at=at,
            subject_kind=SubjectKind.SYSTEM,
            subject_id=self.flow,
            kind="lease.taken-over",
            severity=Severity.WARNING,
            words=f"{self.flow} runs in {who}; {self.before.who}, where it ran before, did not end in order",
        )
        try:
            producer = Producer(self.settings.kafka, f"derms-{self.flow}-lease", timeout_s=ASK_WITHIN_S)
            producer.send(EVENTS, self.flow, event)
            producer.close()
        except OutsideError as error:
            log.warning("that %s was taken over is not on record: %s", self.flow, error)


@contextmanager
def candidacies(
    names: Sequence[str], settings: Settings, root: Path | None, lose: Callable[[str, str], None], say: Callable[[str], None]
) -> Iterator[list[Candidacy]]:
    """The candidacies of flows that need a lease; what they hold is released at the end. `lose` hears of a lost one."""
    made = [Candidacy(name, settings, root, lose, say) for name in names]
    try:
        yield made
    finally:
        for each in made:
            each.lease.release()


def where_it_stood(settings: KafkaSettings, flow: str) -> dict[tuple[str, int], int]:
    """Where the last run of a flow, wherever that was, had snapshotted its inputs, by plain topic name and partition; and
    `LOOK_BACK` before now, if that is earlier. Blocks; raises Unavailable."""
    found: dict[tuple[str, int], int] = {}
    positions = Positions(settings, f"derms-{flow}", timeout_s=ASK_WITHIN_S)
    consumer: Any = Consumer(consumer_config(settings, f"derms-{flow}-start"))
    try:
        since = to_ms(datetime.now(UTC) - LOOK_BACK)
        for topic in POSITIONS[flow]:
            for partition, offset in positions.committed(topic).items():
                name = topic_name(settings, topic)
                bound = watermarks(consumer, name, partition, ASK_WITHIN_S)
                if bound is None:
                    raise Unavailable(f"the broker does not say where {topic.name}[{partition}] begins and ends", 1.0)
                (then,) = consumer.offsets_for_times([TopicPartition(name, partition, since)], timeout=ASK_WITHIN_S)
                earlier = min(offset, then.offset) if then.offset >= 0 else offset
                found[topic.name, partition] = min(max(earlier, bound[0]), bound[1])
    except KafkaException as error:
        raise Unavailable(f"the broker does not say where {flow} stood: {error.args[0]}", 1.0) from error
    finally:
        consumer.close()
        positions.close()
    return found
