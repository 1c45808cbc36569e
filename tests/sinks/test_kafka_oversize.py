import logging
from dataclasses import dataclass
from typing import NamedTuple

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main

from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.connection import Event
from schemas.facts import Value
from schemas.outbound import DeadLetter
from schemas.topics import DEAD_LETTERS, ENVELOPES, EVENTS, INBOUND, Topic
from schemas.units import from_ms
from sinks.codec import decode, encode
from sinks.kafka import KafkaSink, create_topics
from sinks.kafka_oversize import KEPT_BYTES
from sinks.settings import KafkaSettings
from tests.sinks.test_kafka_delivery import all_of

pytestmark = pytest.mark.usefixtures("closing")
LONG = "r" * 256


class Item(NamedTuple):
    topic: Topic
    key: str
    value: Value | bytes


@dataclass(frozen=True)
class Many:
    topic: Topic
    keys: list[str]
    values: list[bytes]


def written(settings: KafkaSettings, *items: Item | Many) -> None:
    """Run a flow that writes these, each in a batch of its own."""
    flow = Dataflow("large")
    op.output("out", op.input("in", flow, TestingSource(items, batch_size=1)), KafkaSink(settings, "test"))
    run_main(flow)


def envelope(revision: int, pieces: int) -> OperatingEnvelope:
    return OperatingEnvelope(
        event_id=f"e{revision}",
        at=from_ms(1_000),
        scope_id="mg-1",
        revision=revision,
        effective_at=from_ms(0),
        pieces=[
            EnvelopePiece(
                start=from_ms(n * 60_000), end=from_ms((n + 1) * 60_000), import_limit_w=float(n), export_limit_w=float(n),
                cause=LONG, import_cause=LONG, export_cause=LONG, kind=PieceKind.FORECAST,
            )
            for n in range(pieces)
        ],
    )  # fmt: skip


def test_an_envelope_too_large_for_its_topic_is_told_and_holds_up_nothing(
    embedded_settings: KafkaSettings, caplog: pytest.LogCaptureFixture
):
    create_topics(embedded_settings, [ENVELOPES, EVENTS, DEAD_LETTERS])
    before, large, after = envelope(1, 1), envelope(2, 9_500), envelope(3, 1)
    with caplog.at_level(logging.ERROR, "sinks.kafka_oversize"):
        written(embedded_settings, *(Item(ENVELOPES, "mg-1", each) for each in (before, large, after)))
    assert [record.raw for record in all_of(embedded_settings, ENVELOPES)] == [encode(before), encode(after)]
    (dead,), (told,) = all_of(embedded_settings, DEAD_LETTERS), all_of(embedded_settings, EVENTS)
    letter, alarm = decode(dead.raw, DEAD_LETTERS), decode(told.raw, EVENTS)
    raw = encode(large)
    sizes = f"a message of {len(raw)} bytes is more than the {ENVELOPES.max_bytes} that {ENVELOPES.name} takes"
    assert isinstance(letter, DeadLetter)
    assert isinstance(alarm, Event)
    assert dead.key == letter.topic == ENVELOPES.name
    assert (letter.reason, letter.subject, letter.partition, letter.offset) == (sizes, "mg-1", 0, 0)
    assert (letter.raw, letter.cause_id, letter.at) == (raw[:KEPT_BYTES], "e2", large.at)
    assert (alarm.kind, alarm.severity, alarm.subject_kind) == ("message.too-large", "ALARM", "SYSTEM")
    assert ENVELOPES.name in alarm.words
    assert "mg-1" in alarm.words
    assert sizes in alarm.words
    assert [record.getMessage() for record in caplog.records] == [alarm.words]


def test_it_has_the_same_ids_when_it_comes_again(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [ENVELOPES, EVENTS, DEAD_LETTERS])
    for _ in range(2):
        written(embedded_settings, Item(ENVELOPES, "mg-1", envelope(2, 9_500)))
    for topic in (EVENTS, DEAD_LETTERS):
        one, other = all_of(embedded_settings, topic)
        assert one.raw == other.raw


def test_of_many_only_the_one_that_is_too_large_is_left_out(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [INBOUND, EVENTS, DEAD_LETTERS])
    large = bytes(INBOUND.max_bytes + 1)
    written(embedded_settings, Many(INBOUND, ["a", "b", "a"], [b"1", large, b"2"]), Many(INBOUND, [], []), Item(INBOUND, "b", b"3"))
    assert [record.raw for record in all_of(embedded_settings, INBOUND)] == [b"1", b"2", b"3"]
    (dead,) = all_of(embedded_settings, DEAD_LETTERS)
    letter = decode(dead.raw, DEAD_LETTERS)
    assert isinstance(letter, DeadLetter)
    assert (letter.subject, letter.raw) == ("b", large[:KEPT_BYTES])
    assert len(all_of(embedded_settings, EVENTS)) == 1


def test_the_largest_that_a_topic_takes_is_written(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [INBOUND, EVENTS, DEAD_LETTERS])
    written(embedded_settings, Item(INBOUND, "a", bytes(INBOUND.max_bytes)))
    assert len(all_of(embedded_settings, INBOUND)) == 1
    assert all_of(embedded_settings, DEAD_LETTERS) == []
