"""How clients of the broker are configured: the differences between a real Kafka and the embedded broker (brokers.md),
silence on the terminal, and the names topics have in an installation."""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.topics import Topic
from sinks.errors import Misconfigured, Unavailable
from sinks.settings import KafkaSettings

LOGGER = logging.getLogger("derms.kafka")
"""Where everything librdkafka has to say goes. It has a handler that does nothing, so that nothing reaches the terminal by itself."""

EMBEDDED_FETCH_WAIT_MS = 100
"""The embedded broker answers an empty fetch only after the full wait and pays for each; brokers.md has the trade."""
QUIET_S = 30.0
CLOSE_S = 2.0


class OncePerWhile(logging.Filter):
    """A client that has lost its broker says so several times a second: lets one of a kind through every `QUIET_S`."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is to be heard. librdkafka's arguments are (kind, client, words)."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        kind = (str(record.msg), *map(str, arguments[:2]))
        now = time.monotonic()
        if now - self._last.get(kind, -QUIET_S) < QUIET_S:
            return False
        self._last[kind] = now
        return True


LOGGER.addHandler(logging.NullHandler())
LOGGER.addFilter(OncePerWhile())


def _heard(error: KafkaError) -> None:
    LOGGER.warning("%s [%s] %s", error.name(), "client", error.str())


def topic_name(settings: KafkaSettings, topic: Topic) -> str:
    """The topic's name on the broker: the installation's prefix and the plain name."""
    return settings.topic_prefix + topic.name


def plain_name(settings: KafkaSettings, name: str) -> str:
    """The plain name of a topic on the broker."""
    return name.removeprefix(settings.topic_prefix)


def client_config(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """What every client needs. Raises `Misconfigured` for a security protocol whose parts are missing."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "client.id": client_id,
        "security.protocol": settings.security_protocol,
        "reconnect.backoff.max.ms": 2000,
        "logger": LOGGER,
        "error_cb": _heard,
    }
    if settings.embedded:
        config["broker.address.family"] = "v4"  # it listens on 127.0.0.1 only
    if settings.ca_file is not None:
        if not settings.ca_file.is_file():
            raise Misconfigured("DERMS_KAFKA__CA_FILE", f"there is no file {settings.ca_file}", "name the PEM file of the broker's CA")
        config["ssl.ca.location"] = str(settings.ca_file)
    if settings.security_protocol.startswith("SASL"):
        config |= _sasl(settings)
    return config


def _sasl(settings: KafkaSettings) -> dict[str, Any]:
    password = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    parts = {"SASL_MECHANISM": settings.sasl_mechanism, "SASL_USERNAME": settings.sasl_username, "SASL_PASSWORD": password}
    for name, value in parts.items():
        if not value:
            protocol = settings.security_protocol
            raise Misconfigured(f"DERMS_KAFKA__{name}", f"is not set, but DERMS_KAFKA__SECURITY_PROTOCOL is {protocol}", "set it")
    return {"sasl.mechanism": parts["SASL_MECHANISM"], "sasl.username": parts["SASL_USERNAME"], "sasl.password": password}


def producer_config(settings: KafkaSettings, client_id: str, timeout_s: float) -> dict[str, Any]:
    """A producer that loses and doubles nothing and is sure of it (brokers.md), or says so within `timeout_s`."""
    # The embedded broker tells the end of a partition as its last batch's first offset + 1: with batches of one it is right.
    batches = {"batch.num.messages": 1} if settings.embedded else {}
    return (
        client_config(settings, client_id)
        | batches
        | {
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # Java's: one key stays on one partition whoever produces
            "allow.auto.create.topics": False,  # a topic made by accident has neither our partitions nor our settings
            "linger.ms": 2,
            "compression.type": "lz4",
            "message.timeout.ms": int(timeout_s * 1000),
            "message.max.bytes": 8 * 1024 * 1024,  # the topic's own limit is what counts; it is checked at `send`
        }
    )


def consumer_config(
    settings: KafkaSettings, client_id: str, group: str = "", *, queued_kbytes: int = 4096, fetch_wait_ms: int = EMBEDDED_FETCH_WAIT_MS
) -> dict[str, Any]:
    """A consumer for `assign()`, never for `subscribe()`. `group` only names where positions are committed.

    Out of range is an error, never a silent jump. `fetch_wait_ms` holds for the embedded broker only: on a real one
    the long poll costs nothing and wakes at the first byte. `queued_kbytes` bounds what is fetched ahead.
    """
    config = client_config(settings, client_id) | {
        "group.id": settings.topic_prefix + (group or "derms-unused"),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "session.timeout.ms": 3000,  # we join no group: it only bounds how long a commit waits for a broker that is away
        "fetch.queue.backoff.ms": 5,  # the default of 1 s stalls a replay each time its queue was full
        "queued.max.messages.kbytes": queued_kbytes,
    }
    if settings.embedded:
        config["fetch.wait.max.ms"] = fetch_wait_ms
    return config


def close_committing(consumer: Any) -> None:
    """Close a consumer that commits; blocks at most `CLOSE_S`.

    With a commit under way and its broker gone, the client's `close` was seen to hang for ever (librdkafka 2.16); then
    it is left to a thread that dies with the process. Consumers that only fetch close at once.
    """
    thread = threading.Thread(target=consumer.close, name="kafka-close", daemon=True)
    thread.start()
    thread.join(CLOSE_S)


def broker_words(settings: KafkaSettings, what: str, error: KafkaException | None = None) -> str:
    """One sentence for people about a broker that did not do `what`; knows how a wrong password looks."""
    cause = f" ({error.args[0].str()})" if error is not None and error.args and isinstance(error.args[0], KafkaError) else ""
    hint = "; a wrong DERMS_KAFKA__SASL_PASSWORD looks like this, too" if settings.security_protocol.startswith("SASL") else ""
    return f"the broker at {settings.bootstrap} did not {what}{cause}{hint}"


def partitions_of(client: Any, settings: KafkaSettings, topics: Iterable[Topic], timeout_s: float) -> dict[Topic, list[int]]:
    """The partitions each topic has, asked of the broker through any client; blocks at most `timeout_s`.

    Raises `Unavailable` when the broker does not answer or does not (yet) have a topic.
    """
    try:
        known = client.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise Unavailable(broker_words(settings, f"list its topics within {timeout_s:g} s", error), 1.0) from error
    found: dict[Topic, list[int]] = {}
    for topic in topics:
        metadata = known.get(topic_name(settings, topic))
        if metadata is None or metadata.error is not None or not metadata.partitions:
            raise Unavailable(f"the broker has no topic {topic_name(settings, topic)}; make it with: derms topics create", 1.0)
        found[topic] = sorted(metadata.partitions)
    return found


def watermarks(consumer: Consumer, name: str, partition: int, timeout_s: float) -> tuple[int, int] | None:
    """The broker's (low, high) offsets of a partition right now, high being that of the next record; None if it does not answer."""
    try:
        answer = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=timeout_s)
    except KafkaException as error:
        LOGGER.warning("%s [%s] %s", "WATERMARK", name, error)
        return None
    return None if answer is None or answer[1] < 0 else (int(answer[0]), int(answer[1]))
