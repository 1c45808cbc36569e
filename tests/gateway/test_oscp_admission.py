"""The OSCP listener: who is let in, who is held back, and what of that is recorded (semantics 6.2, 6.3, 6.6)."""

import asyncio
import json

import pytest

from gateway.oscp_auth import PAUSE_S
from schemas.oscp.v20 import BASE_PATH
from sinks.errors import Unavailable
from tests.builders import configuration
from tests.gateway.oscp_side import TOKEN, Side, connection, forecast_body, refused, run


@pytest.mark.parametrize("token", [f"Token {TOKEN}", f"token {TOKEN}", f"TOKEN   {TOKEN}"])
def test_the_scheme_is_read_in_any_case(token):
    assert run(Side().post("/handshake", {}, token=token)).status_code == 204


@pytest.mark.parametrize("token", [None, "", "Token", "Token ", f"Bearer {TOKEN}", f"Token {TOKEN} x", TOKEN, "unknown"])
def test_no_or_malformed_authorization_is_401(token):
    side = Side()
    answer = run(side.post("/handshake", {}, token=token))
    refused(answer, 401, "Authorization")
    assert answer.headers["WWW-Authenticate"] == "Token"
    assert side.broker.inbound == []


def test_a_bare_token_is_taken_from_a_peer_known_to_send_it():
    assert run(Side(legacy=["BARE_TOKEN"]).post("/handshake", {}, token=TOKEN)).status_code == 204


def test_an_unknown_token_is_refused_after_catching_up_with_the_connections():
    side = Side()
    refused(run(side.post("/handshake", {}, token="Token nobody")), 403, "token")
    assert side.connections.asked == 1
    side.connections.next = {"vector": connection("vector", TOKEN, "brand-new")}
    assert run(side.post("/handshake", {}, token="Token brand-new")).status_code == 204
    assert side.connections.asked == 2


def test_however_many_unknown_tokens_come_at_once_the_broker_is_asked_for_two_rounds_at_most():
    side = Side()
    asked: list[int] = []

    async def catch_up(timeout_s: float) -> None:
        asked.append(len(asked))
        await asyncio.sleep(0.01)
        side.connections.known = {"vector": connection("vector", TOKEN, "brand-new")}

    side.connections.catch_up = catch_up

    async def all_at_once() -> list[int]:
        first = asyncio.create_task(side.post("/handshake", {}, token="Token brand-new"))
        await asyncio.sleep(0.005)
        others = [side.post("/handshake", {}, token=f"Token nobody-{number}") for number in range(30)]
        return [answer.status_code for answer in await asyncio.gather(first, *others)]

    assert asyncio.run(all_at_once()) == [204] + [403] * 30
    assert len(asked) == 2


def test_where_the_broker_is_away_an_unknown_token_is_not_called_wrong():
    side = Side()
    side.connections.away = True
    answer = run(side.post("/handshake", {}, token="Token nobody"))
    refused(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_partner_taken_out_of_the_configuration_is_unknown():
    side = Side(config=configuration(partners=[{"id": "other"}], groups=[]))
    refused(run(side.post("/handshake", {})), 403)


def test_another_partners_token_is_that_partner():
    partners = [{"id": "vector"}, {"id": "other"}]
    groups = [{"partner_id": "vector", "group_id": "VEC-0001", "scope_id": "mg-1"}]
    side = Side(connection("vector", TOKEN), connection("other", "O"), config=configuration(partners=partners, groups=groups))
    assert run(side.post("/handshake", {}, token="Token O")).status_code == 204
    assert side.broker.inbound[0].partner_id == "other"
    unknown = forecast_body(group_id="nowhere")
    foreign = run(side.post("/update_group_capacity_forecast", forecast_body(), token="Token O"))
    absent = run(side.post("/update_group_capacity_forecast", unknown, token="Token O"))
    assert refused(foreign, 404, "group_id") == refused(absent, 404)
    assert foreign.headers == absent.headers


def test_rates_are_held_per_partner_and_for_strangers():
    side = Side(inbound_rate=1)
    codes = [run(side.post("/handshake", {})).status_code for _ in range(3)]
    assert codes == [204, 204, 429]
    answer = run(side.post("/handshake", {}))
    refused(answer, 429)
    assert answer.headers["Retry-After"] == "1"
    assert side.paused == [PAUSE_S] * 2
    side.wall_s += 1
    assert run(side.post("/handshake", {})).status_code == 204
    strangers = [run(side.post("/handshake", {}, token=None)).status_code for _ in range(101)]
    assert strangers[99:] == [401, 429]
    side.wall_s += 1
    assert run(side.post("/handshake", {})).status_code == 204


def test_each_exchange_with_a_known_partner_is_recorded_with_what_was_answered():
    side = Side()
    run(side.post("/handshake", {}, headers={"X-Correlation-ID": "c-9"}, request_id="r-7"))
    run(side.post("/update_group_capacity_forecast", forecast_body(group_id="nobody's"), request_id="r-8"))
    run(side.send("DELETE", "/register", request_id=None))
    run(side.post("/handshake", {}, token="Token nobody"))
    told = [json.loads(event.data) for event in side.broker.exchanges]
    assert [(each["method"], each["action"], each["status"], each["request_id"]) for each in told] == [
        ("POST", "Handshake", 204, "r-7"),
        ("POST", "UpdateGroupCapacityForecast", 404, "r-8"),
        ("DELETE", "Register", 503, None),
    ]
    assert told[0]["correlation_id"] == "c-9"
    assert told[0]["url"] == BASE_PATH + "/handshake"
    assert told[2]["duration_ms"] >= 100
    assert {event.subject_id for event in side.broker.exchanges} == {"vector"}
    assert "no such group_id" in side.broker.exchanges[1].words
    assert len({event.event_id for event in side.broker.exchanges}) == 3
    run(side.post("/handshake", {}, request_id=None))
    assert json.loads(side.broker.exchanges[-1].data)["request_id"] == side.broker.inbound[-1].request_id


def test_who_is_not_let_in_is_told_of_at_once_and_then_once_a_minute():
    side = Side()
    for token in ["Token nobody"] * 5 + [None]:
        run(side.post("/heartbeat", {}, token=token))
    first, other = side.broker.strangers
    assert (first.kind, first.subject_kind, first.severity) == ("stranger.refused", "SYSTEM", "WARNING")
    assert "192.0.2.7 calls /oscp/fp/2.0/heartbeat with a token that is not valid" in first.words
    assert "without a token" in other.words
    side.wall_s += 60
    run(side.post("/heartbeat", {}, token="Token nobody"))
    assert "5 times since" in side.broker.strangers[-1].words
    assert not any("nobody" in event.model_dump_json() for event in side.broker.strangers)


def test_a_partner_above_its_rate_is_on_its_timeline_but_not_with_each_request():
    side = Side(inbound_rate=1)
    codes = [run(side.post("/handshake", {})).status_code for _ in range(6)]
    assert codes == [204, 204, 429, 429, 429, 429]
    assert [json.loads(event.data)["status"] for event in side.broker.exchanges] == [204, 204, 429]
    side.wall_s += 60
    [run(side.post("/handshake", {})) for _ in range(3)]
    assert "as 3 before it" in side.broker.exchanges[-1].words
    assert not side.broker.strangers


def test_a_broker_that_is_away_keeps_no_answer_waiting_for_the_record():
    side = Side()
    side.broker.away = Unavailable("away")
    assert run(side.post("/handshake", {})).status_code == 503
    side.broker.away = None
    assert run(side.post("/handshake", {})).status_code == 204
    assert len(side.broker.exchanges) == 1
