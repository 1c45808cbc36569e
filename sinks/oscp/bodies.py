"""Message bodies in bounded memory: the newest are kept, the others are read again when their turn comes (semantics 8.2)."""

import threading
from collections import OrderedDict
from typing import Any, Protocol

from confluent_kafka import Consumer, TopicPartition

from schemas.clock import wall_seconds
from schemas.errors import Undecodable
from schemas.outbound import OutboundMessage
from schemas.topics import OUTBOUND
from sinks.codec import decode
from sinks.errors import Unavailable
from sinks.kafka import consumer_config, topic_name
from sinks.settings import KafkaSettings

WINDOW_BYTES = 32 * 1024 * 1024
FETCH_S = 10.0


class Fetch(Protocol):
    """Reads one message of `derms.outbound` again. May block; raises Unavailable."""

    def __call__(self, partition: int, offset: int) -> OutboundMessage:
        """The message at that place."""


class Window:
    """The messages used or taken last, up to a number of bytes of bodies; the one put last is always kept. Thread-safe."""

    def __init__(self, limit: int = WINDOW_BYTES) -> None:
        self._limit, self._size = limit, 0
        self._messages: OrderedDict[str, OutboundMessage] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, message: OutboundMessage) -> None:
        """Keep a message; older ones make room."""
        with self._lock:
            self._forget(message.message_id)
            self._messages[message.message_id] = message
            self._size += len(message.body)
            while self._size > self._limit and len(self._messages) > 1:
                self._size -= len(self._messages.popitem(last=False)[1].body)

    def get(self, message_id: str) -> OutboundMessage | None:
        """The message, if it is still here."""
        return self._messages.get(message_id)

    def drop(self, message_id: str) -> None:
        """It is not needed any more."""
        with self._lock:
            self._forget(message_id)

    def _forget(self, message_id: str) -> None:
        if (found := self._messages.pop(message_id, None)) is not None:
            self._size -= len(found.body)


class BodyReader:
    """A consumer that reads single messages of `derms.outbound` by their place. Thread-safe; blocks at most 10 s."""

    def __init__(self, settings: KafkaSettings, client_id: str = "derms-dispatch-bodies") -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._config = consumer_config(settings, client_id, queued_kbytes=1024)
        self._consumer: Any = None

    def __call__(self, partition: int, offset: int) -> OutboundMessage:
        """The message at that place. Raises Unavailable where the broker does not hand it out in time, Undecodable if it is none."""
        name = topic_name(self._settings, OUTBOUND)
        with self._lock:
            if self._consumer is None:
                self._consumer = Consumer(self._config)
            self._consumer.assign([TopicPartition(name, partition, offset)])
            try:
                deadline = wall_seconds() + FETCH_S
                while (left := deadline - wall_seconds()) > 0:
                    found = self._consumer.poll(min(left, 0.5))
                    if found is not None and found.error() is None and found.offset() == offset:
                        message = decode(found.value() or b"", OUTBOUND)
                        if not isinstance(message, OutboundMessage):
                            raise Undecodable(f"offset {offset} of {OUTBOUND.name}[{partition}] is no message")
                        return message
            finally:
                self._consumer.unassign()
        raise Unavailable(f"the broker did not hand out offset {offset} of {name}[{partition}] within {FETCH_S:g} s")

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None
