import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main
from confluent_kafka import KafkaError, KafkaException, murmur2

from gateway.embedded import EmbeddedBroker
from schemas.facts import Value
from schemas.topics import CONFIG, EVENTS, INBOUND, Topic
from sinks.errors import Refused, Unavailable
from sinks.kafka import AsyncAppender, Follower, KafkaSink, Producer, RawRecord, create_topics
from sinks.settings import KafkaSettings
from tests.integration.running import stand_still

pytestmark = pytest.mark.usefixtures("closing")
Register = Callable[[Any], Any]


class Item(NamedTuple):
    topic: Topic
    key: str
    value: Value | bytes


@dataclass(frozen=True)
class Many:
    topic: Topic
    keys: list[str]
    values: list[bytes]


def all_of(settings: KafkaSettings, topic: Topic) -> list[RawRecord]:
    """Everything in a topic now."""
    found: list[RawRecord] = []
    follower = Follower(settings, [topic], found.extend)
    follower.start()
    try:
        follower.wait_ready(10)
    finally:
        follower.stop()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def own_settings(broker: EmbeddedBroker) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.bootstrap, replication=1, min_insync=1, embedded=True)


def test_what_was_flushed_is_there_in_order_and_where_java_would_put_it(kafka_settings: KafkaSettings):
    create_topics(kafka_settings, [INBOUND])
    producer = Producer(kafka_settings, "test")
    for number in range(300):
        producer.send(INBOUND, f"partner-{number % 7}", b"%d" % number)
    producer.flush()
    found = all_of(kafka_settings, INBOUND)
    partitions = 1 if kafka_settings.embedded else INBOUND.partitions
    assert len(found) == 300
    for key in {record.key for record in found}:
        mine = [record for record in found if record.key == key]
        assert [int(record.raw) for record in mine] == sorted(int(record.raw) for record in mine)
        # Java's default partitioner: the sign bit dropped, then modulo.
        assert {record.partition for record in mine} == {murmur2(key.encode(), partitions)}


def test_thousands_at_once_are_all_there_in_order(kafka_settings: KafkaSettings):
    create_topics(kafka_settings, [INBOUND])
    keys, values = [f"partner-{number % 7}" for number in range(3500)], [b"%d" % number for number in range(3500)]
    flow = Dataflow("many")
    items = op.input(
        "in", flow, TestingSource([Item(INBOUND, "partner-0", b"-1"), Many(INBOUND, keys, values), Item(INBOUND, "partner-0", b"3500")])
    )
    op.output("out", items, KafkaSink(kafka_settings, "test", many=True))
    run_main(flow)
    found = all_of(kafka_settings, INBOUND)
    assert sorted(int(record.raw) for record in found) == list(range(-1, 3501))
    for key in {*keys}:
        mine = [int(record.raw) for record in found if record.key == key]
        assert mine == sorted(mine)


def test_one_of_many_that_is_too_large_is_refused(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    with pytest.raises(Refused, match=f"{CONFIG.max_bytes + 1} bytes"):
        producer.send_all(CONFIG, ["a", "b"], [b"1", bytes(CONFIG.max_bytes + 1)])
    producer.flush()


def test_a_queue_that_is_full_is_waited_for_and_then_said(embedded_settings: KafkaSettings):
    class Full:
        """A client whose queue has room after so many polls."""

        def __init__(self, room_after: float) -> None:
            self.polls, self.sent, self._room_after = 0, list[bytes](), room_after

        def produce(self, _name: str, raw: bytes, *_: Any) -> None:
            if self.polls < self._room_after:
                raise BufferError("full")
            self.sent.append(raw)

        def poll(self, _: float) -> None:
            self.polls += 1
            time.sleep(0.001)

    producer = Producer(embedded_settings, "test", timeout_s=0.05)
    client: Any = Full(3)
    producer._client = client
    producer.send_all(CONFIG, ["a", "b"], [b"1", b"2"])
    assert client.sent == [b"1", b"2"]
    producer._client = Full(float("inf"))
    with pytest.raises(Unavailable, match="stayed full"):
        producer.send(CONFIG, "a", b"1")


def test_a_broker_that_is_gone_is_never_silent(own_broker: EmbeddedBroker):
    settings = own_settings(own_broker)
    create_topics(settings, [CONFIG])
    producer = Producer(settings, "test", timeout_s=2.0)
    producer.send(CONFIG, "a", b"1")
    producer.flush()
    own_broker.stop()
    producer.send(CONFIG, "a", b"2")
    producer.send(CONFIG, "a", b"3")
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"derms\.config did not take a message.*1 more"):
        producer.flush()
    assert time.monotonic() - started < 7
    producer.flush()  # what failed was reported once; nothing of it is left to arrive later


def test_a_flow_whose_sink_lost_its_broker_fails_instead_of_ending_clean(own_broker: EmbeddedBroker):
    settings = own_settings(own_broker)
    create_topics(settings, [CONFIG])

    def stop_after_first(item: Item) -> Item:
        if item.key == "2":
            own_broker.stop()
        return item

    flow = Dataflow("lossy")
    items = op.input("in", flow, TestingSource([Item(CONFIG, str(number), b"v") for number in (1, 2, 3)], batch_size=1))
    op.output("out", op.map("stop", items, stop_after_first), KafkaSink(settings, "test", timeout_s=1.0))
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - the engine decides what it wraps the error in
        run_main(flow)
    causes, error = [], raised.value
    while error is not None:
        causes.append(type(error))
        error = error.__cause__ or error.__context__
    assert Unavailable in causes


