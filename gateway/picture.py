"""The live picture: what the topics say now, in bounded memory. Data only; `gateway.projection` folds records into it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, NamedTuple, Self

from gateway.asked_facts import AskedFacts
from gateway.kept_forecasts import KeptForecasts
from gateway.partner_timeline import Timelines
from schemas.adjustment import Adjustment
from schemas.capacity import CircuitCapacity, EnvelopePiece
from schemas.compliance import Breach, Verdict
from schemas.connection import Command, Connection, Event
from schemas.flows import FlowReport, QueueStanding
from schemas.outbound import DeadLetter, Delivery, OutboundMessage
from schemas.telemetry import Level, QuarterHour
from schemas.units import Direction, Phase

KEEP_MESSAGES = 200
KEEP_HEARTBEATS = 50
KEEP_EVENTS = 200
KEEP_INBOUND = 100
KEEP_COMMANDS = 100
KEEP_DEAD_LETTERS = 100
KEEP_REASONS = 100
KEEP_CHANGES = 96
KEEP_CLOSED_BREACHES = 200
KEEP_REPORTS = 7
KEEP_ADJUSTMENTS = 500


class RowKey(NamedTuple):
    """Whose quarter hours: an asset's by phase, or a group's."""

    level: Level
    id: str
    phase: Phase = Phase.ALL


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """When a partner's last heartbeat came in, and when our last one was delivered (clock time)."""

    received_at: datetime | None = None
    delivered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A scope's envelope over time: what was in force stays, the newest revision holds from its `effective_at` on."""

    revision: int
    effective_at: datetime
    pieces: tuple[EnvelopePiece, ...]

    def at(self, instant: datetime) -> EnvelopePiece | None:
        """The piece for phase ALL in force at `instant`, or None where nothing is known."""
        return next((piece for piece in self.whole() if piece.start <= instant < piece.end), None)

    def whole(self) -> Iterator[EnvelopePiece]:
        """The pieces for phase ALL, in order of time."""
        return (piece for piece in self.pieces if piece.phase is Phase.ALL)


@dataclass(frozen=True, slots=True)
class MessageLine:
    """An outbound message and where it stands. Either half may be known before the other: they come by two topics."""

    message_id: str
    message: OutboundMessage | None = None
    delivery: Delivery | None = None

    @property
    def about(self) -> OutboundMessage | Delivery:
        """The half that is known: both carry partner, action, group, correlation id and `at`."""
        known = self.message or self.delivery
        if known is None:
            raise LookupError(f"message {self.message_id} has neither half")
        return known


@dataclass(frozen=True, slots=True)
class Received:
    """An inbound message without its body."""

    partner_id: str
    action: str
    request_id: str
    correlation_id: str | None
    group_id: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker's report and the wall instant at which the broker took it."""

    report: FlowReport
    at: datetime


@dataclass(slots=True)
class Picture:
    """Everything the pages, the operations API and the metrics show.

    Values inside the dictionaries are never changed in place, only replaced: so `copy` is cheap and a copy
    stands still. Rows are those of the last 48 h of clock time, lists the newest few (newest first).
    `events` are without exchanges, which stand on the partners' `timelines`, and writes of circuits that went well: they are too many.
    `circuit_writes` are the last words about writing a circuit to the legacy platform, `circuit_settled` those that it has a change or
    will not have it; `circuit_outcomes` counts all by kind.
    `provisional` are the rows of quarters that run or have ended and are not closed yet, of the last 2 h. `flows` are the last
    reports of each worker since it was started, by `flow/worker`, newest first. `queues` are the partners' queues as dispatch said
    last, `queues_at` when that was (wall time; None: never); of a partner that is not among them nothing was owed then.
    `dead_letter_at`, `alarm_at` and `refused_at` are when the last dead letter of a topic, alarm of a kind, or refusal of a message to
    a partner was.
    """

    connections: dict[str, Connection] = field(default_factory=dict)
    heartbeats: dict[str, Heartbeats] = field(default_factory=dict)
    envelopes: dict[str, Timeline] = field(default_factory=dict)
    rows: dict[RowKey, dict[datetime, QuarterHour]] = field(default_factory=dict)
    provisional: dict[RowKey, dict[datetime, QuarterHour]] = field(default_factory=dict)
    verdicts: dict[str, dict[tuple[datetime, Direction], Verdict]] = field(default_factory=dict)
    phase_verdicts: dict[str, dict[tuple[datetime, Direction, Phase], Verdict]] = field(default_factory=dict)
    circuits: dict[str, tuple[CircuitCapacity, ...]] = field(default_factory=dict)
    circuit_writes: dict[str, Event] = field(default_factory=dict)
    circuit_settled: dict[str, Event] = field(default_factory=dict)
    circuit_outcomes: dict[str, int] = field(default_factory=dict)
    breaches: dict[str, Breach] = field(default_factory=dict)
    messages: dict[str, MessageLine] = field(default_factory=dict)
    heartbeat_messages: dict[str, MessageLine] = field(default_factory=dict)
    outcomes: dict[tuple[str, str, str], int] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    timelines: Timelines = field(default_factory=Timelines)
    commands: tuple[Command, ...] = ()
    adjustments: dict[str, Adjustment] = field(default_factory=dict)
    asked: AskedFacts = field(default_factory=AskedFacts)
    forecasts: KeptForecasts = field(default_factory=lambda: KeptForecasts({}))
    inbound: tuple[Received, ...] = ()
    inbound_counts: dict[tuple[str, str], int] = field(default_factory=dict)
    dead_letters: tuple[DeadLetter, ...] = ()
    dead_letter_counts: dict[str, int] = field(default_factory=dict)
    dead_letter_at: dict[str, datetime] = field(default_factory=dict)
    alarm_at: dict[str, datetime] = field(default_factory=dict)
    refused_at: dict[str, datetime] = field(default_factory=dict)
    flows: dict[str, tuple[Reported, ...]] = field(default_factory=dict)
    queues: dict[str, QueueStanding] = field(default_factory=dict)
    queues_at: datetime | None = None
    records: dict[str, int] = field(default_factory=dict)
    row_count: int = 0

    def copy(self) -> Self:
        """A picture that later records do not change; shares what is never changed in place."""
        shallow: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, dict | Timelines | KeptForecasts | AskedFacts):
                shallow[each.name] = value.copy()
        return replace(self, **shallow)

    def group_rows(self, group_id: str) -> dict[datetime, QuarterHour]:
        """The closed quarters of a group by their start."""
        return self.rows.get(RowKey(Level.GROUP, group_id), {})

    def newest_quarter(self) -> datetime | None:
        """The start of the newest closed quarter of anyone: how far event time has come."""
        return max((start for rows in self.rows.values() for start in rows), default=None)

    def open_breaches(self) -> list[Breach]:
        """The breaches that last, newest first."""
        found = [breach for breach in self.breaches.values() if breach.state in OPEN_STATES]
        return sorted(found, key=lambda breach: breach.first_quarter, reverse=True)

    def all_messages(self) -> Iterator[MessageLine]:
        """The messages kept, heartbeats among them, newest first."""
        lines = [*self.messages.values(), *self.heartbeat_messages.values()]
        return iter(sorted(lines, key=lambda line: line.about.at, reverse=True))


OPEN_STATES = ("OPENED", "CONTINUED")
