"""The OSCP listener: what is taken, what is refused and in which words (semantics 6.4 to 6.7)."""

import json
from datetime import timedelta

import pytest

from schemas.facts import digest
from sinks.errors import Refused, Unavailable
from tests.gateway.oscp_side import PEER_URL, TOKEN, Side, block, connection, forecast_body, refused, register_body, run

# Taken -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "action", "body"),
    [
        ("/handshake", "Handshake", {}),
        ("/handshake", "Handshake", {"required_behaviour": {"measurement_configuration": [], "heartbeat_interval": 60}}),
        ("/handshake", "Handshake", {"measurement_configuration": ["CONTINUOUS"]}),
        ("/heartbeat", "Heartbeat", {"offline_mode_at": "2026-10-20T11:00:00.5+13:00"}),
        ("/register", "Register", register_body()),
        ("/update_group_capacity_forecast", "UpdateGroupCapacityForecast", forecast_body(type="OPTIMUM", extra={"a": [None]})),
    ],
)
def test_a_message_is_kept_and_then_answered_with_an_empty_204(path, action, body):
    side = Side()
    answer = run(side.post(path, body, headers={"X-Correlation-ID": "c-1"}))
    assert (answer.status_code, answer.content) == (204, b"")
    (message,) = side.broker.inbound
    assert message.action == action
    assert (message.request_id, message.correlation_id, message.method) == ("r-1", "c-1", "POST")
    assert message.received_at == side.clock.now()
    assert message.credential_digest == digest(TOKEN)
    assert message.body_digest == digest(json.dumps(body))
    assert message.group_id == ("VEC-0001" if "group_id" in body else None)
    if action != "Register":
        assert json.loads(message.body) == body
    assert side.broker.events == []


@pytest.mark.parametrize("path", ["/handshake_acknowledge", "/handshake_acknowledgment", "/handshake_acknowledgement"])
@pytest.mark.parametrize("body", [{}, {"required_behaviour": {}}, {"required_behaviour": {"heartbeat_interval": 30}}])
def test_acknowledgements_are_taken_under_every_spelling_and_as_known_peers_write_them(path, body):
    side = Side(connection("vector", TOKEN, handshake_id="h-1"))
    assert run(side.post(path, body)).status_code == 204
    assert side.broker.inbound[0].action == "HandshakeAcknowledge"


@pytest.mark.parametrize("path", ["//heartbeat", "/heartbeat/"])
def test_a_slash_too_many_means_the_path_itself(path):
    side = Side()
    assert run(side.post(path, {"offline_mode_at": "2026-10-20T11:00:00Z"})).status_code == 204


def test_the_same_message_sent_again_is_known_by_its_key_and_another_body_has_another():
    side = Side()
    bodies = [forecast_body(), forecast_body(), forecast_body(type="GENERATION")]
    for body in bodies:
        assert run(side.post("/update_group_capacity_forecast", body)).status_code == 204
        side.clock.advance(timedelta(seconds=5))
    keys = [message.repeat_key for message in side.broker.inbound]
    assert keys[0] == keys[1] != keys[2]
    assert len({message.event_id for message in side.broker.inbound}) == 3


def test_a_missing_request_id_is_made_and_a_warning_recorded():
    side = Side()
    for _ in range(2):
        assert run(side.post("/handshake", {}, request_id=None)).status_code == 204
    ids = {message.request_id for message in side.broker.inbound}
    assert len(ids) == 2
    assert [event.kind for event in side.broker.events] == ["request-id.missing"] * 2
    assert {event.severity for event in side.broker.events} == {"WARNING"}


def test_naive_times_are_read_from_peers_known_to_send_them_only():
    body = {"offline_mode_at": "2026-10-20 11:00:00"}
    side = Side(legacy=["NAIVE_HEARTBEAT_TIME"])
    assert run(side.post("/heartbeat", body)).status_code == 204
    assert json.loads(side.broker.inbound[0].body) == {"offline_mode_at": "2026-10-20T11:00:00.000Z"}
    refused(run(Side().post("/heartbeat", body)), 400, "offline_mode_at")


