"""The live picture follows its topics on the embedded broker."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from gateway.embedded import EmbeddedBroker
from gateway.following import LASTING, RECENT, Following, readable
from pipelines.records import Unreadable
from schemas.clock import FrozenClock
from schemas.compliance import BreachState
from schemas.topics import CONFIG, EVENTS, FLOW_REPORTS, LATE_TELEMETRY, READINGS, TOPICS
from sinks.codec import encode
from sinks.kafka import Producer, RawRecord, create_topics
from sinks.settings import KafkaSettings
from tests.gateway import story
from tests.gateway.facts import NOW, event, report


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaSettings]:
    broker = EmbeddedBroker()
    settings = KafkaSettings(bootstrap=broker.start(), embedded=True, replication=1, min_insync=1)
    create_topics(settings)
    yield settings
    broker.stop()


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_what_was_there_and_what_comes_is_in_the_picture(kafka: KafkaSettings) -> None:
    producer = Producer(kafka, "test")
    for value in story.values():
        topic = next(topic for topic in TOPICS if type(value) in topic.records)
        producer.send(topic, "key", value)
    producer.send(EVENTS, "key", b"no Avro at all")
    producer.flush()
    following = Following(kafka, FrozenClock(NOW))
    following.start()
    try:
        following.wait_ready(10)
        picture = following.projection.current()
        assert [breach.state for breach in picture.open_breaches()] == [BreachState.CONTINUED]
        assert len(picture.messages) == 46
        producer.send(EVENTS, "key", event(NOW, "news", "Something new"))
        producer.flush()
        until(lambda: following.projection.current().events[0].words == "Something new")
        said = report(0, 7)
        producer.send(FLOW_REPORTS, said.key, said)
        producer.flush()
        until(lambda: "telemetry/0" in following.projection.current().flows)
        (reported,) = following.projection.current().flows["telemetry/0"]
        assert reported.report == said
        assert abs((datetime.now(UTC) - reported.at).total_seconds()) < 30  # the broker's word, in wall time
    finally:
        following.stop()
        producer.close()


def test_every_topic_but_raw_readings_and_configuration_is_followed() -> None:
    assert {*LASTING, *RECENT} == {*TOPICS} - {*READINGS, LATE_TELEMETRY, CONFIG}


def test_a_value_of_another_topic_is_unreadable() -> None:
    raw = encode(event(NOW, "news", "x"))
    assert readable(RawRecord("derms.events", 0, 1, NOW, "k", raw)).value == event(NOW, "news", "x")
    for wrong in (b"", b"nonsense", encode(next(story.values()))):
        assert isinstance(readable(RawRecord("derms.events", 0, 1, NOW, "k", wrong)).value, Unreadable)
