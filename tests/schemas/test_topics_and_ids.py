"""The table of topics as the contract has it (contract 4), and ids that every run derives alike (semantics 7.5)."""

import uuid

import pytest

from schemas.facts import Fact, derived_id, digest
from schemas.topics import BY_NAME, DAY, READINGS, TOPICS, YEAR

CONTRACT = {
    "derms.telemetry": (["Measurement", "MeasurementBatch"], 16, 7 * DAY, "delete"),
    "derms.backfill": (["Measurement", "MeasurementBatch"], 4, 7 * DAY, "delete"),
    "derms.quarter-hours": (["QuarterHour"], 16, 90 * DAY, "delete"),
    "derms.late-telemetry": (["LateMeasurement"], 4, 30 * DAY, "delete"),
    "derms.inbound": (["InboundMessage"], 4, YEAR, "delete"),
    "derms.connections": (["Connection"], 1, None, "compact"),
    "derms.events": (["Event"], 4, YEAR, "delete"),
    "derms.envelopes": (["OperatingEnvelope"], 4, YEAR, "delete"),
    "derms.circuit-capacity": (["CircuitCapacity"], 4, YEAR, "delete"),
    "derms.compliance": (["Verdict"], 4, YEAR, "delete"),
    "derms.breaches": (["Breach"], 4, YEAR, "delete"),
    "derms.commands": (["Command"], 4, YEAR, "delete"),
    "derms.adjustments": (["Adjustment"], 4, YEAR, "delete"),
    "derms.outbound": (["OutboundMessage"], 4, YEAR, "delete"),
    "derms.deliveries": (["Delivery"], 4, YEAR, "compact,delete"),
    "derms.config": (["ConfigChange"], 1, None, "compact"),
    "derms.dead-letters": (["DeadLetter"], 4, 30 * DAY, "delete"),
    "derms.flow-reports": (["FlowReport", "SecretInUse"], 1, 7 * DAY, "compact,delete"),
}


def test_the_table_is_the_contracts():
    assert {
        topic.name: ([model.__name__ for model in topic.records], topic.partitions, topic.retention, topic.config()["cleanup.policy"])
        for topic in TOPICS
    } == CONTRACT
    assert {name: topic.name for name, topic in BY_NAME.items()} == {name: name for name in CONTRACT}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_keeps_append_time_and_its_values_have_an_identity(topic):
    config = topic.config()
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert int(config["retention.ms"]) == (-1 if topic.retention is None else topic.retention.total_seconds() * 1000)
    assert 1 <= topic.embedded_partitions <= 2
    assert all(issubclass(model, Fact) for model in topic.records) is (topic not in READINGS)


def test_ids_follow_from_what_they_are_about():
    one = derived_id("vector", "Heartbeat", 7)
    assert one == derived_id("vector", "Heartbeat", 7) == "9b9a03bc-89a5-50b5-8146-e5de5db433cc"  # pinned: replays must make it again
    assert uuid.UUID(one).version == 5
    assert one != derived_id("vector", "Heartbeat", 8)
    assert derived_id("ab", "c") != derived_id("a", "bc")


def test_digests_are_sha_256_of_text_or_bytes():
    assert digest("") == digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest("é") == digest("é".encode())
