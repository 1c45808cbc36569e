"""The same behaviour over the embedded broker and over Apache Kafka; and what happens when a real broker is killed."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from confluent_kafka import Producer as Client

from pipelines.fetching import GRAIN_MS
from pipelines.operators import read_records
from pipelines.records import Out, Poll, Record, Unreadable
from pipelines.sources import PayloadSource, RecordSource
from schemas.clock import SystemClock
from schemas.connection import Event
from schemas.topics import COMPLIANCE, EVENTS, INBOUND, TELEMETRY
from schemas.units import to_ms
from sinks.errors import Misconfigured
from sinks.kafka import Follower, KafkaSink, Positions, RawRecord, create_topics, topic_name
from sinks.kafka_clients import producer_config
from sinks.settings import KafkaSettings
from tests.kafka.broker import ApacheKafka
from tests.kafka.driving import drive, event, publish, publish_events, quiet, records_of, words

Register = Callable[[Any], Any]
CLOCK = SystemClock()


def events(settings: KafkaSettings, stop: threading.Event | None = None, **more: Any) -> RecordSource:
    return RecordSource(settings, [EVENTS], clock=CLOCK, stop=stop or threading.Event(), group="derms-test", **more)


def telemetry(settings: KafkaSettings, **more: Any) -> PayloadSource:
    return PayloadSource(settings, TELEMETRY, clock=CLOCK, stop=threading.Event(), group="derms-test", **more)


def test_records_come_decoded_and_in_order_within_a_partition(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [EVENTS])
    publish_events(kafka_settings, range(500))
    found = records_of(closing(events(kafka_settings).build_part("in", "lane-000", None)), 500)
    assert sorted(words(found)) == list(range(500))
    for partition in {record.partition for record in found}:
        mine = [record.offset for record in found if record.partition == partition]
        assert mine == list(range(len(mine)))
    assert {record.topic for record in found} == {"derms.events"}
    assert found[0].key == str(words(found)[0])


class _TenMinutesOn(SystemClock):
    """A clock that has moved on when records are read."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=10)


def test_payloads_come_with_the_clock_at_which_the_broker_appended_them(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [TELEMETRY])
    before = to_ms(CLOCK.now())
    publish(kafka_settings, *((TELEMETRY, f"a{number}", b"%d" % number) for number in range(50)))
    after, clock = to_ms(CLOCK.now()), _TenMinutesOn()
    source = PayloadSource(kafka_settings, TELEMETRY, clock=clock, stop=threading.Event(), group="derms-test")
    polls: list[Poll] = drive(
        closing(source.build_part("in", "lane-000", None)), lambda found: sum(len(poll.payloads) for poll in found) == 50
    )
    runs = [run for poll in polls for run in poll.runs]
    assert all(run.appended.first[0] == 0 for run in runs)
    # The embedded broker has its producers' times, which are not asked; then it counts when they are read.
    earliest, latest = (before + 600_000, to_ms(clock.now())) if kafka_settings.embedded else (before, after + GRAIN_MS)
    assert all(earliest <= at <= latest for run in runs for at in run.appended.at)


def test_garbage_stands_beside_what_is_good(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [EVENTS])
    publish(kafka_settings, (EVENTS, "a", event(1)), (EVENTS, "a", b"\xc3\x01garbage"), (EVENTS, "a", b""), (EVENTS, "a", event(2)))
    found = records_of(closing(events(kafka_settings).build_part("in", "lane-000", None)), 4)
    assert words(found) == [1, 2]
    bad = [record.value for record in found if isinstance(record.value, Unreadable)]
    assert [each.raw for each in bad] == [b"\xc3\x01garbage", b""]
    assert "garbage" not in bad[0].reason
    assert "tombstone" in bad[1].reason


def test_a_restart_from_a_snapshot_loses_nothing_and_repeats_nothing(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [EVENTS])
    publish_events(kafka_settings, range(100))
    first = events(kafka_settings).build_part("in", "lane-000", None)
    before = records_of(first, 100)
    snapshot = first.snapshot()
    first.close()
    publish_events(kafka_settings, range(100, 200))
    second = closing(events(kafka_settings).build_part("in", "lane-000", snapshot))
    after = records_of(second, 100)
    assert sorted(words(before + after)) == list(range(200))
    assert quiet(second) == []


