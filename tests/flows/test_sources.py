"""What the sources promise that does not depend on the broker, over the embedded one; the rest is in integration/test_brokers."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

from gateway.embedded import EmbeddedBroker
from pipelines import sources
from pipelines.lanes import Lane
from pipelines.sources import PayloadSource, RecordSource
from schemas.clock import FrozenClock
from schemas.topics import COMMANDS, EVENTS, INBOUND, TELEMETRY
from sinks.errors import Misconfigured
from sinks.kafka import create_topics
from sinks.settings import KafkaSettings
from tests.builders import T0
from tests.integration.running import until
from tests.kafka.driving import drive, event, publish, publish_events, quiet, records_of, words

Register = Callable[[Any], Any]
CLOCK = FrozenClock(T0)


def source(settings: KafkaSettings, **more: Any) -> RecordSource:
    arguments: dict[str, Any] = {"clock": CLOCK, "stop": threading.Event(), "group": "derms-test"} | more
    return RecordSource(settings, arguments.pop("topics", [EVENTS]), **arguments)


def part_of(found: RecordSource | PayloadSource, register: Register, resumed: Any = None) -> Any:
    return register(found.build_part("in", "lane-000", resumed))


def test_stop_ends_the_flow_as_if_its_input_were_over(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [EVENTS])
    publish_events(embedded_settings, range(5))
    stop, out = threading.Event(), []
    flow = Dataflow("stopping")
    polls = op.input("in", flow, source(embedded_settings, stop=stop))

    def note(records: list[Any]) -> list[Any]:
        if any(record.value.words == "4" for record in records):
            stop.set()
        return records

    op.output("out", op.map("note", polls, note), TestingSink(out))
    run_main(flow)
    assert sorted(words([record for poll in out for record in poll])) == list(range(5))


def test_a_start_holds_only_where_there_is_no_snapshot(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [EVENTS])
    publish_events(embedded_settings, range(10))
    start = {(EVENTS.name, 0): 7}
    assert words(records_of(part_of(source(embedded_settings, start=start), closing), 3)) == [7, 8, 9]
    snapshot = {"version": 1, "lanes": 1, "next": {(EVENTS.name, 0): 9}}
    assert words(records_of(part_of(source(embedded_settings, start=start), closing, snapshot), 1)) == [9]


def test_what_is_polled_but_not_emitted_is_not_in_the_snapshot(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [EVENTS, INBOUND])
    part = part_of(source(embedded_settings, topics=[EVENTS, INBOUND], barrier=[INBOUND]), closing)
    drive(part, lambda _: part._lane.opened and not part._gate.waiting)
    publish_events(embedded_settings, range(3))
    part._lane.ends = lambda _: None  # the broker does not say how far the barrier goes
    drive(part, lambda _: part._gate.waiting)
    assert part.snapshot()["next"] == {(EVENTS.name, 0): 0, (INBOUND.name, 0): 0}
    del part._lane.ends
    assert words(records_of(part, 3)) == [0, 1, 2]
    assert part.snapshot()["next"][EVENTS.name, 0] == 3


def test_a_topic_that_does_not_exist_yet_is_waited_for_aloud(
    embedded_settings: KafkaSettings, closing: Register, caplog: pytest.LogCaptureFixture
):
    part = part_of(source(embedded_settings, group="derms-early"), closing)
    assert part.next_batch() == []
    assert "derms topics create" in caplog.text
    assert part.next_awake() > datetime.now(UTC)
    create_topics(embedded_settings, [EVENTS])
    publish_events(embedded_settings, range(2))
    assert words(records_of(part, 2)) == [0, 1]


def test_a_broker_that_is_not_there_is_waited_for_aloud(closing: Register, caplog: pytest.LogCaptureFixture):
    nobody = KafkaSettings(bootstrap="127.0.0.1:1")
    part = part_of(source(nobody, group="derms-alone"), closing)
    assert part.next_batch() == []
    assert "did not list its topics" in caplog.text
    assert part.snapshot()["next"] == {}


def test_a_snapshot_survives_a_broker_that_is_not_there(closing: Register):
    snapshot = {"version": 1, "lanes": 1, "next": {(EVENTS.name, 0): 9}}
    part = part_of(source(KafkaSettings(bootstrap="127.0.0.1:1")), closing, snapshot)
    part.next_batch()
    assert part.snapshot() == snapshot


def test_a_broker_that_forgot_is_an_error_and_not_silence(closing: Register):
    with EmbeddedBroker() as broker:
        settings = KafkaSettings(bootstrap=broker.bootstrap, embedded=True)
        create_topics(settings, [EVENTS])
        publish_events(settings, range(5))
        part = source(settings).build_part("in", "lane-000", None)
        records_of(part, 5)
        snapshot = part.snapshot()
        part.close()
    with EmbeddedBroker() as broker:
        settings = KafkaSettings(bootstrap=broker.bootstrap, embedded=True)
        create_topics(settings, [EVENTS])
        part = part_of(source(settings), closing, snapshot)
        with pytest.raises(Misconfigured, match=r"offset 5 of derms\.events\[0\].*forgotten or been made anew.*recovery directory"):
            drive(part, lambda _: False, 5)


def test_a_broker_that_dies_is_waited_for_and_says_nothing_wrong(closing: Register):
    with EmbeddedBroker() as broker:
        settings = KafkaSettings(bootstrap=broker.bootstrap, embedded=True)
        create_topics(settings, [EVENTS, TELEMETRY])
        publish_events(settings, range(5))
        records = part_of(source(settings), closing)
        polls = part_of(PayloadSource(settings, TELEMETRY, clock=CLOCK, stop=threading.Event(), group="derms-test"), closing)
        records_of(records, 5)
        drive(polls, lambda found: any(poll.marks for poll in found))
        records.snapshot()
        records.snapshot()
    # Nothing comes, no mark lets time pass, and closing does not hang although a commit is under way.
    assert quiet(records, 1.5) == []
    assert quiet(polls, 2.5) == []
    began = time.monotonic()
    records.close()
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("snapshot", "words_"),
    [
        ({"version": 0, "lanes": 1, "next": {}}, "version 0"),
        ({"version": 1, "lanes": 3, "next": {}}, "lanes 3"),
    ],
)
def test_a_snapshot_of_another_make_is_refused(embedded_settings: KafkaSettings, snapshot: Any, words_: str):
    with pytest.raises(Misconfigured, match=words_):
        source(embedded_settings).build_part("in", "lane-000", snapshot)


def test_a_snapshot_of_topics_not_read_is_refused(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [EVENTS])
    part = part_of(source(embedded_settings), closing, {"version": 1, "lanes": 1, "next": {(INBOUND.name, 0): 1}})
    with pytest.raises(Misconfigured, match=r"derms\.inbound\[0\]"):
        part.next_batch()


def test_wrong_arguments_are_refused_at_once(embedded_settings: KafkaSettings):
    with pytest.raises(ValueError, match="use one"):
        source(embedded_settings, topics=[EVENTS, INBOUND], barrier=[INBOUND], lanes=2)
    with pytest.raises(ValueError, match=r"derms\.commands"):
        source(embedded_settings, barrier=[COMMANDS])
    with pytest.raises(ValueError, match="at least one lane"):
        source(embedded_settings, lanes=0)


def test_an_idle_source_sleeps_and_a_busy_one_does_not(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [EVENTS])
    part = part_of(source(embedded_settings), closing)
    drive(part, lambda _: part._lane.opened)
    part.next_batch()
    assert part.next_awake() > datetime.now(UTC)
    publish_events(embedded_settings, range(1))
    records_of(part, 1)
    assert part.next_awake() is None


def test_a_poll_of_large_payloads_is_bounded_by_bytes(embedded_settings: KafkaSettings, closing: Register, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "BYTES_AT_ONCE", 200_000)
    create_topics(embedded_settings, [TELEMETRY])
    publish(embedded_settings, *((TELEMETRY, "asset", bytes(1_000)) for _ in range(600)))
    found = PayloadSource(embedded_settings, TELEMETRY, clock=CLOCK, stop=threading.Event(), group="derms-test")
    part = part_of(found, closing)
    polls = drive(part, lambda got: sum(len(poll.payloads) for poll in got) >= 600)
    later = [len(poll.payloads) for poll in polls if poll.payloads][1:]
    assert all(count <= 200 for count in later)


def test_installations_share_a_broker_without_seeing_each_other(embedded_settings: KafkaSettings, closing: Register):
    other = embedded_settings.model_copy(update={"topic_prefix": embedded_settings.topic_prefix + "other."})
    for settings in (embedded_settings, other):
        create_topics(settings, [EVENTS])
    publish(embedded_settings, (EVENTS, "k", event(1)))
    publish(other, (EVENTS, "k", event(2)))
    (record,) = records_of(part_of(source(other), closing), 1)
    assert (record.topic, words([record])) == ("derms.events", [2])


def test_what_a_replay_lets_go_leaves_in_portions_and_the_snapshot_is_behind_each(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [EVENTS, INBOUND])
    publish_events(embedded_settings, range(25))
    part = part_of(source(embedded_settings, topics=[EVENTS, INBOUND], barrier=[INBOUND], in_order=True, at_once=10), closing)
    polls: list[list[int]] = []
    while sum(map(len, polls)) < 25:
        found = drive(part, lambda batch: bool(batch))
        polls.append(words([record for poll in found for record in poll]))
        assert part.snapshot()["next"][EVENTS.name, 0] == sum(map(len, polls))
    assert [len(poll) for poll in polls] == [10, 10, 5]
    assert [each for poll in polls for each in poll] == list(range(25))


def test_what_the_client_hands_over_again_is_not_polled_again(embedded_settings: KafkaSettings, closing: Register):
    """On a busy machine the client was seen to begin anew after an assignment that said where to go on."""
    create_topics(embedded_settings, [EVENTS])
    publish_events(embedded_settings, range(10))
    lane = closing(Lane(embedded_settings, [EVENTS], "derms-test"))
    until(lane.open, "the lane is open")

    def polled(count: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []

        def enough() -> bool:
            found.extend((part[1], message.offset()) for part, messages in lane.poll(100, 0.1) for message in messages)
            return len(found) >= count

        until(enough, f"{count} records")
        return sorted(found)

    before = polled(10)
    lane._consumer.assign([lane._where(part, 0) for part in lane.parts])
    publish_events(embedded_settings, range(10, 15))
    after = polled(5)
    assert len(set(before + after)) == len(before + after) == 15
    assert sum(lane.read.values()) == 15
