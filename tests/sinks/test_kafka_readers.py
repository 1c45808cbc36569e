import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.embedded import EmbeddedBroker
from schemas.topics import CONFIG, CONNECTIONS, DELIVERIES, INBOUND, OUTBOUND
from sinks.errors import Unavailable
from sinks.kafka import Follower, Positions, Producer, RawRecord, create_topics
from sinks.settings import KafkaSettings

Register = Callable[[Any], Any]
NOBODY = KafkaSettings(bootstrap="127.0.0.1:1", replication=1, min_insync=1)


def test_positions_survive_their_reader(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [OUTBOUND, DELIVERIES])
    first = closing(Positions(kafka_settings, "derms-dispatch"))
    assert first.committed(OUTBOUND) == {}
    first.commit({(OUTBOUND, 0): 7, (DELIVERIES, 0): 3})
    first.commit({(OUTBOUND, 0): 9})
    second = closing(Positions(kafka_settings, "derms-dispatch"))
    assert second.committed(OUTBOUND) == {0: 9}
    assert second.committed(DELIVERIES) == {0: 3}
    other = closing(Positions(kafka_settings, "derms-archive"))
    assert other.committed(OUTBOUND) == {}


def test_a_position_that_cannot_be_kept_is_an_error_in_time(own_broker: EmbeddedBroker, closing: Register):
    settings = KafkaSettings(bootstrap=own_broker.bootstrap, embedded=True)
    create_topics(settings, [OUTBOUND])
    positions = closing(Positions(settings, "derms-dispatch", timeout_s=1.0))
    positions.commit({(OUTBOUND, 0): 1})
    own_broker.stop()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        positions.commit({(OUTBOUND, 0): 2})
    with pytest.raises(Unavailable):
        positions.committed(OUTBOUND)
    assert time.monotonic() - started < 5


def test_a_follower_has_read_what_was_there_and_goes_on(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [CONFIG, INBOUND])
    producer = Producer(kafka_settings, "test")
    for number in range(20):
        producer.send(CONFIG, "k", b"%d" % number)
        producer.send(INBOUND, f"p{number}", b"%d" % number)
    producer.flush()
    found: list[RawRecord] = []
    follower = closing(Follower(kafka_settings, [CONFIG, INBOUND], found.extend))
    follower.start()
    follower.wait_ready(10)
    assert len(found) == 40
    config = [record for record in found if record.topic == CONFIG.name]
    assert [int(record.raw) for record in config] == list(range(20))
    assert abs(config[0].appended_at - datetime.now(UTC)) < timedelta(minutes=5)
    producer.send(CONFIG, "k", b"more")
    producer.flush()
    follower.catch_up(5)
    assert found[-1].raw == b"more"


def test_a_follower_may_begin_at_an_instant(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [CONNECTIONS])
    producer = Producer(kafka_settings, "test")
    producer.send(CONNECTIONS, "k", b"before")
    producer.flush()
    seen: list[RawRecord] = []
    first = closing(Follower(kafka_settings, [CONNECTIONS], seen.extend))
    first.start()
    first.wait_ready(10)
    since = seen[0].appended_at + timedelta(milliseconds=1)
    while datetime.now(UTC) <= since + timedelta(milliseconds=1):
        time.sleep(0.001)
    found: list[RawRecord] = []
    follower = closing(Follower(kafka_settings, [CONNECTIONS], found.extend, since=since))
    follower.start()
    follower.wait_ready(10)
    assert found == []
    producer.send(CONNECTIONS, "k", b"after")
    producer.flush()
    follower.catch_up(5)
    assert [record.raw for record in found] == [b"after"]


def test_a_follower_waits_for_a_broker_and_says_so_to_who_waits_for_it(closing: Register):
    follower = closing(Follower(NOBODY, [CONFIG], lambda _: None))
    follower.start()
    with pytest.raises(Unavailable, match=r"derms\.config"):
        follower.wait_ready(0.3)
    with pytest.raises(Unavailable):
        follower.catch_up(0.1)


def test_who_waits_for_a_long_topic_waits_as_long_as_it_goes_on(
    embedded_settings: KafkaSettings, closing: Register, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sinks.kafka_readers._AT_ONCE", 4)
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    for _ in range(40):
        producer.send(CONFIG, "k", b"v")
    producer.flush()
    found: list[RawRecord] = []

    def slow(records: list[RawRecord]) -> None:
        time.sleep(0.2)  # the machine is busy
        found.extend(records)

    follower = closing(Follower(embedded_settings, [CONFIG], slow))
    follower.start()
    follower.wait_ready(1.0)
    assert len(found) == 40


def test_an_error_in_the_callback_reaches_who_waits(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    producer.send(CONFIG, "k", b"v")
    producer.flush()

    def broken(_: list[RawRecord]) -> None:
        raise OSError("no room")

    follower = closing(Follower(embedded_settings, [CONFIG], broken))
    follower.start()
    with pytest.raises(OSError, match="no room"):
        follower.wait_ready(10)


def test_asking_for_the_end_while_reading_never_hangs(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    count = 0
    lock = threading.Lock()

    def take(records: list[RawRecord]) -> None:
        nonlocal count
        with lock:
            count += len(records)

    follower = closing(Follower(embedded_settings, [CONFIG], take))
    follower.start()
    follower.wait_ready(10)
    for number in range(1, 6):
        producer.send(CONFIG, "k", b"v")
        producer.flush()
        follower.catch_up(5)
        assert count == number