def test_the_group_shows_the_snapshot_before_the_last(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [EVENTS])
    part = closing(events(kafka_settings).build_part("in", "lane-000", None))
    publish(kafka_settings, *((EVENTS, "a", event(number)) for number in range(3)))
    (partition,) = {record.partition for record in records_of(part, 3)}
    part.snapshot()
    publish(kafka_settings, (EVENTS, "a", event(3)))
    records_of(part, 1)
    part.snapshot()
    positions = closing(Positions(kafka_settings, "derms-test"))
    deadline = time.monotonic() + 10
    while positions.committed(EVENTS).get(partition) != 3:
        assert time.monotonic() < deadline, positions.committed(EVENTS)
        time.sleep(0.02)


def test_lanes_share_the_partitions_and_resume_alone(kafka_settings: KafkaSettings, closing: Register):
    settings = kafka_settings
    create_topics(settings, [EVENTS, INBOUND, TELEMETRY])
    source = telemetry(settings, lanes=2)
    assert source.list_parts() == ["lane-000", "lane-001"]
    parts = [closing(source.build_part("in", name, None)) for name in source.list_parts()]
    publish(settings, *((TELEMETRY, f"asset-{number}", b"%d" % number) for number in range(64)))
    seen: list[Poll] = []
    for part in parts:
        seen += drive(part, lambda polls: any(poll.payloads for poll in polls) and not polls[-1].payloads)
    assert sorted(int(payload) for poll in seen for payload in poll.payloads) == list(range(64))
    own = [{number for poll in seen for number in poll.partitions if number % 2 == lane} for lane in (0, 1)]
    assert set.union(*own) == set(range(2 if settings.embedded else 16))
    with pytest.raises(Misconfigured, match="lanes 2"):
        telemetry(settings, lanes=1).build_part("in", "lane-000", parts[0].snapshot())


def test_payloads_come_in_runs_of_one_partition_with_their_offsets(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [TELEMETRY])
    publish(kafka_settings, *((TELEMETRY, f"asset-{number % 40}", b"%d" % number) for number in range(400)))
    part = closing(telemetry(kafka_settings).build_part("in", "lane-000", None))
    polls = drive(part, lambda found: sum(len(poll.payloads) for poll in found) >= 400)
    taken: dict[int, list[int]] = {}
    for poll in polls:
        assert sum(run.count for run in poll.runs) == len(poll.payloads)
        assert [run.first for run in poll.runs] == [sum(run.count for run in poll.runs[:index]) for index in range(len(poll.runs))]
        assert len({run.partition for run in poll.runs}) == len(poll.runs)
        for run in poll.runs:
            assert len(run.offsets) == run.count
            taken.setdefault(run.partition, []).extend(run.offsets)
    assert all(offsets == list(range(len(offsets))) for offsets in taken.values())
    assert sum(map(len, taken.values())) == 400


def test_silent_partitions_are_marked_and_a_batch_of_another_producer_is_no_exception(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [TELEMETRY])
    part = closing(telemetry(kafka_settings).build_part("in", "lane-000", None))
    first = drive(part, lambda polls: any(poll.marks for poll in polls))[-1]
    partitions = set(range(2 if kafka_settings.embedded else 16))
    assert {mark.partition for mark in first.marks} == partitions == set(first.partitions)
    assert not first.payloads
    # Others batch; the embedded broker then understates where a partition ends.
    other = Client(producer_config(kafka_settings, "other", 10) | {"batch.num.messages": 1000, "linger.ms": 200})
    for number in range(50):
        other.produce(topic_name(kafka_settings, TELEMETRY), value=b"%d" % number, partition=1)
    other.flush(10)
    polls = drive(part, lambda found: sum(len(poll.payloads) for poll in found) >= 50)
    polls += drive(part, lambda found: any(mark.partition == 1 for poll in found for mark in poll.marks))
    spoken = max(index for index, poll in enumerate(polls) if poll.payloads)
    (marked,) = [mark for mark in polls[-1].marks if mark.partition == 1]
    assert marked.since >= polls[spoken].now
    assert {mark.since for mark in polls[-1].marks if mark.partition == 0} <= {mark.since for mark in first.marks}
    assert part.snapshot()["next"]["derms.telemetry", 1] == 50


