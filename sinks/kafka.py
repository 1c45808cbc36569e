"""Kafka for the rest of the system; everything public is imported from here.

- `Producer`, `KafkaSink` (dataflows) and `AsyncAppender` (asyncio) write and say so if anything failed.
- `Follower` follows topics in a thread; `Positions` keeps a reader's offsets on the broker.
- `create_topics`, `differing_topics` set up the topics of contract 4.
- `client_config`, `consumer_config`, `topic_name` and so on are for who needs a client of their own (`pipelines.lanes`).

Both brokers are served by the same code; `KafkaSettings.embedded` says which one it is (brokers.md).
"""

from sinks.kafka_appender import AsyncAppender
from sinks.kafka_clients import (
    EMBEDDED_FETCH_WAIT_MS,
    LOGGER,
    client_config,
    close_committing,
    consumer_config,
    partitions_of,
    plain_name,
    topic_name,
    watermarks,
)
from sinks.kafka_positions import Positions
from sinks.kafka_producer import Appendable, KafkaSink, Producer
from sinks.kafka_readers import OUT_OF_RANGE, Follower, RawRecord, raw_record
from sinks.kafka_topics import create_topics, differing_topics

__all__ = [
    "EMBEDDED_FETCH_WAIT_MS",
    "LOGGER",
    "OUT_OF_RANGE",
    "Appendable",
    "AsyncAppender",
    "Follower",
    "KafkaSink",
    "Positions",
    "Producer",
    "RawRecord",
    "client_config",
    "close_committing",
    "consumer_config",
    "create_topics",
    "differing_topics",
    "partitions_of",
    "plain_name",
    "raw_record",
    "topic_name",
    "watermarks",
]
