"""Builders of what stands on the topics, for tests of the live picture and of what is made from it: say only what the test is about."""

from datetime import UTC, datetime, timedelta

from pipelines.records import Record
from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.connection import Connection, ConnectionState, Credential, Event, Severity, SubjectKind
from schemas.facts import Value, derived_id
from schemas.flows import FlowReport, PartitionStanding, StageTime, Tally
from schemas.intervals import QUARTER
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.telemetry import Level, Method, QuarterHour
from schemas.topics import TOPICS

NOW = datetime(2007, 6, 9, 18, 26, 40, tzinfo=UTC)
WALL = NOW.replace(year=2026)
"""What the wall reads when the clock reads `NOW`."""


def record(value: Value, offset: int = 0) -> Record:
    """A value as read from the topic it belongs to."""
    topic = next(topic for topic in TOPICS if type(value) in topic.records)
    return Record(topic.name, 0, offset, WALL if isinstance(value, FlowReport) else NOW, "", value)


def report(
    ago_s: float = 0,
    readings: int = 0,
    *,
    lags: tuple[int | None, ...] = (0, 0),
    behind_s: tuple[float | None, ...] = (62, 64),
    **changes: object,
) -> FlowReport:
    """What a worker of the telemetry flow said so long ago: readings taken since it started, and each partition's lag and event time."""
    at = NOW - timedelta(seconds=ago_s)
    plain = {
        "event_id": derived_id("report", changes.get("worker", "0"), changes.get("started_at"), at),
        "at": at,
        "flow": "telemetry",
        "worker": "0",
        "started_at": WALL - timedelta(hours=2),
        "tallies": [Tally(what="readings", outcome="taken", count=readings), Tally(what="readings", outcome="unknown asset", count=15)],
        "stages": [StageTime(stage="decode", runs=readings // 1000, seconds=readings / 1e6, longest_s=0.012)],
        "partitions": [
            PartitionStanding(
                topic="derms.telemetry",
                partition=number,
                position=None if lag is None else readings // 2,
                lag=lag,
                watermark=None if behind is None else NOW - timedelta(seconds=behind),
            )
            for number, (lag, behind) in enumerate(zip(lags, behind_s, strict=True))
        ],
    }
    return FlowReport.model_validate({**plain, **changes})


def reported(value: FlowReport, ago_s: float = 0) -> Record:
    """A report as the broker took it so many wall seconds ago."""
    return Record("derms.flow-reports", 0, 0, WALL - timedelta(seconds=ago_s), value.key, value)


def row(start: datetime, kilowatts: float, *, of: str = "VEC-0001", level: Level = Level.GROUP, **changes: object) -> QuarterHour:
    """A quarter hour of import at a mean of so many kW."""
    energy = kilowatts * 250
    plain = {
        "event_id": derived_id("row", level, of, start, changes.get("revision", 1)),
        "at": start + QUARTER + timedelta(minutes=1),
        "level": level,
        "id": of,
        "scope_id": "sceaux-house",
        "start": start,
        "import_wh": energy,
        "export_wh": 0.0,
        "net_wh": energy,
        "mean_w": kilowatts * 1000,
        "samples": 15,
        "coverage": 1.0,
        "method": Method.METER if level is Level.GROUP else Method.REGISTER,
        "revision": 1,
    }
    return QuarterHour.model_validate({**plain, **changes})


def piece(start: datetime, end: datetime, import_kw: float | None, export_kw: float | None, cause: str) -> EnvelopePiece:
    """A piece of an envelope as a forecast makes it."""
    return EnvelopePiece(
        start=start,
        end=end,
        import_limit_w=None if import_kw is None else import_kw * 1000,
        export_limit_w=None if export_kw is None else export_kw * 1000,
        cause=cause,
        kind=PieceKind.FORECAST,
        import_cause=cause,
        import_kind=PieceKind.UNKNOWN if import_kw is None else PieceKind.FORECAST,
        export_cause=cause,
        export_kind=PieceKind.UNKNOWN if export_kw is None else PieceKind.FORECAST,
    )


def envelope(revision: int, effective_at: datetime, pieces: list[EnvelopePiece]) -> OperatingEnvelope:
    """A revision of the house's envelope."""
    event_id = derived_id("envelope", revision)
    return OperatingEnvelope(
        event_id=event_id, at=effective_at, scope_id="sceaux-house", revision=revision, effective_at=effective_at, pieces=pieces
    )


def connection(state: ConnectionState = ConnectionState.ONLINE, **changes: object) -> Connection:
    """Vector's connection."""
    plain = {
        "event_id": derived_id("connection", state),
        "at": NOW - timedelta(hours=9),
        "partner_id": "vector",
        "state": state,
        "since": NOW - timedelta(hours=9),
        "words": "Vector has acknowledged; heartbeats go both ways",
        "peer_base_url": "https://cp.example/oscp/cp/2.0",
        "peer_version": "2.0",
        "peer_token": "v1.ciphertext-of-the-peer-token",
        "credentials": [Credential(digest="0" * 64, cause="c", role="CURRENT")],
        "peer_required_heartbeat_s": 300.0,
        "peer_required_measurements": ["INTERMITTENT"],
        "our_required_heartbeat_s": 300.0,
        "liveness_deadline": NOW + timedelta(minutes=13, seconds=10),
        "first_acknowledged_at": NOW - timedelta(hours=9),
    }
    return Connection.model_validate({**plain, **changes})


def message(action: str, at: datetime, correlation_id: str | None = None, body: str = "{}") -> OutboundMessage:
    """A message owed to Vector."""
    return OutboundMessage(
        event_id=derived_id("owed", action, at),
        at=at,
        message_id=derived_id("message", action, at),
        partner_id="vector",
        action=action,
        group_id=None if action == "Heartbeat" else "VEC-0001",
        correlation_id=correlation_id,
        body=body,
        not_before=at,
        expires_at=at + timedelta(days=7),
    )


def delivery(
    owed: OutboundMessage, outcome: Outcome = Outcome.DELIVERED, status: int | None = 204, attempt: int = 1, words: str = ""
) -> Delivery:
    """What became of an attempt."""
    return Delivery(
        event_id=derived_id("delivery", owed.message_id, attempt),
        at=owed.at + timedelta(seconds=2),
        message_id=owed.message_id,
        partner_id=owed.partner_id,
        action=owed.action,
        group_id=owed.group_id,
        correlation_id=owed.correlation_id,
        attempt=attempt,
        outcome=outcome,
        status=status,
        words=words,
        duration_ms=41,
    )


def event(at: datetime, kind: str, words: str, severity: Severity = Severity.INFO, subject: str = "vector") -> Event:
    """Something a person may want to read."""
    about = SubjectKind.PARTNER if subject == "vector" else SubjectKind.SCOPE
    return Event(
        event_id=derived_id("event", at, words), at=at, subject_kind=about, subject_id=subject, kind=kind, severity=severity, words=words
    )