def test_the_barrier_holds_over_a_broker(kafka_settings: KafkaSettings, closing: Register):
    """Each inbound record is appended before the verdict that needs it; they are on different topics and partitions."""
    create_topics(kafka_settings, [INBOUND, EVENTS, COMPLIANCE])
    source = RecordSource(kafka_settings, [EVENTS, INBOUND], clock=CLOCK, stop=threading.Event(), group="derms-barrier", barrier=[INBOUND])
    publish(kafka_settings, *((topic, str(number), b"%d" % number) for number in range(50) for topic in (INBOUND, EVENTS)))
    part = closing(source.build_part("in", "lane-000", None))

    def numbers(records: list[Record]) -> list[tuple[str, int]]:
        return [(record.topic, int(record.value.raw)) for record in records if isinstance(record.value, Unreadable)]

    found = numbers(records_of(part, 100))
    assert [topic for topic, _ in found] == [INBOUND.name] * 50 + [EVENTS.name] * 50  # a replay reads the barrier topic first

    producing = threading.Thread(
        target=lambda: [
            publish(kafka_settings, (INBOUND, str(number), b"%d" % number), (EVENTS, str(number), b"%d" % number))
            for number in range(50, 60)
        ]
    )
    producing.start()
    live = numbers(records_of(part, 20))
    producing.join()
    for number in range(50, 60):
        assert live.index((INBOUND.name, number)) < live.index((EVENTS.name, number))


def copying(settings: KafkaSettings, stop: threading.Event, seen: list[int], *, fail_at: int | None = None, last: int = -1) -> Dataflow:
    """A flow that copies events to another topic; it stops after `last`, or dies at `fail_at`."""
    flow = Dataflow("copy")
    records, dead = read_records(flow, events(settings, stop), CLOCK)

    def copy(record: Record) -> Out:
        assert isinstance(record.value, Event)
        number = int(record.value.words)
        if number == fail_at:
            raise RuntimeError("killed")
        seen.append(number)
        if number == last:
            stop.set()
        return Out(COMPLIANCE, str(number), record.value)

    op.output("out", op.merge("all", op.map("copy", records, copy), dead), KafkaSink(settings, "copy"))
    return flow


def test_a_flow_that_dies_goes_on_from_its_recovery_store(kafka_settings: KafkaSettings, tmp_path: Path):
    create_topics(kafka_settings, [EVENTS, COMPLIANCE])
    init_db_dir(tmp_path, 1)
    recovery, every_batch = RecoveryConfig(tmp_path), timedelta(0)
    seen: list[list[int]] = [[], [], []]
    publish(kafka_settings, *((EVENTS, "one partition", event(number)) for number in range(50)))
    cli_main(copying(kafka_settings, threading.Event(), seen[0], last=49), epoch_interval=every_batch, recovery_config=recovery)
    publish(kafka_settings, *((EVENTS, "one partition", event(number)) for number in range(50, 60)))
    with pytest.raises(BaseException):  # noqa: B017, PT011 - the engine decides what it wraps the error in
        cli_main(copying(kafka_settings, threading.Event(), seen[1], fail_at=59), epoch_interval=every_batch, recovery_config=recovery)
    publish(kafka_settings, *((EVENTS, "one partition", event(number)) for number in range(60, 100)))
    cli_main(copying(kafka_settings, threading.Event(), seen[2], last=99), epoch_interval=every_batch, recovery_config=recovery)
    assert seen[0] == list(range(50))
    assert seen[1][:1] == [50]  # what was committed does not come again
    assert seen[2][-41:] == list(range(59, 100))  # what was not, does
    copies: list[RawRecord] = []
    follower = Follower(kafka_settings, [COMPLIANCE], copies.extend)
    follower.start()
    follower.wait_ready(10)
    follower.stop()
    assert {int(each.key) for each in copies} == set(range(100))


