"""The OSCP listener: registrations, and what is never said (semantics 6.2, 6.3, 6.7)."""

import json
import logging

import pytest

from schemas.connection import InboundMessage
from schemas.oscp.v20 import BASE_PATH, PATHS, Action
from sinks.errors import Refused, Unavailable
from tests.gateway.oscp_side import PEER_URL, TOKEN, Side, connection, refused, register_body, run


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
