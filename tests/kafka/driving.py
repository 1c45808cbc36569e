"""Driving sources by hand, as a worker would; for tests over either broker."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from pipelines.records import Record
from schemas.connection import Event, SubjectKind
from schemas.topics import EVENTS, Topic
from sinks.kafka import Producer
from sinks.settings import KafkaSettings
from tests.builders import T0

DEADLINE_S = 30.0


def event(number: int) -> Event:
    """A small value of `derms.events`."""
    return Event(event_id=f"e{number}", at=T0, subject_kind=SubjectKind.SYSTEM, subject_id="s", kind="k", words=str(number))


def publish(settings: KafkaSettings, *items: tuple[Topic, str, Any]) -> None:
    """Append values, in order, and wait for the broker."""
    producer = Producer(settings, "test")
    for topic, key, value in items:
        producer.send(topic, key, value)
    producer.flush()


def publish_events(settings: KafkaSettings, numbers: Iterable[int]) -> None:
    """Append one event for each number, each under the number as its key."""
    publish(settings, *((EVENTS, str(number), event(number)) for number in numbers))


def drive(part: Any, until: Callable[[list[Any]], bool], deadline_s: float = DEADLINE_S) -> list[Any]:
    """What a source's part emits, item by item, until that is enough."""
    found: list[Any] = []
    deadline = time.monotonic() + deadline_s
    while not until(found):
        assert time.monotonic() < deadline, f"not enough after {deadline_s} s: {len(found)} items"
        batch = part.next_batch()
        found += batch
        if not batch:
            time.sleep(0.005)
    return found


def records_of(part: Any, count: int) -> list[Record]:
    """The next records, at least `count` of them."""
    polls = drive(part, lambda found: sum(map(len, found)) >= count)
    return [record for poll in polls for record in poll]


def quiet(part: Any, seconds: float = 0.5) -> list[Any]:
    """What comes within some time in which nothing should."""
    end = time.monotonic() + seconds
    return drive(part, lambda _: time.monotonic() > end)


def words(records: Iterable[Record]) -> list[int]:
    """The numbers of events, in their order."""
    return [int(record.value.words) for record in records if isinstance(record.value, Event)]
