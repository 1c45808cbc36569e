"""The table of topics (contract 4). `derms topics create` makes them; the documentation is generated from it."""

from dataclasses import dataclass, field
from datetime import timedelta

from schemas.adjustment import Adjustment
from schemas.capacity import CircuitCapacity, OperatingEnvelope
from schemas.compliance import Breach, Verdict
from schemas.config import ConfigChange
from schemas.connection import Command, Connection, Event, InboundMessage
from schemas.facts import Value
from schemas.flows import FlowReport, SecretInUse
from schemas.outbound import DeadLetter, Delivery, OutboundMessage
from schemas.telemetry import LateMeasurement, Measurement, MeasurementBatch, QuarterHour

DAY = timedelta(days=1)
YEAR = 365 * DAY
MAX_BYTES = 4 * 1024 * 1024
"""The largest value a topic takes: a body of 1 MiB (semantics 6.6) fits after translation, with room."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its values' models, what its keys are, and how real clusters keep it.

    `retention` None means kept for ever. `embedded_partitions` is for the embedded broker, which pays
    for every partition it is asked about. `max_bytes` is the largest value it takes. `roll` is after how long a segment
    is closed, where Kafka's own week is too long for what it holds: only closed ones are compacted or dropped.
    """

    name: str
    records: tuple[type[Value], ...]
    key: str
    partitions: int
    retention: timedelta | None
    compacted: bool = False
    embedded_partitions: int = field(default=1)
    max_bytes: int = MAX_BYTES
    roll: timedelta | None = None

    def config(self) -> dict[str, str]:
        """Kafka's topic settings: LogAppendTime, since event time is in the value (brokers.md)."""
        policy = {(True, True): "compact", (True, False): "compact,delete"}.get((self.compacted, self.retention is None), "delete")
        kept = -1 if self.retention is None else int(self.retention.total_seconds() * 1000)
        # 512 bytes for the key and the record's own header, which the broker counts too.
        size = str(self.max_bytes + 512)
        rolled = {} if self.roll is None else {"segment.ms": str(int(self.roll.total_seconds() * 1000))}
        return {
            "cleanup.policy": policy,
            "retention.ms": str(kept),
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": size,
            **rolled,
        }


TELEMETRY = Topic(
    "derms.telemetry", (Measurement, MeasurementBatch), "any; one asset always on one partition", 16, 7 * DAY, embedded_partitions=2
)
QUARTER_HOURS = Topic("derms.quarter-hours", (QuarterHour,), "asset or group id", 16, 90 * DAY)
BACKFILL = Topic("derms.backfill", (Measurement, MeasurementBatch), "asset", 4, 7 * DAY)
LATE_TELEMETRY = Topic("derms.late-telemetry", (LateMeasurement,), "asset", 4, 30 * DAY)
INBOUND = Topic("derms.inbound", (InboundMessage,), "partner", 4, YEAR)
CONNECTIONS = Topic("derms.connections", (Connection,), "partner", 1, None, compacted=True)
EVENTS = Topic("derms.events", (Event,), "partner, scope or circuit", 4, YEAR)
ENVELOPES = Topic("derms.envelopes", (OperatingEnvelope,), "scope", 4, YEAR)
CIRCUIT_CAPACITY = Topic("derms.circuit-capacity", (CircuitCapacity,), "circuit", 4, YEAR)
COMPLIANCE = Topic("derms.compliance", (Verdict,), "group", 4, YEAR)
BREACHES = Topic("derms.breaches", (Breach,), "group", 4, YEAR)
COMMANDS = Topic("derms.commands", (Command,), "partner", 4, YEAR)
ADJUSTMENTS = Topic("derms.adjustments", (Adjustment,), "group", 4, YEAR)
OUTBOUND = Topic("derms.outbound", (OutboundMessage,), "partner", 4, YEAR)
DELIVERIES = Topic("derms.deliveries", (Delivery,), "message id", 4, YEAR, compacted=True)
CONFIG = Topic("derms.config", (ConfigChange,), "kind/id", 1, None, compacted=True)
DEAD_LETTERS = Topic("derms.dead-letters", (DeadLetter,), "origin topic", 4, 30 * DAY, max_bytes=MAX_BYTES + 64 * 1024)
FLOW_REPORTS = Topic("derms.flow-reports", (FlowReport, SecretInUse), "flow/worker", 1, 7 * DAY, compacted=True, roll=timedelta(hours=1))

TOPICS: tuple[Topic, ...] = (
    TELEMETRY, BACKFILL, QUARTER_HOURS, LATE_TELEMETRY, INBOUND, CONNECTIONS, EVENTS, ENVELOPES, CIRCUIT_CAPACITY,
    COMPLIANCE, BREACHES, COMMANDS, ADJUSTMENTS, OUTBOUND, DELIVERIES, CONFIG, DEAD_LETTERS, FLOW_REPORTS,
)  # fmt: skip
READINGS = (TELEMETRY, BACKFILL)
"""The topics whose values are readings: many, without an identity of their own, handled as columns."""
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