@pytest.mark.kafka
@pytest.mark.slow
def test_a_broker_killed_and_started_again_is_waited_for(own_kafka: ApacheKafka, closing: Register):
    settings = KafkaSettings(bootstrap=own_kafka.bootstrap, replication=1, min_insync=1)
    create_topics(settings, [EVENTS, TELEMETRY])
    publish_events(settings, range(20))
    publish(settings, (TELEMETRY, "asset", b"before"))
    records = closing(events(settings).build_part("in", "lane-000", None))
    payloads = closing(telemetry(settings).build_part("in", "lane-000", None))
    assert sorted(words(records_of(records, 20))) == list(range(20))
    (spoken,) = {run.partition for poll in drive(payloads, lambda polls: any(poll.payloads for poll in polls)) for run in poll.runs}
    silent = (spoken + 1) % 16
    before = _marked(payloads, silent)[-1]
    own_kafka.kill()
    down = time.monotonic()
    assert quiet(records, 2) == []
    assert quiet(payloads, 3) == []  # nobody answers: no mark, time stands still
    own_kafka.start()
    publish_events(settings, range(20, 40))
    publish(settings, (TELEMETRY, "asset", b"after"))
    polls = drive(payloads, lambda found: any(poll.payloads for poll in found))
    polls += drive(payloads, lambda found: any(mark.partition == silent for poll in found for mark in poll.marks))
    away = time.monotonic() - down
    assert [payload for poll in polls for payload in poll.payloads] == [b"after"]
    after = next(mark for poll in polls for mark in poll.marks if mark.partition == silent)
    assert (after.now - after.since) - (before.now - before.since) < timedelta(seconds=away / 2)
    assert sorted(words(records_of(records, 20))) == list(range(20, 40))
    assert quiet(records) == []


def _marked(part: Any, partition: int) -> list[Any]:
    polls = drive(part, lambda found: any(mark.partition == partition for poll in found for mark in poll.marks))
    return [mark for poll in polls for mark in poll.marks if mark.partition == partition]


@pytest.mark.kafka
def test_what_retention_took_is_an_error_with_the_cure_and_never_a_jump(real_kafka: KafkaSettings, closing: Register):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    settings = real_kafka.model_copy(update={"topic_prefix": "gone."})
    create_topics(settings, [EVENTS])
    publish(settings, *((EVENTS, "a", event(number)) for number in range(10)))
    part = events(settings).build_part("in", "lane-000", None)
    (partition,) = {record.partition for record in records_of(part, 10)}
    part.close()
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    name = topic_name(settings, EVENTS)
    for future in admin.delete_records([TopicPartition(name, partition, 6)]).values():
        future.result(10)
    for offset in (3, 11):
        snapshot = {"version": 1, "lanes": 1, "next": {(EVENTS.name, partition): offset}}
        resumed = closing(events(settings).build_part("in", "lane-000", snapshot))
        with pytest.raises(Misconfigured, match=rf"offset {offset} of gone\.derms\.events\[{partition}\].*recovery directory"):
            drive(resumed, lambda _: False, 5)
    # Without a position it begins at what is left.
    fresh = closing(events(settings).build_part("in", "lane-000", None))
    assert words(records_of(fresh, 4)) == [6, 7, 8, 9]
    # And while it runs, too: deleted under a reader that stands still.
    held = closing(events(settings, start={(EVENTS.name, partition): 6}).build_part("in", "lane-000", None))
    assert held._lane.open()
    held._lane.fetch([])
    publish(settings, *((EVENTS, "a", event(number)) for number in range(10, 20)))
    for future in admin.delete_records([TopicPartition(name, partition, 15)]).values():
        future.result(10)
    held._lane.fetch(held._lane.parts)
    with pytest.raises(Misconfigured, match="what was there is gone"):
        drive(held, lambda _: False, 10)
