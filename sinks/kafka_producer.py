"""Writing to Kafka and being sure of it: a producer whose every delivery is checked, and the dataflows' sink."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as Client

from schemas.clock import wall_seconds
from schemas.facts import Value
from schemas.topics import DEAD_LETTERS, EVENTS, Topic
from sinks.codec import encode
from sinks.errors import Refused, Unavailable
from sinks.kafka_clients import producer_config, topic_name
from sinks.kafka_oversize import instead_of, words_of
from sinks.settings import KafkaSettings

DELIVERY_TIMEOUT_S = 30.0
POLL_EVERY = 1000
"""So many messages are handed over before the client is asked for what has become of them: asking costs as much as sending."""
_CONTENT_TOO_LARGE = 413


class Appendable(Protocol):
    """A value to be written to a topic under a key (`pipelines.records.Out` is one)."""

    @property
    def topic(self) -> Topic:
        """Where to."""

    @property
    def key(self) -> str:
        """What decides the partition."""

    @property
    def value(self) -> Value | bytes:
        """What; bytes are taken as they are."""


class Appendables(Protocol):
    """Values to be written to a topic, each under the key at its place (`pipelines.records.Outs` is one)."""

    @property
    def topic(self) -> Topic:
        """Where to."""

    @property
    def keys(self) -> Sequence[str]:
        """What decides the partition of each."""

    @property
    def values(self) -> Sequence[bytes]:
        """What."""


def payload(topic: Topic, value: Value | bytes) -> bytes:
    """The bytes of a value for a topic; `Refused(413)` where they are more than the topic takes."""
    raw = value if isinstance(value, bytes) else encode(value)
    if len(raw) > topic.max_bytes:
        raise Refused(_CONTENT_TOO_LARGE, words_of(topic, len(raw)))
    return raw


def failure(topic: str, error: KafkaError) -> Unavailable | Refused:
    """What a delivery that failed means for who asked for it."""
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return Refused(_CONTENT_TOO_LARGE, f"the broker's limit for a message on {topic} is lower than this one's size")
    words = f"{topic} did not take a message: {error.str()}"
    if error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
        words += "; make the topic with: derms topics create"
    return Unavailable(words, 1.0)


class Producer:
    """Sends values and, at `flush`, vouches for them. For one thread at a time.

    `timeout_s` (wall) bounds how long a message may be on its way. With `many` it sends in batches on the embedded
    broker too: only for topics whose readers do not ask for the end to wait for it (see `producer_config`).
    """

    def __init__(self, settings: KafkaSettings, client_id: str, *, timeout_s: float = DELIVERY_TIMEOUT_S, many: bool = False) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        # Failures are told of, deliveries are not: a call each would cost more than the sending (`flush` waits for all).
        self._config = producer_config(settings, client_id, timeout_s) | {"delivery.report.only.error": True}
        if many:
            self._config.pop("batch.num.messages", None)
        self._client: Any = Client(self._config)
        self._failures: list[Unavailable | Refused] = []
        self._unasked = 0

    def send(self, topic: Topic, key: str, value: Value | bytes) -> None:
        """Hand a value over for sending; only `flush` says that it arrived. Order within a key is kept.

        Blocks (at most the time-out) only while the local queue is full. Raises `Refused(413)` for a message that is
        too large and `Unavailable` when the queue stays full.
        """
        raw, name = payload(topic, value), topic_name(self._settings, topic)
        try:
            self._client.produce(name, raw, key, -1, self._delivered)
        except BufferError:
            self._send_later(name, raw, key)
        except KafkaException as error:
            raise failure(name, error.args[0]) from error
        self._ask(1)

    def send_all(self, topic: Topic, keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Hand many values over, each under the key at its place; otherwise as `send`."""
        name, delivered = topic_name(self._settings, topic), self._delivered
        for first in range(0, len(values), POLL_EVERY):
            produce = self._client.produce
            for key, raw in zip(keys[first : first + POLL_EVERY], values[first : first + POLL_EVERY], strict=True):
                if len(raw) > topic.max_bytes:
                    payload(topic, raw)
                try:
                    produce(name, raw, key, -1, delivered)
                except BufferError:
                    self._send_later(name, raw, key)
                except KafkaException as error:
                    raise failure(name, error.args[0]) from error
            self._ask(len(values[first : first + POLL_EVERY]))

    def _ask(self, sent: int) -> None:
        """After so many more were sent: hear what became of some, now and then."""
        self._unasked += sent
        if self._unasked >= POLL_EVERY:
            self._unasked = 0
            self._client.poll(0)

    def _send_later(self, name: str, raw: bytes, key: str) -> None:
        """Send when the queue has room again; `Unavailable` where that takes longer than the time-out."""
        deadline = wall_seconds() + self._timeout_s
        while wall_seconds() <= deadline:
            self._client.poll(0.1)
            try:
                self._client.produce(name, raw, key, -1, self._delivered)
            except BufferError:
                continue
            except KafkaException as error:
                raise failure(name, error.args[0]) from error
            return
        raise Unavailable(f"{name}: the queue to the broker stayed full for {self._timeout_s:g} s", 1.0)

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failures.append(failure(message.topic(), error))

    def flush(self) -> None:
        """Block until the broker has acknowledged everything sent since the last flush.

        Raises `Unavailable` (or `Refused(413)`) if any message failed, after the fate of all of them is known; then
        all since the last flush should be sent again. Blocks at most a little over the time-out.
        """
        if self._client.flush(self._timeout_s + 5.0) > 0:
            # Nothing may arrive after we have called it lost.
            self._client.purge()
            self._client.flush(1.0)
        failures, self._failures = self._failures, []
        if failures:
            self._client = Client(self._config)  # an idempotent client that failed may refuse to go on
            first = failures[0]
            if len(failures) > 1 and isinstance(first, Unavailable):
                raise Unavailable(f"{first.words} (and {len(failures) - 1} more)", first.retry_after_s)
            raise first

    def close(self) -> None:
        """Flush, with `flush`'s errors. The producer may be used again all the same."""
        self.flush()