# What --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({}, "group_id", "required"),
        (forecast_body(type="consumption"), "type", "CONSUMPTION"),
        (forecast_body(forecasted_blocks=[]), "forecasted_blocks", "at least 1"),
        (forecast_body(forecasted_blocks=[block(), block(capacity=-1)]), "forecasted_blocks[1].capacity", "greater than or equal to 0"),
        (forecast_body(forecasted_blocks=[block(capacity="10")]), "forecasted_blocks[0].capacity", "number"),
        (forecast_body(forecasted_blocks=[block(capacity=None)]), "forecasted_blocks[0]", "null"),
        (forecast_body(forecasted_blocks=[block(unit="EUR")]), "forecasted_blocks[0].unit", "KWH"),
        (forecast_body(forecasted_blocks=[block(end_time="2026-10-20T10:00:00Z")]), "forecasted_blocks[0]", "after start_time"),
        (forecast_body(forecasted_blocks=[block(start_time="2026-10-20T10:00:00")]), "forecasted_blocks[0].start_time", "zone"),
        (forecast_body(forecasted_blocks=[block(start_time=1760954400)]), "forecasted_blocks[0].start_time", "RFC 3339"),
        (forecast_body(forecasted_blocks=[block(end_time="9999-12-31T23:59:59-14:00")]), "forecasted_blocks[0].end_time", "9999"),
        (forecast_body(forecasted_blocks=[0] * 10_001), "forecasted_blocks", "10000"),
    ],
)
def test_a_bad_forecast_is_refused_with_the_field_and_the_rule(body, path, words):
    side = Side()
    found = refused(run(side.post("/update_group_capacity_forecast", body)), 400, words)
    assert path in [error["path"] for error in found["errors"]]
    assert path in found["message"]
    assert side.broker.inbound == []
    assert [event.kind for event in side.broker.events] == ["message.refused"]
    assert path in side.broker.events[0].words


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/handshake", {"required_behaviour": {}}, "required_behaviour.measurement_configuration"),
        ("/handshake", {"required_behaviour": None}, ""),
        ("/handshake", {"heartbeat_interval": 0.5}, "required_behaviour.heartbeat_interval"),
        ("/handshake", {"measurement_configuration": ["CONTINUOUS", "CONTINUOUS"]}, "required_behaviour.measurement_configuration"),
        ("/heartbeat", {}, "offline_mode_at"),
        ("/heartbeat", {"offline_mode_at": "nonsense"}, "offline_mode_at"),
        ("/register", {"token": "B"}, "version_url"),
        ("/register", {"token": "", "version_url": [{"version": "2.0", "base_url": PEER_URL}]}, "token"),
        ("/register", register_body("two words"), "token"),
        ("/register", register_body("snow☃"), "token"),
        ("/register", register_body(url="cp.example"), "version_url[0].base_url"),
        ("/register", register_body(url="ftp://cp.example"), "version_url[0].base_url"),
        ("/register", register_body(url="https://user:pw@cp.example/x"), "version_url[0].base_url"),
        ("/register", register_body(url="https://cp.example:99999/x"), "version_url[0].base_url"),
        ("/register", register_body(url="https://[::1/x"), "version_url[0].base_url"),
        ("/register", register_body(url="https://cp.exa\x00mple/x"), "version_url[0].base_url"),
        ("/register", register_body(url="https://" + "a" * 3000), "version_url[0].base_url"),
    ],
)
def test_other_bad_bodies_are_refused_with_their_field(path, body, field):
    found = refused(run(Side().post(path, body)), 400)
    assert field in [error["path"] for error in found["errors"]]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"1", b'"x"', b"null", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1e999}', b"\xff\xfe", b"[" * 100_000,
     b'{"a":' * 500 + b"1" + b"}" * 500, b'{"a":"\\ud800"}', b'{"required_behaviour":"x"}'],
)  # fmt: skip
def test_what_is_no_json_object_is_400(content):
    side = Side()
    refused(run(side.post("/handshake", content=content)), 400)
    assert side.broker.inbound == []


