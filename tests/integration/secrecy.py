"""Looks for known secrets in everything a system wrote and shows: files, every topic's bytes, the history, pages and the API."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import clickhouse_connect
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from gateway.instance_files import Endpoints
from sinks.http import fetch

KEPT_ON_PURPOSE = frozenset({"secret", "secret.previous", "operator-token"})
"""Files of an instance that are secrets, mode 0600."""
SHOWN = (
    "/", "/metrics", "/api/v1/partners", "/api/v1/partners/vector", "/api/v1/partners/vector/timeline?limit=200", "/partners/vector",
    "/messages", "/api/v1/messages?limit=1000", "/api/v1/messages/summary", "/api/v1/commands", "/api/v1/dead-letters", "/api/v1/config",
    "/api/v1/status", "/api/v1/events",
)  # fmt: skip


Place = tuple[str, bytes]
"""In words where it is, and what stands there."""


def places_of(endpoints: Endpoints, directory: Path, also: Collection[Path] = ()) -> list[Place]:
    """Everything a system wrote and shows; `also` are more files. Blocks until all has been read."""
    places = [*_files(directory, also), *_topics(endpoints), *_history(endpoints), *_shown(endpoints)]
    assert len(places) > 50, "there was too little to look at"
    return places


def found_in(places: Collection[Place], words: Collection[str]) -> list[str]:
    """Where any of `words` stands."""
    known = [word.encode() for word in words]
    return [name for name, content in places if any(word in content for word in known)]


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
        known = consumer.list_topics(timeout=10).topics
        names = [name for name in known if name.startswith(f"{endpoints.topic_prefix}derms.")]
        assert names
        open_ = {(name, number) for name in names for number in known[name].partitions}
        consumer.assign([TopicPartition(*part, OFFSET_BEGINNING) for part in open_])
        while open_:
            message = consumer.poll(10)
            assert message is not None, f"{open_} do not end"
            if message.error() is None:
                yield f"{message.topic()} at {message.offset()}", (message.key() or b"") + b"\0" + (message.value() or b"")
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                open_.discard((message.topic(), message.partition()))
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