Items = Appendable | Appendables


class _SinkPartition(StatelessSinkPartition[Items]):
    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def write_batch(self, items: list[Items]) -> None:
        """Write a batch and wait until it is there; of a message that is too large it is said that it was left out."""
        for item in items:
            if hasattr(item, "values"):
                self._write_many(cast("Appendables", item))
            else:
                self._write(item.topic, item.key, item.value)
        self._producer.flush()

    def _write(self, topic: Topic, key: str, value: Value | bytes) -> None:
        raw = value if isinstance(value, bytes) else encode(value)
        if len(raw) <= topic.max_bytes:
            self._producer.send(topic, key, raw)
            return
        letter, alarm = instead_of(topic, key, value, raw)
        self._producer.send(DEAD_LETTERS, topic.name, letter)
        self._producer.send(EVENTS, alarm.subject_id, alarm)

    def _write_many(self, many: Appendables) -> None:
        if max(map(len, many.values), default=0) <= many.topic.max_bytes:
            self._producer.send_all(many.topic, many.keys, many.values)
            return
        for key, raw in zip(many.keys, many.values, strict=True):
            self._write(many.topic, key, raw)

    def close(self) -> None:
        self._producer.close()


class KafkaSink(DynamicSink[Items]):
    """The dataflows' sink for `Out` and `Outs` items: one flush a batch, and any failure ends the flow before its epoch is
    committed, so that it comes again (engine.md 4, 5: the sink is at-least-once and never silent). `many` as in `Producer`.

    But a message that is larger than its topic takes would fail each time it comes: instead of it a `DeadLetter` and an `Event`
    are written (see `kafka_oversize`)."""

    def __init__(self, settings: KafkaSettings, client_id: str, *, timeout_s: float = DELIVERY_TIMEOUT_S, many: bool = False) -> None:
        self._settings, self._client_id, self._timeout_s, self._many = settings, client_id, timeout_s, many

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Items]:
        """One producer for each worker."""
        client_id = f"{self._client_id}-{worker_index}"
        return _SinkPartition(Producer(self._settings, client_id, timeout_s=self._timeout_s, many=self._many))
