"""The timeline by the operations API: parts, filters, single exchanges, and no secret in any answer."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Role
from schemas.config import Configuration
from schemas.units import rfc3339
from tests.gateway import story
from tests.gateway.exchanges import OUR_CAUSE, PEER_TOKEN, asked, came, owed, sent, told
from tests.gateway.facts import NOW, connection, record
from tests.gateway.operations_world import World, problem

PATH = "/api/v1/partners/vector/timeline"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, records=[record(connection()), *told()])


def got(world: World, path: str, status: int = 200) -> dict[str, Any]:
    answer = world.ask("GET", path, Role.VIEWER)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_newest_comes_first_with_all_that_is_known(world: World) -> None:
    items = got(world, PATH)["items"]
    assert [item["at"] for item in items] == sorted((item["at"] for item in items), reverse=True)
    newest = items[0]
    assert newest["kind"] == "exchange"
    assert newest["body_kept"] is True
    assert newest["exchange"] == {
        "at": rfc3339(NOW - timedelta(seconds=59)),
        "direction": "out",
        "action": "UpdateAssetMeasurements",
        "method": "POST",
        "url": "https://cp.example/oscp/cp/2.0/updateassetmeasurements",
        "status": 403,
        "duration_ms": 41,
        "request_id": newest["request_id"],
        "correlation_id": None,
        "outcome": "HELD",
        "attempt": 1,
        "words": "the partner does not accept our token",
    }
    event = next(item for item in items if item["kind"] == "message.refused")
    assert (event["severity"], event["exchange"]) == ("WARNING", None)


def test_filters_and_heartbeats(world: World) -> None:
    everything = got(world, PATH)["items"]
    exchanges, transitions = (got(world, f"{PATH}?kind={kind}")["items"] for kind in ("exchanges", "transitions"))
    assert len(exchanges) + len(transitions) == len(everything)
    assert all(item["exchange"] for item in exchanges)
    assert not any(item["exchange"] for item in transitions)
    beats = got(world, f"{PATH}?heartbeats=true&limit=1000")["items"]
    assert len(beats) == len(everything) + 12


def test_parts_go_on_where_the_one_before_ended(world: World) -> None:
    whole, found, before = got(world, f"{PATH}?limit=1000")["items"], [], ""
    for _ in range(100):
        part = got(world, f"{PATH}?limit=4{before}")
        found += part["items"]
        if part["next"] is None:
            break
        before = f"&before={part['next']}"
    assert found == whole
    refused = problem(world.ask("GET", f"{PATH}?before=nonsense", Role.VIEWER), 400)
    assert refused["errors"][0]["path"] == "before"


def test_an_exchange_has_all_its_attempts_its_headers_and_its_bodies(world: World) -> None:
    line = next(item for item in got(world, PATH)["items"] if item["exchange"] and item["exchange"]["attempt"] == 2)
    found = got(world, f"/api/v1/partners/vector/exchanges/{line['request_id']}")
    assert [(each["attempt"], each["status"], each["outcome"]) for each in found["attempts"]] == [(1, None, "RETRY"), (2, 204, "DELIVERED")]
    (message,) = found["messages"]
    assert message["headers"] == {"X-Request-ID": line["request_id"], "X-Correlation-ID": "req-register"}
    assert message["body"]["version_url"][0]["version"] == "2.0"
    assert message["body"]["token"] == "(removed)"
    (theirs,) = got(world, "/api/v1/partners/vector/exchanges/req-register")["messages"]
    assert (theirs["direction"], theirs["body"]["token"]) == ("in", "(removed)")


def test_a_refused_request_has_no_body_and_a_message_not_tried_no_attempt(world: World) -> None:
    assert got(world, "/api/v1/partners/vector/exchanges/req-wrong-0")["messages"] == []
    waiting = owed(NOW, "Handshake", {})
    world.projection.take([record(waiting)])
    assert got(world, f"/api/v1/partners/vector/exchanges/{waiting.message_id}")["attempts"] == []


def test_no_answer_holds_a_secret(world: World) -> None:
    texts = [world.ask("GET", f"{PATH}?heartbeats=true&limit=1000", Role.VIEWER).text]
    for item in got(world, f"{PATH}?limit=1000")["items"]:
        if item["request_id"]:
            texts.append(world.ask("GET", f"/api/v1/partners/vector/exchanges/{item['request_id']}", Role.VIEWER).text)
    assert len(texts) > 5
    for text in texts:
        for secret in (PEER_TOKEN, OUR_CAUSE, "$token", world.secrets.key_id, connection().peer_token or "-"):
            assert secret not in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/partners/nobody/timeline", 404),
        ("/api/v1/partners/nobody/exchanges/x", 404),
        ("/api/v1/partners/vector/exchanges/never", 404),
        (f"{PATH}?limit=0", 400),
        (f"{PATH}?kind=none", 400),
    ],
)
def test_refusals_are_problems(world: World, path: str, status: int) -> None:
    problem(world.ask("GET", path, Role.VIEWER), status)


def test_only_readers_read(world: World) -> None:
    problem(world.ask("GET", PATH), 401)
    problem(world.ask("GET", PATH, Role.PRODUCER), 403)


def test_ids_may_hold_slashes(tmp_path: Path) -> None:
    plain = story.configuration().model_dump(mode="json")
    plain["partners"].append({"id": "north/vector", "name": ""})
    message = owed(NOW, "Handshake", {}, partner_id="north/vector")
    values = [asked(NOW, "Handshake", "a/b c", partner_id="north/vector"), came(NOW, "Handshake", "a/b c", {}, partner_id="north/vector")]
    records = [record(value) for value in (*values, message, sent(message))]
    world = World(tmp_path, configuration=Configuration.model_validate(plain), records=records)
    assert got(world, "/api/v1/partners/north/vector")["id"] == "north/vector"
    assert len(got(world, "/api/v1/partners/north/vector/timeline")["items"]) == 2
    assert len(got(world, "/api/v1/partners/north/vector/exchanges/a/b%20c")["messages"]) == 1
