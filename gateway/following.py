"""Feeds the live picture from Kafka: one or two followers, decoding as they go."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from gateway.projection import Projection
from pipelines.records import Record, Unreadable
from schemas.clock import Clock, SystemClock
from schemas.errors import Undecodable
from schemas.facts import Value
from schemas.topics import (
    ADJUSTMENTS,
    BREACHES,
    BY_NAME,
    CIRCUIT_CAPACITY,
    COMMANDS,
    COMPLIANCE,
    CONNECTIONS,
    DEAD_LETTERS,
    DELIVERIES,
    ENVELOPES,
    EVENTS,
    FLOW_REPORTS,
    INBOUND,
    OUTBOUND,
    QUARTER_HOURS,
    Topic,
)
from sinks.codec import decode
from sinks.errors import Unavailable
from sinks.kafka import Follower, RawRecord
from sinks.settings import KafkaSettings

LASTING = (CONNECTIONS, ENVELOPES, CIRCUIT_CAPACITY, BREACHES, ADJUSTMENTS, FLOW_REPORTS)
"""What holds until something else is said, so its last word may be old: read from the beginning."""
RECENT = (QUARTER_HOURS, COMPLIANCE, EVENTS, OUTBOUND, DELIVERIES, DEAD_LETTERS, INBOUND, COMMANDS)
"""What is shown for its news: read from two days back."""
BACK = timedelta(hours=48)
FETCH_WAIT_MS = 250
Parts = list[tuple[tuple[Topic, ...], datetime | None]]


def readable(raw: RawRecord) -> Record:
    """A followed record, decoded; `Unreadable` in the place of a value nobody knows."""
    value: Value | Unreadable
    try:
        value = decode(raw.raw, BY_NAME.get(raw.topic))
    except Undecodable as error:
        value = Unreadable(str(error), raw.raw)
    return Record(raw.topic, raw.partition, raw.offset, raw.appended_at, raw.key, value)


class Following:
    """Keeps a `Projection` up with its topics, in threads of its own."""

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        self.projection = Projection(clock)
        since = SystemClock().now() - BACK
        # The embedded broker forgets by itself and pays for every consumer: there, one reads it all.
        apart: Parts = [(LASTING, None), (RECENT, since)]
        parts = [(LASTING + RECENT, None)] if settings.embedded else apart
        self._followers = [
            Follower(settings, topics, self._take, client_id=f"derms-picture-{number}", since=back, fetch_wait_ms=FETCH_WAIT_MS)
            for number, (topics, back) in enumerate(parts)
        ]

    def _take(self, records: Sequence[RawRecord]) -> None:
        self.projection.take([readable(record) for record in records])

    def start(self) -> None:
        """Begin to follow."""
        for follower in self._followers:
            follower.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Block until what was there at the start is in the picture. Raises Unavailable."""
        for follower in self._followers:
            follower.wait_ready(timeout_s)

    async def check(self) -> None:
        """For `/health/ready`. Raises Unavailable if a follower has ended."""
        if any(follower.failure is not None for follower in self._followers):
            raise Unavailable("the live picture stands still: its follower ended, see the log")

    def stop(self) -> None:
        """End the threads."""
        for follower in self._followers:
            follower.stop()
