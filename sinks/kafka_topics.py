"""Making the topics of contract 4, and saying where a broker has them differently."""

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package does not say what it exports
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from schemas.clock import wall_seconds
from schemas.topics import TOPICS, Topic
from sinks.errors import Refused, Unavailable
from sinks.kafka_clients import LOGGER, broker_words, client_config, topic_name
from sinks.settings import KafkaSettings

TIMEOUT_S = 30.0


def _admin(settings: KafkaSettings) -> Any:
    return AdminClient(client_config(settings, "derms-topics"))


def _partitions(settings: KafkaSettings, topic: Topic) -> int:
    return topic.embedded_partitions if settings.embedded else topic.partitions


def _wanted(settings: KafkaSettings, topic: Topic) -> NewTopic:
    replication = 1 if settings.embedded else settings.replication
    config = topic.config() | ({} if settings.embedded else {"min.insync.replicas": str(settings.min_insync)})
    return NewTopic(topic_name(settings, topic), _partitions(settings, topic), replication, config=config)


def _known(admin: Any, settings: KafkaSettings, timeout_s: float) -> dict[str, int]:
    """The partition counts of the topics that exist."""
    try:
        topics = admin.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise Unavailable(broker_words(settings, f"list its topics within {timeout_s:g} s", error), 1.0) from error
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def create_topics(
    settings: KafkaSettings, topics: Sequence[Topic] = TOPICS, *, dry_run: bool = False, timeout_s: float = TIMEOUT_S
) -> list[str]:
    """Make the topics that are missing and return their names on the broker; with `dry_run` only return them.

    Returns once the broker shows all of them. What exists is left as it is; where it differs from contract 4 a
    warning is logged (`differing_topics` has the sentences). Blocks at most about `timeout_s`; raises `Unavailable`
    when the broker does not answer, `Refused` when it declines one (its words say why).
    """
    admin = _admin(settings)
    deadline = wall_seconds() + timeout_s
    known = _known(admin, settings, min(timeout_s, 10.0))
    missing = [topic for topic in topics if topic_name(settings, topic) not in known]
    names = [topic_name(settings, topic) for topic in missing]
    if dry_run:
        return names
    if missing:
        _create(admin, settings, missing, timeout_s)
        while any(_known(admin, settings, 5.0).get(name, 0) == 0 for name in names):
            if wall_seconds() > deadline:
                raise Unavailable(f"the broker does not show the new topics within {timeout_s:g} s", 1.0)
            time.sleep(0.05)
    for sentence in _differences(admin, settings, [topic for topic in topics if topic not in missing], known):
        LOGGER.warning(sentence)
    return names


def _create(admin: Any, settings: KafkaSettings, topics: Sequence[Topic], timeout_s: float) -> None:
    wanted = [_wanted(settings, topic) for topic in topics]
    for name, future in admin.create_topics(wanted, operation_timeout=timeout_s, request_timeout=timeout_s).items():
        try:
            future.result()
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # someone else was as quick
            if cause.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                words = f"topic {name} wants {settings.replication} replicas: {cause.str()}; set DERMS_KAFKA__REPLICATION and MIN_INSYNC"
                raise Refused(cause.code(), words) from error
            if cause.retriable() or cause.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
                raise Unavailable(f"topic {name} was not made: {cause.str()}", 1.0) from error
            raise Refused(cause.code(), f"topic {name} was not made: {cause.str()}") from error


def differing_topics(settings: KafkaSettings, topics: Sequence[Topic] = TOPICS) -> list[str]:
    """One sentence for each way in which an existing topic is not as contract 4 has it. Blocks a few seconds at most.

    Nothing is changed: partitions decide which key is where, so their number is a person's choice. Raises `Unavailable`.
    """
    admin = _admin(settings)
    return _differences(admin, settings, topics, _known(admin, settings, 10.0))


def _differences(admin: Any, settings: KafkaSettings, topics: Sequence[Topic], known: dict[str, int]) -> list[str]:
    there = {topic_name(settings, topic): topic for topic in topics if topic_name(settings, topic) in known}
    if not there:
        return []
    sentences = [
        f"topic {name} has {known[name]} partitions where {_partitions(settings, topic)} are usual; left as it is"
        for name, topic in there.items()
        if known[name] != _partitions(settings, topic)
    ]
    answers = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in there], request_timeout=10.0)
    for resource, future in answers.items():
        try:
            actual = {key: entry.value for key, entry in future.result().items()}
        except KafkaException as error:
            sentences.append(f"topic {resource.name} does not show its settings: {error.args[0].str()}")
            continue
        for key, value in there[resource.name].config().items():
            if key in actual and _set(actual[key]) != _set(value):
                sentences.append(f"topic {resource.name} has {key}={actual[key]} where {value} is right; left as it is")
    return sentences


def _set(value: str) -> set[str]:
    return set(value.split(","))