def test_a_message_that_is_too_large_is_refused_with_its_size(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    with pytest.raises(Refused, match=f"{CONFIG.max_bytes + 1} bytes") as raised:
        producer.send(CONFIG, "k", bytes(CONFIG.max_bytes + 1))
    assert raised.value.status == 413
    producer.flush()


def test_the_largest_message_passes_through_both_brokers(kafka_settings: KafkaSettings):
    create_topics(kafka_settings, [CONFIG])
    producer = Producer(kafka_settings, "test")
    incompressible = bytes((number * number * 31 + number) % 251 for number in range(CONFIG.max_bytes))
    producer.send(CONFIG, "k", incompressible)
    producer.flush()
    (record,) = all_of(kafka_settings, CONFIG)
    assert record.raw == incompressible


def test_a_missing_topic_fails_with_the_cure(kafka_settings: KafkaSettings):
    producer = Producer(kafka_settings, "test", timeout_s=2.0)
    producer.send(EVENTS, "k", b"v")
    with pytest.raises(Unavailable, match=r"derms topics create|timed out"):
        producer.flush()


async def _append_and_read_back(settings: KafkaSettings) -> list[RawRecord]:
    appender = AsyncAppender(settings, "test")
    try:
        await appender.append(INBOUND, "p", b"first")
        assert [record.raw for record in await asyncio.to_thread(all_of, settings, INBOUND)] == [b"first"]
        await asyncio.gather(*(appender.append(INBOUND, "p", b"%d" % number) for number in range(50)))
        await appender.append_many([Item(INBOUND, "q", b"x"), Item(INBOUND, "q", b"y")])
        return await asyncio.to_thread(all_of, settings, INBOUND)
    finally:
        await asyncio.to_thread(appender.close)


def test_an_append_returns_once_the_broker_has_it(kafka_settings: KafkaSettings):
    create_topics(kafka_settings, [INBOUND])
    found = asyncio.run(_append_and_read_back(kafka_settings))
    assert len(found) == 53
    assert [record.raw for record in found if record.key == "q"] == [b"x", b"y"]


def test_an_append_without_a_broker_says_when_to_try_again(own_broker: EmbeddedBroker):
    settings = own_settings(own_broker)
    create_topics(settings, [INBOUND])

    async def story() -> None:
        appender = AsyncAppender(settings, "test", timeout_s=5.0)
        try:
            await appender.append(INBOUND, "p", b"1")
            own_broker.stop()
            with pytest.raises(Unavailable) as raised:
                await appender.append(INBOUND, "p", b"2")
            assert raised.value.retry_after_s
            with pytest.raises(Unavailable):
                await appender.append_many([Item(INBOUND, "p", b"3"), Item(INBOUND, "p", b"4")])
        finally:
            await asyncio.to_thread(appender.close)

    asyncio.run(story())


def test_many_are_appended_only_if_none_is_too_large(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [INBOUND])

    async def story() -> None:
        appender = AsyncAppender(embedded_settings, "test")
        try:
            with pytest.raises(Refused):
                await appender.append_many([Item(INBOUND, "p", b"1"), Item(INBOUND, "p", bytes(INBOUND.max_bytes + 1))])
            await appender.append(INBOUND, "p", b"2")
        finally:
            appender.close()
            appender.close()

    asyncio.run(story())
    assert [record.raw for record in all_of(embedded_settings, INBOUND)] == [b"2"]


def test_a_client_that_will_never_take_anything_again_is_replaced(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [INBOUND])

    class Broken:
        def produce(self, *_: Any, **__: Any) -> None:
            raise KafkaException(KafkaError(KafkaError._FATAL, "out of order", True))

        def poll(self, _: float) -> None:
            time.sleep(0.001)

        def __len__(self) -> int:
            return 0

    async def story() -> None:
        appender = AsyncAppender(embedded_settings, "test")
        appender._client = Broken()
        try:
            with pytest.raises(Unavailable):
                await appender.append(INBOUND, "p", b"1")
            await appender.append(INBOUND, "p", b"1")
        finally:
            appender.close()

    asyncio.run(story())
    assert [record.raw for record in all_of(embedded_settings, INBOUND)] == [b"1"]


def test_a_broker_that_stood_still_is_appended_to_again(own_broker: EmbeddedBroker):
    """Its clients' messages time out meanwhile, after which it knows their producers no more."""
    settings = own_settings(own_broker)
    create_topics(settings, [INBOUND])

    async def story() -> None:
        appender = AsyncAppender(settings, "test", timeout_s=2.5)
        try:
            await appender.append(INBOUND, "p", b"0")
            assert own_broker.pid is not None
            stand_still(own_broker.pid)
            try:
                for number in range(2):
                    with pytest.raises(Unavailable):
                        await appender.append(INBOUND, "p", b"lost %d" % number)
            finally:
                os.kill(own_broker.pid, signal.SIGCONT)
            deadline = time.monotonic() + 20
            while True:
                try:
                    await appender.append(INBOUND, "p", b"1")
                    break
                except Unavailable:
                    assert time.monotonic() < deadline, "it never takes anything again"
        finally:
            appender.close()

    asyncio.run(story())
    assert b"1" in [record.raw for record in all_of(settings, INBOUND)]
