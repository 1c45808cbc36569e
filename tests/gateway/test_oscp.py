"""The OSCP listener: who is let in, what is taken, what is refused and in which words (semantics 6)."""

import asyncio
import json
import logging
from datetime import timedelta

import pytest

from gateway.oscp_auth import PAUSE_S
from schemas.connection import InboundMessage
from schemas.facts import digest
from schemas.oscp.v20 import BASE_PATH, PATHS, Action
from sinks.errors import Refused, Unavailable
from tests.builders import configuration
from tests.gateway.oscp_side import PEER_URL, TOKEN, Side, block, connection, forecast_body, register_body


def run(coroutine):
    return asyncio.run(coroutine)


def refused(answer, status: int, words: str = "") -> dict:
    """A refusal: its status, OSCP's error body, `words` in it."""
    body = answer.json()
    assert answer.status_code == status, body
    assert isinstance(body["message"], str)
    assert words in json.dumps(body)
    return body


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


# Who ---------------------------------------------------------------------------------------------------------------------


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


# Register ------------------------------------------------------------------------------------------------------------------


def test_a_registration_is_kept_with_the_peers_token_as_ciphertext_and_nothing_else_of_it():
    side = Side()
    assert run(side.post("/register", {**register_body("B-secret"), "other": "B-secret"})).status_code == 204
    kept = json.loads(side.broker.inbound[0].body)
    assert kept == {"token": "sealed(8) for vector", "version_url": [{"version": "2.0", "base_url": PEER_URL}]}


def test_the_version_must_be_among_those_offered():
    body = register_body(version="1.0")
    answer = run(Side().post("/register", body))
    refused(answer, 501, "2.0")
    assert "2.0" in answer.headers["X-Error-Message"]
    body["version_url"].append({"version": "2.0", "base_url": "https://new.example/"})
    side = Side()
    assert run(side.post("/register", body)).status_code == 204
    assert json.loads(side.broker.inbound[0].body)["version_url"] == [{"version": "2.0", "base_url": "https://new.example"}]


@pytest.mark.parametrize(
    ("url", "known", "expected"),
    [
        ("https://cp.example/oscp/", None, "https://cp.example/oscp"),
        ("/oscp/v2/", "https://cp.example:8443/oscp/cp/2.0", "https://cp.example:8443/oscp/v2"),
        ("/", "https://cp.example/oscp", "https://cp.example"),
    ],
)
def test_a_base_url_is_absolute_without_its_trailing_slash(url, known, expected):
    side = Side(connection("vector", TOKEN, peer_base_url=known))
    assert run(side.post("/register", register_body(url=url))).status_code == 204
    assert json.loads(side.broker.inbound[0].body)["version_url"][0]["base_url"] == expected


def test_a_path_alone_needs_a_known_origin():
    side = Side(connection("vector", TOKEN))
    refused(run(side.post("/register", register_body(url="/oscp"))), 400, "origin")
    configured = Side(connection("vector", TOKEN), base_url="https://conf.example/x")
    assert run(configured.post("/register", register_body(url="/oscp"))).status_code == 204
    assert "https://conf.example/oscp" in configured.broker.inbound[0].body


def test_addresses_are_judged_and_plain_http_needs_the_partners_permission():
    strict = Side(allow_private_addresses=False)
    refused(run(strict.post("/register", register_body(url="http://cp.example/x"))), 400, "https")
    strict.verdict = Refused(0, "cp.example is a private address")
    refused(run(strict.post("/register", register_body())), 400, "private")
    assert strict.resolved == [("cp.example", 443, False)]
    lenient = Side()
    assert run(lenient.post("/register", register_body(url="http://127.0.0.1:9000/x"))).status_code == 204
    assert lenient.resolved == [("127.0.0.1", 9000, True)]
    lenient.verdict = Unavailable("no such name now")
    assert run(lenient.post("/register", register_body())).status_code == 204


@pytest.mark.parametrize(("method", "body"), [("PUT", register_body()), ("DELETE", None), ("DELETE", register_body())])
def test_put_and_delete_are_answered_once_the_connections_show_their_effect(method, body):
    side = Side()

    def effect(message: InboundMessage) -> None:
        side.connections.known = {"vector": connection("vector", TOKEN, taken=[message.repeat_key])}

    side.broker.effect = effect
    assert run(side.send(method, "/register", body)).status_code == 204
    assert side.broker.inbound[0].method == method
    if method == "DELETE":
        assert side.broker.inbound[0].body == "{}"


@pytest.mark.parametrize(("method", "body"), [("PUT", register_body()), ("DELETE", None)])
def test_put_and_delete_without_effect_are_503(method, body):
    refused(run(Side().send(method, "/register", body)), 503)


def test_no_token_is_said_anywhere(caplog):
    caplog.set_level(logging.DEBUG)
    side = Side()
    side.broker.effect = lambda message: 1 / 0
    run(side.post("/register", register_body("B-secret")))
    run(side.post("/register", {"token": "B-secret", "version_url": "B-secret"}))
    run(side.post("/register", register_body("B-secret"), token="Token A-secret"))
    run(side.post("/register", content=b'{"token":"B-secret"'))
    said = [message.model_dump_json() for message in [*side.broker.inbound, *side.broker.events, *side.broker.exchanges]]
    assert "secret" not in " ".join(said)
    assert "secret" not in caplog.text


def test_the_document_names_every_path_and_message():
    document = Side().app.openapi()
    assert set(document["paths"]) == {BASE_PATH + PATHS[action] for action in list(Action)[:5]}
    assert set(document["paths"][f"{BASE_PATH}/register"]) == {"post", "put", "delete"}
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas
    assert document["servers"] == [{"url": "https://derms.example"}]