def test_a_key_given_twice_is_no_mistake():
    side = Side()
    assert run(side.post("/heartbeat", content=b'{"offline_mode_at":"x","offline_mode_at":"2026-10-20T11:00:00Z"}')).status_code == 204
    assert json.loads(side.broker.inbound[0].body) == {"offline_mode_at": "2026-10-20T11:00:00Z"}


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_one_mebibyte_is_refused_while_it_is_read(announced):
    side, read = Side(), 0

    async def chunks():
        nonlocal read
        for _ in range(64):
            read += 1 << 16
            yield b" " * (1 << 16)

    content = b" " * (2 << 20) if announced else chunks()
    refused(run(side.post("/handshake", content=content)), 413, "1048576")
    assert read <= (1 << 20) + (1 << 16)


def test_a_body_of_exactly_one_mebibyte_is_taken():
    body = b'{"pad":"' + b"x" * ((1 << 20) - 10) + b'"}'
    assert run(Side().post("/handshake", content=body)).status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_what_is_not_plain_json_is_415(headers):
    refused(run(Side().post("/handshake", {}, headers=headers)), 415, "application/json")


@pytest.mark.parametrize("kind", ["application/json;charset=UTF-8", 'Application/JSON; charset="utf-8"'])
def test_json_with_its_charset_is_taken(kind):
    assert run(Side().post("/handshake", {}, headers={"Content-Type": kind})).status_code == 204


@pytest.mark.parametrize("name", ["X-Request-ID", "X-Correlation-ID"])
def test_ids_are_any_short_printable_text(name):
    assert run(Side().post("/handshake", {}, headers={name: "né".encode("ascii", "ignore").decode() + " /+=~"})).status_code == 204
    refused(run(Side().post("/handshake", {}, headers={name: "x" * 257})), 400, name)


@pytest.mark.parametrize("path", ["", "/", "/nothing", "/update_asset_measurements", "/register/more"])
def test_another_path_is_404_with_a_message(path):
    refused(run(Side().post(path, {})), 404)


def test_another_method_is_405_with_those_there_are():
    for method, path, allow in [("GET", "/register", "POST, PUT, DELETE"), ("DELETE", "/heartbeat", "POST"), ("PUT", "/handshake", "POST")]:
        answer = run(Side().send(method, path))
        refused(answer, 405)
        assert answer.headers["Allow"] == allow


def test_an_acknowledgement_nobody_waits_for_is_409_unless_it_was_taken_before():
    side = Side(connection("vector", TOKEN))
    refused(run(side.post("/handshake_acknowledge", {})), 409)
    assert side.connections.asked == 2  # once to be sure of its token
    waiting = Side(connection("vector", TOKEN, handshake_id="h"))
    assert run(waiting.post("/handshake_acknowledge", {})).status_code == 204
    again = Side(connection("vector", TOKEN, taken=[waiting.broker.inbound[0].repeat_key]))
    assert run(again.post("/handshake_acknowledge", {})).status_code == 204


def test_while_kafka_does_not_take_the_message_it_is_503_with_retry_after():
    side = Side()
    side.broker.away = Unavailable("no broker", 7.0)
    answer = run(side.post("/handshake", {}))
    refused(answer, 503)
    assert answer.headers["Retry-After"] == "7"
    side.broker.away = Refused(413, "too large")
    refused(run(side.post("/handshake", {})), 413)


def test_before_the_connections_have_been_read_it_is_503():
    side = Side()

    def unread():
        raise Unavailable("derms.connections has not been read to its end yet", 1.0)

    side.connections.current = unread
    refused(run(side.post("/handshake", {})), 503)


def test_a_defect_of_ours_is_500_without_details():
    side = Side()
    side.broker.effect = lambda message: 1 / 0
    refused(run(side.post("/handshake", {})), 500)
