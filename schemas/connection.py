"""A partner's connection: its state, what it said, what people may want to read, what operators ask (semantics 6)."""

from datetime import datetime
from enum import StrEnum

from schemas.facts import Fact, Value, derived_id
from schemas.units import Instant


class ConnectionState(StrEnum):
    """The states of a connection (semantics 6.1)."""

    NEW = "NEW"
    AWAITING_REGISTER = "AWAITING_REGISTER"
    REPLYING = "REPLYING"
    SENDING_REGISTER = "SENDING_REGISTER"
    AWAITING_REGISTER_REPLY = "AWAITING_REGISTER_REPLY"
    REGISTERED = "REGISTERED"
    ACKING = "ACKING"
    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    SUSPENDED = "SUSPENDED"
    DEREGISTERED = "DEREGISTERED"
    FAILED = "FAILED"


class Credential(Value):
    """One of our tokens that a partner may present: digest only.

    `cause` is what the token was derived from (semantics 6.2), so dispatch can make it again; `role` is
    A (first registration), CURRENT (C) or PREVIOUS (valid until the exchange is known to be complete).
    """

    digest: str
    cause: str
    role: str


class Pause(Value):
    """A time of which nothing is reported: quarters that end after `since` and not after `until` (None: it lasts)."""

    since: Instant
    until: Instant | None = None


class Connection(Fact):
    """Where a partner's connection stands; the last value of its key holds.

    `peer_token` is AES-GCM ciphertext. Intervals are seconds. `peer_required_*` is what the partner asks
    of us, `our_required_*` what our acknowledgement asked of it. `handshake_id` is the message id of a handshake
    of ours that waits for its acknowledgement (else one is refused with 409). `taken` are the repeat keys of the last
    registrations and acknowledgements that took effect: the gateway waits for them (semantics 6.3). `memory`
    is the lifecycle's own notes as JSON text, so that it can go on from here where its recovery store is gone. `silences` are the
    times it was suspended or deregistered, `withheld` those in which measurements were withheld, as far back as partners are told
    of repairs (semantics 7.1): reporting goes by them where earlier values of the key have been compacted away.
    """

    partner_id: str
    state: ConnectionState
    since: Instant
    words: str = ""
    peer_base_url: str | None = None
    peer_version: str | None = None
    peer_token: str | None = None
    credentials: list[Credential] = []
    peer_required_heartbeat_s: float | None = None
    peer_required_measurements: list[str] = []
    our_required_heartbeat_s: float | None = None
    our_required_measurements: list[str] = []
    liveness_deadline: Instant | None = None
    registered_at: Instant | None = None
    first_acknowledged_at: Instant | None = None
    withheld_since: Instant | None = None
    handshake_id: str | None = None
    taken: list[str] = []
    memory: str = ""
    silences: list[Pause] = []
    withheld: list[Pause] = []


class InboundMessage(Fact):
    """What a partner sent, validated. `body` is JSON text with tokens replaced by ciphertext.

    `credential_digest` is the digest of the token it came with, `body_digest` of the body as it came. A segment has
    `segment_index` (from 1) and `segment_count` (above 1); what a message means is said by the whole one alone, which
    the lifecycle joins from its segments and appends with the last of them as its `cause_id` (semantics 6.8).
    """

    partner_id: str
    action: str
    method: str
    request_id: str
    correlation_id: str | None = None
    received_at: Instant
    group_id: str | None = None
    body: str
    body_digest: str
    credential_digest: str
    segment_index: int | None = None
    segment_count: int | None = None

    @property
    def is_segment(self) -> bool:
        """Whether this is a part of a message, which by itself means nothing."""
        return self.segment_count is not None

    @property
    def repeat_key(self) -> str:
        """The same for the same message sent again (semantics 6.6): method, action, X-Request-ID and body."""
        return derived_id(self.partner_id, self.method, self.action, self.request_id, self.body_digest)


class SubjectKind(StrEnum):
    """What an event is about."""

    PARTNER = "PARTNER"
    SCOPE = "SCOPE"
    CIRCUIT = "CIRCUIT"
    ASSET = "ASSET"
    SYSTEM = "SYSTEM"


class Severity(StrEnum):
    """How much an event matters to an operator."""

    INFO = "INFO"
    WARNING = "WARNING"
    ALARM = "ALARM"


EXCHANGE = "exchange"
"""The kind of the event that says what a partner asked and was answered; its `data` has direction, action, method, url, status,
duration_ms, request_id, correlation_id."""

CIRCUIT_WRITTEN, CIRCUIT_REFUSED, CIRCUIT_UNREACHABLE = "circuit.written", "circuit.refused", "circuit.unreachable"
CIRCUIT_WRITES = (CIRCUIT_WRITTEN, CIRCUIT_REFUSED, CIRCUIT_UNREACHABLE)
"""The kinds of the events that say what became of writing a circuit's change to the legacy platform (semantics 4); `data` has
change_id, effective_from, attempts, and but for the last kind status, duration_ms, asserted."""


class Event(Fact):
    """Something a person may want to read. `data` is a JSON object as text, without secrets."""

    subject_kind: SubjectKind
    subject_id: str
    kind: str
    severity: Severity = Severity.INFO
    words: str
    data: str = "{}"


class CommandKind(StrEnum):
    """What an operator can ask for."""

    ISSUE_TOKEN = "ISSUE_TOKEN"  # noqa: S105 - the name of a command, not a token
    REGISTER = "REGISTER"
    HANDSHAKE = "HANDSHAKE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    DEREGISTER = "DEREGISTER"
    ADJUST = "ADJUST"
    COMPLIANCE_ERROR = "COMPLIANCE_ERROR"
    RETRY_MESSAGE = "RETRY_MESSAGE"
    DROP_MESSAGE = "DROP_MESSAGE"
    ENVELOPE = "ENVELOPE"


class Command(Fact):
    """An operator's request; `by` says whose. `payload` is a JSON object as text.

    One of kind ENVELOPE concerns `scope_id` (which is its key, too) and no partner: `partner_id` is empty, and the payload
    an `EnvelopeCommand`.
    """

    partner_id: str
    kind: CommandKind
    by: str
    group_id: str | None = None
    payload: str = "{}"
    scope_id: str | None = None


def refused_command(command: Command, why: str, at: datetime) -> Event:
    """The event that tells an operator why a command came to nothing."""
    return Event(
        event_id=derived_id("command-refused", command.event_id),
        at=at,
        cause_id=command.event_id,
        subject_kind=SubjectKind.SCOPE if command.scope_id else SubjectKind.PARTNER,
        subject_id=command.scope_id or command.partner_id,
        kind="command.refused",
        severity=Severity.WARNING,
        words=f"{command.kind.value} by {command.by} was not carried out: {why}",
    )
