"""Looks for known secrets in everything a system wrote and shows: files, every topic's bytes, the history, pages and the API."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import clickhouse_connect
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from gateway.instance_files import Endpoints
from sinks.http import fetch

KEPT_ON_PURPOSE = frozenset({"secret", "secret.previous", "operator-token"})
"""Files of an instance that are secrets, mode 0600."""
SHOWN = (
    "/", "/metrics", "/api/v1/partners", "/api/v1/partners/vector", "/api/v1/partners/vector/timeline?limit=200", "/partners/vector",
    "/messages", "/api/v1/messages?limit=1000", "/api/v1/messages/summary", "/api/v1/commands", "/api/v1/dead-letters", "/api/v1/config",
    "/api/v1/status", "/api/v1/events",
)  # fmt: skip


def found_in(endpoints: Endpoints, directory: Path, secrets: Collection[str], also: Collection[Path] = ()) -> list[str]:
    """Where any of `secrets` stands, in words; `also` are more files. Blocks until all has been read."""
    known = [secret.encode() for secret in secrets]
    places = (*_files(directory, also), *_topics(endpoints), *_history(endpoints), *_shown(endpoints))
    assert len(places) > 50, "there was too little to look at"
    return [name for name, content in places if any(secret in content for secret in known)]


def _files(directory: Path, also: Collection[Path]) -> Iterator[tuple[str, bytes]]:
    # A running history makes and renames directories of parts all the time: os.walk passes over one that is gone, rglob raises.
    inside = sorted(Path(folder, name) for folder, _, names in os.walk(directory) for name in names)
    for path in (*inside, *also):
        if path.name in KEPT_ON_PURPOSE:
            continue
        try:
            if path.is_file():
                yield f"the file {path.name}", path.read_bytes()
        except FileNotFoundError:
            continue  # What stood in it stands in the part it was merged into, or in the table, which is read too.


def _topics(endpoints: Endpoints) -> Iterator[tuple[str, bytes]]:
    consumer = Consumer({"bootstrap.servers": endpoints.kafka_bootstrap, "group.id": "secrecy", "enable.partition.eof": True})
    try:
        names = [name for name in consumer.list_topics(timeout=10).topics if name.startswith(f"{endpoints.topic_prefix}derms.")]
        assert names
        for name in names:
            partitions = consumer.list_topics(name, timeout=10).topics[name].partitions
            consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in partitions])
            ended = 0
            while ended < len(partitions):
                message = consumer.poll(10)
                assert message is not None, f"{name} does not end"
                if message.error() is not None:
                    ended += 1
                else:
                    yield f"{name} at {message.offset()}", (message.key() or b"") + b"\0" + (message.value() or b"")
    finally:
        consumer.close()


def _history(endpoints: Endpoints) -> Iterator[tuple[str, bytes]]:
    host, port = endpoints.clickhouse_url.removeprefix("http://").split(":")
    client = clickhouse_connect.get_client(host=host, port=int(port), database="derms")
    try:
        for (table,) in client.query("SHOW TABLES").result_rows:
            if not table.startswith("v_"):
                yield f"the table {table}", str(client.query(f"SELECT * FROM {table}").result_rows).encode()
    finally:
        client.close()


def _shown(endpoints: Endpoints) -> Iterator[tuple[str, bytes]]:
    headers = {"Authorization": f"Bearer {endpoints.operator_token()}"}
    for path in SHOWN:
        yield f"the answer to {path}", fetch("GET", endpoints.operations_url + path, headers=headers).body
