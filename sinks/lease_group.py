"""The consumer group that is a lease on Kafka: how its members are set up, and what only a person can mend about it."""

from typing import Any

from confluent_kafka import KafkaError

from sinks.errors import Misconfigured
from sinks.kafka_clients import client_config
from sinks.lease import Timing
from sinks.settings import KafkaSettings

CURES = {
    KafkaError.GROUP_AUTHORIZATION_FAILED: "allow this user to read that group",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user to read the topic derms.config",
    KafkaError.INVALID_SESSION_TIMEOUT: "let the broker's group.min.session.timeout.ms be 6000, its default",
}
"""What is to be done about the broker's answers that no waiting mends."""


def member_config(settings: KafkaSettings, group: str, timing: Timing) -> dict[str, Any]:
    """The client settings of a member: its membership ends `timing.session_s` after it was last heard of."""
    return client_config(settings, f"{group}-member") | {
        "group.id": group,
        "partition.assignment.strategy": "cooperative-sticky",  # who has the partition keeps it while others come and go
        "session.timeout.ms": int(timing.session_s * 1000),
        "heartbeat.interval.ms": int(timing.renew_s * 1000),
        "max.poll.interval.ms": max(10_000, int(timing.session_s * 1000)),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "latest",
        "allow.auto.create.topics": False,
    }


def misconfigured(group: str, words: str, cure: str = "") -> Misconfigured:
    """That there can be no lease with that group, and what to do."""
    return Misconfigured("DERMS_KAFKA", f"no lease can be had with the group {group}: {words}", cure)
