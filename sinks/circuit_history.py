"""What holds when a circuit writer starts: the newest change of each circuit on `derms.circuit-capacity` (semantics 4).

Read from Kafka alone, whatever recovery stores say: so it is the same after a restart, after a take-over by another machine and with a
lost store. The topic is read backwards, a window at a time, until every circuit's newest change is known, so that a start takes no
longer because a year is kept. A window that goes back to some instant has every change that takes effect after it.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.capacity import CircuitCapacity
from schemas.clock import Clock, wall_seconds
from schemas.errors import Undecodable
from schemas.topics import CIRCUIT_CAPACITY
from schemas.units import to_ms
from sinks.codec import decode
from sinks.errors import Unavailable
from sinks.kafka import consumer_config, partitions_of, topic_name, watermarks
from sinks.settings import KafkaSettings

log = logging.getLogger(__name__)

WINDOWS = (timedelta(minutes=15), timedelta(hours=2), timedelta(days=1), timedelta(days=7), None)
"""How far back (wall) each reading goes; None is the topic's beginning."""
SLACK = timedelta(minutes=2)
"""What takes effect is appended at that instant or after it, by clocks that may differ by a minute."""
AGAIN_S = 1.0
STOP_S = 2.0
_ASK_S = 5.0
_SILENCE_S = 15.0
Offsets = dict[int, int]


class Found(NamedTuple):
    """Of each circuit of which a window told something new the newest changes, all of one instant, in their order; and how far back
    (wall) all has been read, None for all there is."""

    newest: list[list[CircuitCapacity]]
    reached: datetime | None


def covers(clock: Clock, reached: datetime, since: datetime) -> bool:
    """Whether a reading back to `reached` (wall) has met every change that takes effect at `since` (clock) or later."""
    return clock.wall_at(since) > reached + SLACK


