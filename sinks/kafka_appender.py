"""Acknowledged appends for asyncio: what the gateway answers 204 after."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as Client

from schemas.facts import Value
from schemas.topics import Topic
from sinks.errors import Refused, Unavailable
from sinks.kafka_clients import broker_words, producer_config, topic_name
from sinks.kafka_producer import Appendable, failure, payload
from sinks.settings import KafkaSettings

APPEND_TIMEOUT_S = 10.0
RETRY_AFTER_S = 2.0
CLOSE_S = 2.0
_POLL_S = 0.2
_LOST_PLACE = frozenset(
    {
        KafkaError._FATAL,
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
    }
)
"""An idempotent client of which the broker says so takes nothing any more, though not every time does it say that itself: the embedded
broker fences one whose messages had timed out while it stood still."""


class AsyncAppender:
    """Appends values from coroutines of any event loop; thread-safe. A thread of its own serves the deliveries.

    `timeout_s` (wall) bounds an append. After a time-out the message may still have arrived: who asks again must be
    recognised by its id.
    """

    def __init__(self, settings: KafkaSettings, client_id: str, *, timeout_s: float = APPEND_TIMEOUT_S) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._config = producer_config(settings, client_id, timeout_s) | {"linger.ms": 1}
        self._client: Any = Client(self._config)
        self._former: list[Any] = []
        self._replacing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"{client_id}-deliveries", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._client.poll(_POLL_S)
            for former in tuple(self._former):
                former.poll(0)
                if not len(former):
                    self._former.remove(former)

    def _replace(self, client: Any) -> None:
        """Go on with another client than this one; what is on its way by this one still gets its answer."""
        with self._replacing:
            if self._client is client and not self._closing.is_set():
                self._client = Client(self._config)
                self._former.append(client)

    async def append(self, topic: Topic, key: str, value: Value | bytes) -> None:
        """Return once the broker has acknowledged the value.

        Raises `Unavailable` (with `retry_after_s`) when it does not within the time-out or the queue to it is full,
        `Refused(413)` for a message that is too large.
        """
        await self._acknowledged([self._hand_over(topic, key, value)])

    def post(self, topic: Topic, key: str, value: Value | bytes) -> None:
        """Hand a value over and wait for nothing: for what may be missing. What cannot be taken or delivered is left out."""
        with contextlib.suppress(BufferError, KafkaException, Refused):
            if not self._closing.is_set():
                self._client.produce(topic_name(self._settings, topic), value=payload(topic, value), key=key.encode())

    async def append_many(self, items: Sequence[Appendable]) -> None:
        """Append all (in order within a key) and return once all are acknowledged; on any failure raise the first one's error.

        The others may have arrived then, so all should be sent again. Nothing is sent if one of them is too large.
        """
        raws = [payload(item.topic, item.value) for item in items]
        waiting: list[asyncio.Future[None]] = []
        try:
            for item, raw in zip(items, raws, strict=True):
                waiting.append(self._hand_over(item.topic, item.key, raw))
        finally:
            await self._acknowledged(waiting)

    def _hand_over(self, topic: Topic, key: str, value: Value | bytes) -> "asyncio.Future[None]":
        raw, name = payload(topic, value), topic_name(self._settings, topic)
        if self._closing.is_set():
            raise Unavailable("the connection to the broker has been closed", RETRY_AFTER_S)
        loop, client = asyncio.get_running_loop(), self._client
        future: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(lambda settled: settled.cancelled() or settled.exception())  # seen, also where nobody waits any more

        def settle(error: KafkaError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                found = failure(name, error)
                future.set_exception(Unavailable(found.words, RETRY_AFTER_S) if isinstance(found, Unavailable) else found)

        def delivered(error: KafkaError | None, _: Any) -> None:
            if error is not None and (error.fatal() or error.code() in _LOST_PLACE):
                self._replace(client)
            with contextlib.suppress(RuntimeError):  # the loop is gone, and who waited with it
                loop.call_soon_threadsafe(settle, error)

        try:
            client.produce(name, value=raw, key=key.encode(), on_delivery=delivered)
        except BufferError:
            raise Unavailable(f"{name}: the queue to the broker is full", RETRY_AFTER_S) from None
        except KafkaException as error:
            if error.args[0].fatal():
                self._replace(client)
            raise failure(name, error.args[0]) from error
        return future

    async def _acknowledged(self, waiting: "list[asyncio.Future[None]]") -> None:
        if not waiting:
            return
        # The client gives up at the same time-out by itself; the second more is for its answer to reach us.
        done, late = await asyncio.wait(waiting, timeout=self._timeout_s + 1.0)
        for future in late:
            future.cancel()
        failures = [error for error in (future.exception() for future in waiting if future in done) if error is not None]
        if failures:
            raise failures[0]
        if late:
            raise Unavailable(broker_words(self._settings, f"acknowledge within {self._timeout_s:g} s"), RETRY_AFTER_S)

    def close(self) -> None:
        """Wait (at most `CLOSE_S`) for what is on its way, then end. Harmless twice."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            self._client.flush(min(self._timeout_s, CLOSE_S))
