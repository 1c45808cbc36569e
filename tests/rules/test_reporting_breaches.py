"""What the partners are told of breaches, and what operators tell them by hand (semantics 7.3, 7.4)."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.compliance import Verdict, VerdictKind
from schemas.connection import Command, CommandKind, ConnectionState, Event, InboundMessage
from schemas.facts import digest
from schemas.intervals import QUARTER
from schemas.outbound import OutboundMessage
from schemas.units import Direction
from tests.builders import T0, configuration
from tests.rules.test_reporting import WRITTEN, Reporting, body, connection, only


def forecast(request_id: str, *blocks: tuple[int, int, float, str], partner: str = "vector") -> InboundMessage:
    text = json.dumps(
        {
            "group_id": "VEC-0001",
            "type": "CONSUMPTION",
            "forecasted_blocks": [
                {
                    "capacity": capacity,
                    "phase": "ALL",
                    "unit": unit,
                    "start_time": (T0 + timedelta(minutes=start)).isoformat(),
                    "end_time": (T0 + timedelta(minutes=end)).isoformat(),
                }
                for start, end, capacity, unit in blocks
            ],
        }
    )
    return InboundMessage(
        event_id=request_id, at=T0, partner_id=partner, action="UpdateGroupCapacityForecast", method="POST", request_id=request_id,
        received_at=T0, group_id="VEC-0001", body=text, body_digest=digest(text), credential_digest="x",
    )  # fmt: skip


def verdict(kind: VerdictKind = VerdictKind.BREACHED, *, quarter: datetime = T0, **changes: Any) -> Verdict:
    plain: dict[str, Any] = {
        "event_id": f"v-{quarter}-{changes.get('revision', 1)}",
        "at": quarter + WRITTEN,
        "partner_id": "vector",
        "group_id": "VEC-0001",
        "scope_id": "mg-1",
        "quarter": quarter,
        "direction": Direction.IMPORT,
        "verdict": kind,
        "used_wh": 3000.0,
        "allowed_wh": 2500.0,
        "forecasts": ["f-1"],
        "reportable_forecasts": ["f-1"],
        "revision": 1,
    }
    return Verdict.model_validate({**plain, **changes})


def test_a_breach_is_told_with_the_forecasts_id_and_the_part_of_its_blocks() -> None:
    reporting = Reporting()
    reporting.feed(forecast("f-1", (-60, 5, 12.0, "KW"), (5, 65, 8.0, "KWH"), (65, 100, 9.0, "KW")))
    owed = reporting.feed(verdict())
    message = only(owed)
    assert (message.action, message.correlation_id, message.group_id) == ("GroupCapacityComplianceError", "f-1", "VEC-0001")
    assert message.expires_at == T0 + WRITTEN + timedelta(hours=24)
    assert message.cause_id == verdict().event_id
    assert body(owed) == {
        "message": "Group VEC-0001: import of 3.000 kWh (mean 12.000 kW) in the quarter hour from 2026-10-20T10:00:00.000Z "
        "is 0.500 kWh over the 2.500 kWh (10.000 kW) allowed",
        "forecasted_blocks": [
            {
                "capacity": 12.0,
                "phase": "ALL",
                "unit": "KW",
                "start_time": "2026-10-20T10:00:00.000Z",
                "end_time": "2026-10-20T10:05:00.000Z",
            },
            {
                "capacity": 1.333333,
                "phase": "ALL",
                "unit": "KWH",
                "start_time": "2026-10-20T10:05:00.000Z",
                "end_time": "2026-10-20T10:15:00.000Z",
            },
        ],
    }


def test_without_blocks_in_the_quarter_the_error_has_none() -> None:
    assert "forecasted_blocks" not in body(Reporting().feed(verdict()))


def test_each_forecast_quarter_and_direction_is_told_once() -> None:
    reporting = Reporting()
    both = reporting.feed(verdict(reportable_forecasts=["f-1", "f-2"]))
    assert [message.correlation_id for message in both if isinstance(message, OutboundMessage)] == ["f-1", "f-2"]
    again = [verdict(revision=2, used_wh=3100), verdict(VerdictKind.WITHIN, revision=3), verdict(revision=4), verdict()]
    assert reporting.feed(*again) == []
    assert len(reporting.feed(verdict(quarter=T0 + QUARTER), verdict(direction=Direction.EXPORT))) == 2


@pytest.mark.parametrize(
    "quiet",
    [
        {"kind": VerdictKind.WITHIN},
        {"kind": VerdictKind.UNKNOWN},
        {"reportable_forecasts": []},
        {"kind": VerdictKind.UNKNOWN, "at_risk": True, "revision": 0},
    ],
)
def test_what_is_no_breach_of_a_forecast_is_not_told(quiet: dict[str, Any]) -> None:
    assert Reporting().feed(verdict(**quiet)) == []


def test_a_forecast_of_another_partner_is_not_this_partners_business() -> None:
    reporting = Reporting()
    reporting.feed(forecast("f-2", (0, 15, 1.0, "KW"), partner="other"))
    assert reporting.feed(verdict(reportable_forecasts=["f-2"])) == []


def test_policies_of_compliance_errors() -> None:
    quarters = [T0 + number * QUARTER for number in range(5)]
    kinds = [VerdictKind.BREACHED, VerdictKind.UNKNOWN, VerdictKind.BREACHED, VerdictKind.WITHIN, VerdictKind.BREACHED]
    told = {}
    for policy in ("EACH_QUARTER", "ONCE_PER_BREACH", "NEVER"):
        reporting = Reporting(configuration(partners=[{"id": "vector", "compliance_errors": policy}]))
        told[policy] = [len(reporting.feed(verdict(kind, quarter=quarter))) for kind, quarter in zip(kinds, quarters, strict=True)]
    assert told == {"EACH_QUARTER": [1, 0, 1, 0, 1], "ONCE_PER_BREACH": [1, 0, 0, 0, 1], "NEVER": [0, 0, 0, 0, 0]}


def test_breaches_of_a_suspended_time_are_not_told() -> None:
    reporting = Reporting()
    reporting.feed(connection(ConnectionState.SUSPENDED, since=T0))
    assert reporting.feed(verdict()) == []


def command(kind: CommandKind, payload: dict[str, Any]) -> Command:
    return Command(
        event_id="cmd-1", at=T0 + WRITTEN, partner_id="vector", kind=kind, by="ana", group_id="VEC-0001", payload=json.dumps(payload)
    )


BLOCK = {"capacity": 5, "phase": "ALL", "unit": "KW", "start_time": "2026-10-20T11:00:00Z", "end_time": "2026-10-20T12:00:00Z"}


def test_an_adjustment_by_hand() -> None:
    owed = Reporting().feed(command(CommandKind.ADJUST, {"type": "CONSUMPTION", "forecasted_blocks": [BLOCK]}))
    assert only(owed).action == "AdjustGroupCapacityForecast"
    assert only(owed).expires_at == T0 + WRITTEN + timedelta(hours=24)
    assert (body(owed)["group_id"], body(owed)["type"]) == ("VEC-0001", "CONSUMPTION")
    assert body(owed)["forecasted_blocks"][0]["start_time"] == "2026-10-20T11:00:00.000Z"


def test_a_compliance_error_by_hand() -> None:
    owed = Reporting().feed(command(CommandKind.COMPLIANCE_ERROR, {"forecast": "f-9", "message": "cannot", "forecasted_blocks": None}))
    assert (only(owed).correlation_id, body(owed)) == ("f-9", {"message": "cannot"})


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [
        (CommandKind.ADJUST, {"type": "MORE", "forecasted_blocks": [BLOCK]}, "type"),
        (CommandKind.ADJUST, {"type": "GENERATION", "forecasted_blocks": []}, "forecasted_blocks"),
        (CommandKind.ADJUST, {"type": "GENERATION", "forecasted_blocks": [{**BLOCK, "capacity": -1}]}, "forecasted_blocks.0.capacity"),
        (CommandKind.COMPLIANCE_ERROR, {"message": "no forecast"}, "forecast"),
    ],
)
def test_a_wrong_command_says_which_field(kind: CommandKind, payload: dict[str, Any], field: str) -> None:
    (event,) = Reporting().feed(command(kind, payload))
    assert isinstance(event, Event)
    assert event.kind == "command.refused"
    assert f": {field}: " in event.words