class CircuitHistory:
    """Reads what was there when it started, in a thread of its own, and hands it to `tell` window by window, the last one with
    `reached` None. Only circuits that are `wanted` are looked for. A broker that is away is waited for, aloud."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        wanted: Callable[[], frozenset[str]],
        tell: Callable[[Found], None],
        clock: Clock,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._settings, self._wanted, self._tell, self._clock, self._on_failure = settings, wanted, tell, clock, on_failure
        self._bounds: tuple[Offsets, Offsets] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="circuit-history", daemon=True)

    def start(self) -> None:
        """Begin to read what is there now. Blocks for a moment, at most a few seconds, while the broker is asked for its ends: what comes
        after this call is no history. Where it does not answer, what there is once it does counts."""
        try:
            self._bounds = self._ask()
        except (Unavailable, KafkaException) as error:
            log.warning("what the circuits have is not known yet: %s", error)
        self._thread.start()

    def _ask(self) -> tuple[Offsets, Offsets]:
        consumer: Any = Consumer(consumer_config(self._settings, "derms-circuit-ends"))
        try:
            return _bounds(consumer, self._settings)
        finally:
            consumer.close()

    def stop(self) -> None:
        """End; returns within 2 s, also where the broker does not answer. Harmless twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    return self._read()
                except (Unavailable, KafkaException) as error:
                    log.warning("what the circuits have is not known yet: %s", error)
                    self._stopping.wait(AGAIN_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, the flow must hear of it and end
            self._on_failure(error)

    def _read(self) -> None:
        consumer: Any = Consumer(consumer_config(self._settings, "derms-circuit-history"))
        try:
            now = datetime.now(UTC)
            self._bounds = self._bounds or _bounds(consumer, self._settings)
            low, upto = self._bounds
            newest: dict[str, list[CircuitCapacity]] = {}
            for window in WINDOWS:
                since = low if window is None else _since(consumer, self._settings, low, upto, now - window)
                reached = None if since == low or window is None else now - window
                told = self._fold(self._changes(consumer, since, upto), newest)
                if self._stopping.is_set():
                    return
                if reached is not None and self._all_known(newest, reached):
                    reached = None
                self._tell(Found([newest[name] for name in told], reached))
                if reached is None:
                    return
                upto = since
        finally:
            consumer.close()

    def _all_known(self, newest: Mapping[str, Sequence[CircuitCapacity]], reached: datetime) -> bool:
        return all(name in newest and covers(self._clock, reached, newest[name][-1].effective_from) for name in self._wanted())

    def _changes(self, consumer: Any, since: Offsets, upto: Offsets) -> Iterator[CircuitCapacity]:
        wanted = {name.encode() for name in self._wanted()}
        for message in _messages(consumer, topic_name(self._settings, CIRCUIT_CAPACITY), since, upto, self._stopping):
            if message.key() not in wanted:
                continue
            try:
                value = decode(message.value() or b"", CIRCUIT_CAPACITY)
            except Undecodable:
                continue  # the flow makes the dead letter
            if isinstance(value, CircuitCapacity):
                yield value

    @staticmethod
    def _fold(changes: Iterator[CircuitCapacity], newest: dict[str, list[CircuitCapacity]]) -> list[str]:
        """Take in the changes of a window in their order; the names of the circuits of which something new was told."""
        found: dict[str, list[CircuitCapacity]] = {}
        for change in changes:
            known = found.get(change.circuit_id)
            if known is None or known[-1].effective_from < change.effective_from:
                found[change.circuit_id] = [change]
            elif known[-1].effective_from == change.effective_from and all(change.event_id != each.event_id for each in known):
                known.append(change)
        told = []
        for name, earlier in found.items():
            later = newest.get(name)
            if later is None or later[-1].effective_from < earlier[-1].effective_from:
                newest[name] = earlier
            elif later[-1].effective_from == earlier[-1].effective_from:
                ids = {change.event_id for change in earlier}
                newest[name] = [*earlier, *(change for change in later if change.event_id not in ids)]
            else:
                continue
            told.append(name)
        return told


def _bounds(consumer: Any, settings: KafkaSettings) -> tuple[Offsets, Offsets]:
    low: Offsets = {}
    high: Offsets = {}
    for number in partitions_of(consumer, settings, [CIRCUIT_CAPACITY], _ASK_S)[CIRCUIT_CAPACITY]:
        bound = watermarks(consumer, topic_name(settings, CIRCUIT_CAPACITY), number, _ASK_S)
        if bound is None:
            raise Unavailable(f"the broker does not say where {CIRCUIT_CAPACITY.name}[{number}] ends", AGAIN_S)
        low[number], high[number] = bound
    return low, high


def _since(consumer: Any, settings: KafkaSettings, low: Offsets, upto: Offsets, instant: datetime) -> Offsets:
    """Where the records begin that were appended at `instant` (wall) or later."""
    name = topic_name(settings, CIRCUIT_CAPACITY)
    asked = [TopicPartition(name, number, to_ms(instant)) for number in low]
    since: Offsets = {}
    for part in consumer.offsets_for_times(asked, timeout=_ASK_S):
        if part.error is not None:
            raise KafkaException(part.error)
        number = part.partition
        # Where there is none that late, all before `upto` is earlier.
        since[number] = min(max(part.offset, low[number]), upto[number]) if part.offset >= 0 else upto[number]
    return since


def _messages(consumer: Any, name: str, since: Offsets, upto: Offsets, stopping: threading.Event) -> Iterator[Any]:
    """The records from `since` up to `upto`, in the order of each partition. Raises Unavailable where the broker falls silent."""
    left = {number for number, end in upto.items() if since[number] < end}
    consumer.assign([TopicPartition(name, number, since[number]) for number in left])
    heard = wall_seconds()
    while left and not stopping.is_set():
        if wall_seconds() - heard > _SILENCE_S:
            raise Unavailable(f"the broker does not hand out {CIRCUIT_CAPACITY.name}", AGAIN_S)
        for message in consumer.consume(1000, 0.2):
            number, error = message.partition(), message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    left.discard(number)
                continue
            heard = wall_seconds()
            if message.offset() + 1 >= upto[number]:
                left.discard(number)
            if message.offset() < upto[number]:
                yield message
    consumer.unassign()
