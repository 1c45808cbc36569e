"""The metrics of what partners are owed and what is overdue between us (`gateway.metrics` has the others). Pure.

What waits is what dispatch said last (semantics 8.2 to 8.6); ages are made here, so that they go on growing when dispatch is gone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client.core import Metric

from gateway.flow_metrics import Samples, metric_of
from gateway.liveness import liveness_deadline
from gateway.partner_queue import queue_of
from gateway.picture import Heartbeats, Picture
from pipelines.rules.heartbeats import interval_of
from schemas.config import Configuration
from schemas.connection import Connection, ConnectionState
from schemas.flows import QueueStanding
from sinks.oscp.breaker import BreakerState

BEATING = frozenset({ConnectionState.ONLINE, ConnectionState.OFFLINE})
"""States in which heartbeats are due."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at an instant of the clock, when the wall reads `wall`."""

    picture: Picture
    config: Configuration
    now: datetime
    wall: datetime

    def partners(self) -> list[str]:
        """All partners that are configured, connected or owed anything."""
        named = [partner.id for partner in self.config.partners]
        return list(dict.fromkeys([*named, *sorted(self.picture.connections), *sorted(self.picture.queues)]))

    def queues(self) -> Iterator[tuple[tuple[str], QueueStanding]]:
        """How the partners' queues stood last, by the label; nothing where dispatch has said nothing yet."""
        for name in self.partners():
            if (queue := queue_of(self.picture, name)) is not None:
                yield (name,), queue


@dataclass(frozen=True, slots=True)
class PartnerMetered:
    """One gauge: its name, what it says, its labels, and how it is read."""

    name: str
    words: str
    labels: tuple[str, ...]
    read: Callable[[Seen], Samples]
    counter: bool = False

    def metric(self, seen: Seen | None) -> Metric:
        """Its present samples."""
        return metric_of(self.name, self.words, self.labels, [] if seen is None else self.read(seen), counter=self.counter)


def _of_queues(read: Callable[[QueueStanding], float]) -> Callable[[Seen], Samples]:
    return lambda seen: ((label, read(queue)) for label, queue in seen.queues())


def _oldest(seen: Seen) -> Samples:
    for label, queue in seen.queues():
        yield label, 0.0 if queue.oldest_at is None else max(0.0, (seen.now - queue.oldest_at).total_seconds())


def _breakers(seen: Seen) -> Samples:
    for label, queue in seen.queues():
        yield from (((*label, state.value), float(queue.breaker == state)) for state in BreakerState)


def _token_age(seen: Seen) -> Samples:
    return ((label, (seen.wall - queue.token_at).total_seconds()) for label, queue in seen.queues() if queue.token_at)


def _token_left(seen: Seen) -> Samples:
    return ((label, (queue.token_until - seen.wall).total_seconds()) for label, queue in seen.queues() if queue.token_until)


def _withheld(seen: Seen) -> Samples:
    return (((name,), float(each.withheld_since is not None)) for name, each in seen.picture.connections.items())


def _overdue(seen: Seen) -> Samples:
    for name, connection in seen.picture.connections.items():
        if connection.state not in BEATING:
            continue
        if connection.our_required_heartbeat_s is not None:
            due = liveness_deadline(seen.picture, seen.config, name)
            yield from (((name, "in"), _since(each, seen.now)) for each in (due,) if each is not None)
        if connection.peer_required_heartbeat_s is not None:
            yield (name, "out"), _since(_our_beat_due(seen, connection, connection.peer_required_heartbeat_s), seen.now)


def _our_beat_due(seen: Seen, connection: Connection, interval_s: float) -> datetime:
    """By when a partner wants to have heard of us: one interval after our last heartbeat, at first after it was asked for."""
    beats = seen.picture.heartbeats.get(connection.partner_id, Heartbeats())
    online = connection.since if connection.state is ConnectionState.ONLINE else None
    known = [each for each in (beats.delivered_at, connection.first_acknowledged_at, online) if each is not None]
    return max(known, default=connection.since) + interval_of(interval_s)


def _since(due: datetime, now: datetime) -> float:
    return max(now - due, timedelta(0)).total_seconds()


def _refusals(seen: Seen) -> Samples:
    return (((name,), _since(at, seen.now)) for name, at in seen.picture.refused_at.items())


PARTNER_CATALOGUE: tuple[PartnerMetered, ...] = (
    PartnerMetered(
        "derms_messages_waiting", "Messages a partner is owed: waiting, parked and under way", ("partner",),
        _of_queues(lambda queue: float(queue.waiting)),
    ),
    PartnerMetered(
        "derms_messages_oldest_age_seconds",
        "Clock time since the oldest of them that is no heartbeat was made; 0 where nothing waits; grows on without dispatch",
        ("partner",), _oldest,
    ),
    PartnerMetered(
        "derms_messages_parked", "Those of them that were set aside after failing while others were delivered", ("partner",),
        _of_queues(lambda queue: float(queue.parked)),
    ),
    PartnerMetered("derms_breaker_state", "1 for the state a partner's breaker is in, 0 for the others", ("partner", "state"), _breakers),
    PartnerMetered(
        "derms_queue_held", "1 while what a partner is owed is held back until a person mends something", ("partner",),
        _of_queues(lambda queue: float(bool(queue.held))),
    ),
    PartnerMetered("derms_oauth_token_age_seconds", "Wall time since the OAuth token in use was fetched", ("partner",), _token_age),
    PartnerMetered(
        "derms_oauth_token_left_seconds", "Wall time for which it is still used; below 0 where the next message fetches another",
        ("partner",), _token_left,
    ),
    PartnerMetered(
        "derms_refusal_age_seconds", "Clock time since a message to the partner was refused last, if that was in the last 48 h",
        ("partner",), _refusals,
    ),
    PartnerMetered(
        "derms_measurements_withheld", "1 while a partner gets no measurements, since it asks for a style we cannot send", ("partner",),
        _withheld,
    ),
    PartnerMetered(
        "derms_heartbeat_overdue_seconds",
        "Clock time for which a heartbeat is missed: `in`, since the partner's word ran out; `out`, beyond the interval it asked of us",
        ("partner", "direction"), _overdue,
    ),
)  # fmt: skip
