"""A partner's exchanges as they stand on the topics, secrets where they really are: for tests of its timeline and its page."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pipelines.records import Record
from schemas.connection import EXCHANGE, Event, InboundMessage, Severity, SubjectKind
from schemas.facts import Value, derived_id
from schemas.outbound import Delivery, OutboundMessage, Outcome
from sinks.secrets import Secrets
from tests.gateway.facts import NOW, record

SECRETS = Secrets(b"k" * 32)
PEER_TOKEN = "peer-token-nobody-may-see"
OUR_CAUSE = "cause-of-our-token"
BASE = "https://cp.example/oscp/cp/2.0"


def asked(at: datetime, action: str, request_id: str | None, *, status: int = 204, words: str = "", partner_id: str = "vector") -> Event:
    """The event of a request of the partner's, as `gateway.oscp_exchanges` makes it."""
    path = "/oscp/fp/2.0/" + "".join("_" + c.lower() if c.isupper() else c for c in action).strip("_")
    data = {
        "direction": "in",
        "action": action,
        "method": "POST",
        "url": path,
        "status": status,
        "duration_ms": 6,
        "request_id": request_id,
        "correlation_id": None,
    }
    return Event(
        event_id=derived_id(EXCHANGE, partner_id, action, request_id, at),
        at=at,
        subject_kind=SubjectKind.PARTNER,
        subject_id=partner_id,
        kind=EXCHANGE,
        words=f"POST {action} answered {status} in 6 ms" + (f": {words}" if words else ""),
        data=json.dumps(data),
    )


def came(at: datetime, action: str, request_id: str, body: object, *, partner_id: str = "vector", **changes: Any) -> InboundMessage:
    """What the partner sent, as `gateway.oscp_intake` keeps it."""
    plain = {
        "event_id": derived_id("inbound", partner_id, action, request_id, at, changes.get("segment_index")),
        "at": at,
        "partner_id": partner_id,
        "action": action,
        "method": "POST",
        "request_id": request_id,
        "received_at": at,
        "body": json.dumps(body),
        "body_digest": "0" * 64,
        "credential_digest": "1" * 64,
    }
    return InboundMessage.model_validate({**plain, **changes})


def owed(at: datetime, action: str, body: object, *, correlation_id: str | None = None, partner_id: str = "vector") -> OutboundMessage:
    """What we owe the partner."""
    return OutboundMessage(
        event_id=derived_id("owed", partner_id, action, at),
        at=at,
        message_id=derived_id("message", partner_id, action, at),
        partner_id=partner_id,
        action=action,
        correlation_id=correlation_id,
        body=json.dumps(body),
        not_before=at,
        expires_at=at + timedelta(hours=12),
    )


def sent(
    message: OutboundMessage, after_s: float = 1, outcome: Outcome = Outcome.DELIVERED, status: int | None = 204, **changes: Any
) -> Delivery:
    """An attempt to deliver it."""
    attempt = changes.pop("attempt", 1)
    plain = {
        "event_id": derived_id("delivery", message.message_id, attempt, outcome),
        "at": message.at + timedelta(seconds=after_s),
        "message_id": message.message_id,
        "partner_id": message.partner_id,
        "action": message.action,
        "correlation_id": message.correlation_id,
        "attempt": attempt,
        "outcome": outcome,
        "status": status,
        "duration_ms": 41,
        "url": f"{BASE}/{message.action.lower()}",
    }
    return Delivery.model_validate({**plain, **changes})


def said(at: datetime, kind: str, words: str, severity: Severity = Severity.INFO, **data: object) -> Event:
    """A transition or an oddity of the partner."""
    return Event(
        event_id=derived_id("event", kind, at, words),
        at=at,
        subject_kind=SubjectKind.PARTNER,
        subject_id="vector",
        kind=kind,
        severity=severity,
        words=words,
        data=json.dumps(data),
    )


def beat(at: datetime, number: int) -> Iterator[Value]:
    """A heartbeat each way."""
    body = {"offline_mode_at": (at + timedelta(minutes=15)).isoformat().replace("+00:00", "Z")}
    yield came(at, "Heartbeat", f"beat-{number}", body)
    yield asked(at + timedelta(milliseconds=4), "Heartbeat", f"beat-{number}")
    ours = owed(at + timedelta(seconds=2), "Heartbeat", body)
    yield ours
    yield sent(ours)


def registration(start: datetime) -> Iterator[Value]:
    """The partner registers and shakes hands; our first answer finds nobody, the second does."""
    sealed, second = SECRETS.encrypt(PEER_TOKEN, "vector"), timedelta(seconds=1)
    versions = [{"version": "2.0", "base_url": BASE}]
    yield came(start, "Register", "req-register", {"token": sealed, "version_url": versions})
    yield asked(start + timedelta(milliseconds=6), "Register", "req-register")
    yield said(start + second, "register.received", f"Vector registered, to be reached at {BASE}", request_id="req-register")
    ours = {"token": {"$token": OUR_CAUSE}, "version_url": [{"version": "2.0", "base_url": "https://fp.example/oscp/fp/2.0"}]}
    answer = owed(start + 2 * second, "Register", ours, correlation_id="req-register")
    yield answer
    yield sent(answer, 1, Outcome.RETRY, None, words="no connection: connection refused", duration_ms=3)
    yield sent(answer, 4, attempt=2)
    yield came(start + 8 * second, "Handshake", "req-handshake", {"required_behaviour": {"heartbeat_interval": 300}})
    yield asked(start + 8 * second, "Handshake", "req-handshake")
    acknowledged = owed(start + 9 * second, "HandshakeAcknowledge", {"required_behaviour": {}}, correlation_id="req-handshake")
    yield acknowledged
    yield sent(acknowledged)
    yield said(start + 11 * second, "connection.online", "Vector has acknowledged; heartbeats go both ways")


def forecast(at: datetime, number: int = 0) -> Iterator[Value]:
    """A capacity forecast and what became of one that was not valid."""
    hour = timedelta(hours=1)
    blocks = [
        {
            "capacity": 4.5,
            "phase": "ALL",
            "unit": "KW",
            "start_time": (at + n * hour).isoformat().replace("+00:00", "Z"),
            "end_time": (at + (n + 1) * hour).isoformat().replace("+00:00", "Z"),
        }
        for n in range(3)
    ]
    body = {"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": blocks}
    yield came(at, "UpdateGroupCapacityForecast", f"req-forecast-{number}", body, group_id="VEC-0001")
    yield asked(at, "UpdateGroupCapacityForecast", f"req-forecast-{number}")
    words = "UpdateGroupCapacityForecast is not valid: forecasted_blocks[0].end_time: must be after start_time"
    yield asked(at + timedelta(minutes=2), "UpdateGroupCapacityForecast", f"req-wrong-{number}", status=400, words=words)
    refused = f"POST UpdateGroupCapacityForecast of Vector refused with 400: {words}"
    yield said(at + timedelta(minutes=2, milliseconds=1), "message.refused", refused, Severity.WARNING)


def told() -> list[Record]:
    """A morning with Vector."""
    values = [*registration(NOW - timedelta(hours=2)), *forecast(NOW - timedelta(minutes=50))]
    for number in range(6):
        values += beat(NOW - timedelta(minutes=27 - 5 * number), number)
    lost = owed(NOW - timedelta(minutes=1), "UpdateAssetMeasurements", {"group_id": "VEC-0001", "measurements": []})
    values += [lost, sent(lost, 1, Outcome.HELD, 403, words="the partner does not accept our token")]
    return [record(value, offset) for offset, value in enumerate(values)]
