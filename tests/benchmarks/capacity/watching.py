"""What the flow appends, as the broker has it, and what is appended for it: both with the broker's append times."""

import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import Producer

from schemas.capacity import CircuitCapacity, OperatingEnvelope
from schemas.connection import Connection, ConnectionState
from schemas.topics import CIRCUIT_CAPACITY, CONNECTIONS, ENVELOPES, INBOUND
from sinks.codec import decode, encode
from sinks.kafka import Follower, RawRecord, topic_name
from sinks.kafka_clients import producer_config
from sinks.settings import KafkaSettings
from tests.benchmarks.capacity.forecasts import Told

WITHIN_S = 120.0
LOOK_S = 0.02


class Watcher:
    """Keeps every record of the flow's two topics as bytes: what they say is read when nothing is measured."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, list[RawRecord]] = {CIRCUIT_CAPACITY.name: [], ENVELOPES.name: []}
        self._follower = Follower(settings, [CIRCUIT_CAPACITY, ENVELOPES], self._take, client_id="bench-capacity")

    def __enter__(self) -> "Watcher":
        self._follower.start()
        self._follower.wait_ready(WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.stop()

    def _take(self, records: list[RawRecord]) -> None:
        with self._lock:
            for record in records:
                self._records[record.topic].append(record)

    def counts(self) -> tuple[int, int]:
        """So many changes of circuits and envelopes so far."""
        return len(self._records[CIRCUIT_CAPACITY.name]), len(self._records[ENVELOPES.name])

    def wait(self, capacities: int, envelopes: int) -> None:
        """Until there are so many of each; RuntimeError if that takes too long."""
        deadline = time.monotonic() + WITHIN_S
        while (counts := self.counts()) < (capacities, envelopes) or counts[1] < envelopes:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{counts[0]} of {capacities} capacities and {counts[1]} of {envelopes} envelopes in {WITHIN_S:g} s")
            time.sleep(LOOK_S)

    def capacities(self, first: int = 0, end: int | None = None) -> list[tuple[float, CircuitCapacity]]:
        """The changes from the `first` to the `end`, with when (s since 1970) the broker had each."""
        with self._lock:
            records = self._records[CIRCUIT_CAPACITY.name][first:end]
        values = ((record.appended_at.timestamp(), decode(record.raw)) for record in records)
        return [(at, value) for at, value in values if isinstance(value, CircuitCapacity)]

    def envelopes(self, first: int = 0, end: int | None = None) -> list[tuple[float, OperatingEnvelope]]:
        """The envelopes from the `first` to the `end`, likewise."""
        with self._lock:
            records = self._records[ENVELOPES.name][first:end]
        values = ((record.appended_at.timestamp(), decode(record.raw)) for record in records)
        return [(at, value) for at, value in values if isinstance(value, OperatingEnvelope)]


class Sender:
    """Appends forecasts as the gateway does, at a pace."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._client: Any = Producer(producer_config(settings, "bench-forecasts", 30.0))
        self._settings, self._topic = settings, topic_name(settings, INBOUND)
        self.appended: dict[str, float] = {}
        self.received: dict[str, datetime] = {}

    def send(self, told: list[Told], seconds: float) -> None:
        """All of them, evenly over so many seconds; returns when the broker has them."""
        began = time.monotonic()
        for number, one in enumerate(told):
            time.sleep(max(0.0, began + number * seconds / len(told) - time.monotonic()))
            now = datetime.now(UTC)
            message = one.message(now)
            self.received[one.request_id] = message.received_at
            self._client.produce(self._topic, encode(message), message.partner_id, on_delivery=partial(self._delivered, one.request_id))
            self._client.poll(0)
        self._client.flush(30.0)

    def gone(self, partner_id: str) -> float:
        """The partner is declared OFFLINE; when (s since 1970) the broker had that."""
        now = datetime.now(UTC)
        connection = Connection(event_id=f"{partner_id} is gone", at=now, partner_id=partner_id, state=ConnectionState.OFFLINE, since=now)
        name = topic_name(self._settings, CONNECTIONS)
        self._client.produce(name, encode(connection), partner_id, on_delivery=partial(self._delivered, connection.event_id))
        self._client.flush(30.0)
        return self.appended[connection.event_id]

    def _delivered(self, request_id: str, error: object, message: Any) -> None:
        if error is not None:
            raise RuntimeError(f"a forecast was not taken: {error}")
        self.appended[request_id] = message.timestamp()[1] / 1000
