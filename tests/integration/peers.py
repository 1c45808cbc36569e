"""The peers of `test_partners.py`: one for each misbehaviour that OSCP peers are known for (oscp-2.0 1.2, 1.3, 4, 11)."""

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.simulator_config import blocks
from tests.integration.crowd import Scenario, scenario

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
"""From when forecasts hold."""


def answers(kind: str, *actions: str, count: int | None = 1, **more: Any) -> dict[str, Any]:
    """The switch for answers of one kind."""
    return {"answers": [{"kind": kind, "actions": list(actions), "count": count, **more}]}


def forecast(*capacities_kw: float, type_: str = "CONSUMPTION", **more: Any) -> dict[str, Any]:
    """Quarter-hour blocks of these capacities."""
    planned = [block.model_dump(mode="json") for block in blocks(NOON, capacities_kw)]
    return {"type": type_, "blocks": planned, **more}


ACK, REGISTER, ADJUST, BEAT = "HandshakeAcknowledge", "Register", "AdjustGroupCapacityForecast", "Heartbeat"

ANSWERING = [
    scenario("status-500", switches=answers("STATUS", REGISTER, count=2)),
    scenario("status-404-once", "message.refused", switches=answers("STATUS", ADJUST, status=404)),
    scenario("too-many", switches=answers("STATUS", ADJUST, status=429, retry_after_s=1)),
    scenario("redirect", switches=answers("STATUS", ACK, status=302)),
    scenario("two-hundred", switches=answers("STATUS", count=None, status=200)),
    scenario("slow", switches=answers("SLOW", REGISTER, ACK, ADJUST, count=None, seconds=2.5)),
    scenario("silent-beats", switches=answers("SILENT", BEAT, count=2)),
    scenario("drops", switches=answers("DROP", REGISTER, ACK, ADJUST, count=3)),
    scenario("cuts", switches=answers("CUT", REGISTER, ACK, ADJUST, count=3)),
    scenario("garbage", switches=answers("GARBAGE", count=None)),
    scenario("page", switches=answers("HTML", count=None)),
    scenario("huge", switches=answers("HUGE", REGISTER, ACK, ADJUST, count=None)),
    scenario("silent", switches=answers("SILENT", ACK)),
    scenario("trickle", switches=answers("TRICKLE", ACK, seconds=45)),
]
SPEAKING = [
    scenario("flat", switches={"handshake": "FLAT"}, partner={"legacy": ["FLAT_HANDSHAKE"]}),
    scenario("empty", switches={"handshake": "EMPTY"}),
    scenario("no-ids", "request-id.missing", switches={"request_ids": False}),
    scenario("no-correlation", switches={"correlation_ids": False}, starts="FP"),
    scenario("repeats", switches={"repeat": 2}, forecasts=[forecast(7)]),
    scenario("other-body", "request-id.reused", switches={"repeat": 1, "other_body": True}),
    scenario("unknown", switches={"unknown_properties": True, "scheme": "token"}, forecasts=[forecast(7)]),
    scenario("upper-slash", switches={"scheme": "TOKEN"}, base_url_form="SLASH"),
    scenario("relative", base_url_form="RELATIVE"),
    scenario("bare", switches={"scheme": ""}, partner={"legacy": ["BARE_TOKEN"]}),
    scenario("naive", switches={"naive_times": True}, partner={"legacy": ["NAIVE_HEARTBEAT_TIME"]}),
    scenario("skewed", "heartbeat.skewed", switches={"heartbeat_horizon": -100}),
    scenario("late-beats", switches={"heartbeat_horizon": 0.5}),
    scenario("misspelt", paths={ACK: "/handshake_acknowledgment"}, partner={"paths": {ACK: "/handshake_acknowledgment"}}),
    scenario("wrong", "message.refused", mistakes=["WRONG_GROUP", "TOO_LARGE", "CONTENT_TYPE", "NO_JSON", "BACKWARDS"]),
    scenario("segments-first", forecasts=[forecast(1, 2, 3, 4, 5, segments={"count": 3, "order": [3, 1, 2]})]),
    scenario(
        "segments-before", forecasts=[forecast(1, 2, 3, 4, 5, segments={"count": 5, "link": "PREVIOUS", "order": [1, 4, 2, 2, 5, 3]})]
    ),
    scenario("segments-alone", forecasts=[forecast(1, 2, 3, 4, 5, segments={"count": 2, "link": "NONE"})]),
    scenario("segments-short", forecasts=[forecast(1, 2, 3, 4, 5, segments={"count": 3, "order": [1, 3]})]),
    scenario("optimum", forecasts=[forecast(6), forecast(3, 2, type_="OPTIMUM")]),
]
BEGINNING = [
    scenario("we-start", starts="FP"),
    scenario("callback-first", switches={"callback_first": True}, starts="FP"),
    scenario("both", starts="BOTH"),
    scenario("both-callback", switches={"callback_first": True}, starts="BOTH"),
    scenario("both-slow", switches=answers("SLOW", REGISTER, count=None, seconds=1.5), starts="BOTH"),
]
PLAIN: list[Scenario] = [*BEGINNING, *SPEAKING, *ANSWERING]
"""These end ONLINE by themselves."""

TOLD = [
    scenario(
        "bare-ack",
        handshakes=False,
        switches={"takes_handshakes": True, "acknowledgement": "BARE", "acknowledge_path": "/handshake_acknowledgement"},
    ),
    scenario(
        "pyoscp-ack",
        handshakes=False,
        switches={"takes_handshakes": True, "acknowledgement": "INTERVAL", "acknowledge_path": "/handshake_acknowledgment"},
    ),
    scenario("unauthorised", "dispatch.held", "dispatch.resumed", switches=answers("STATUS", ADJUST, status=401)),
    scenario("forbidden", "dispatch.held", "dispatch.resumed", switches=answers("STATUS", ACK, status=403)),
    scenario("refuses-register", "register.failed", "message.refused", switches=answers("STATUS", REGISTER, status=501)),
    scenario("lost-state", "dispatch.held", "dispatch.resumed"),
    scenario("lost-state-ours", "dispatch.held", "dispatch.resumed", starts="FP"),
    scenario("falls-silent", partner={"heartbeat_grace": "PT1S", "wants": {"heartbeat_interval": "PT1S"}}),
    scenario("renews"),
    scenario("renews-put", switches={"put_renewals": True}),
    scenario("leaves"),
]
"""These need something to happen to them."""
