"""The operations API: what it shows, what it appends, and how it refuses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Role
from gateway.operations import openapi_document
from schemas.compliance import Verdict
from schemas.connection import CommandKind, Connection
from schemas.facts import Value, digest
from schemas.topics import COMMANDS
from schemas.units import Phase
from tests.gateway import story
from tests.gateway.facts import NOW, record
from tests.gateway.operations_world import World, problem

BLOCK = {"capacity": 2.5, "phase": "ALL", "unit": "KW", "start_time": "2007-06-09T20:00:00.000Z", "end_time": "2007-06-09T21:00:00.000Z"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# what it shows


def test_partners_are_shown_without_any_credential(world: World) -> None:
    answer = world.ask("GET", "/api/v1/partners", Role.VIEWER)
    (partner,) = answer.json()["items"]
    assert partner["state"] == "ONLINE"
    assert partner["last_heartbeat_received_at"] == "2007-06-09T18:24:50.000Z"
    assert partner["heartbeat_asked_of_us_s"] == 300
    for secret in ("ciphertext", "credentials", "digest", "0" * 64):
        assert secret not in answer.text
    assert world.ask("GET", "/api/v1/partners/vector", Role.VIEWER).json() == partner


def test_a_scope_has_its_limits_quarters_and_running_quarter(world: World) -> None:
    found = world.ask("GET", "/api/v1/scopes/sceaux-house", Role.VIEWER).json()
    assert found["running_import"]["allowed_w"] == 1100
    assert found["running_import"]["projected_w"] == pytest.approx(1050 + 1432 * 210 / 900)
    assert found["running_import"]["over"] is True
    assert found["running_quarter"]["provisional"] is True
    assert [piece["import_limit_w"] for piece in found["envelope"]["pieces"]] == [4000, 2500, 3500, 1100, 3500]
    assert len(found["quarter_hours"]) == 40
    assert len(found["open_breaches"]) == 1


def test_a_circuit_has_what_is_available_now_and_next(world: World) -> None:
    (circuit,) = world.ask("GET", "/api/v1/circuits", Role.VIEWER).json()["items"]
    assert circuit["now"]["available_import_w"] == 1100
    assert circuit["rated_import_w"] == 9000
    assert circuit["next"] == {"at": "2007-06-09T20:30:00.000Z", "available_import_w": 3500, "available_export_w": 3000}


def test_quarter_hours_can_be_narrowed(world: World) -> None:
    query = {"level": "ASSET", "id": "house-kitchen", "from": "2007-06-09T17:00:00Z", "to": "2007-06-09T18:00:00Z"}
    rows = world.ask("GET", "/api/v1/quarter-hours", Role.VIEWER, params=query).json()["items"]
    assert [row["start"][11:16] for row in rows] == ["17:45", "17:30", "17:15", "17:00"]
    provisional = world.ask("GET", "/api/v1/quarter-hours", Role.VIEWER, params={"level": "GROUP", "provisional": "true", "limit": "1"})
    assert provisional.json()["items"][0]["provisional"] is True


def test_lists_of_what_happened(world: World) -> None:
    def items(path: str) -> list[dict[str, Any]]:
        return list(world.ask("GET", f"/api/v1/{path}", Role.VIEWER).json()["items"])

    assert [breach["state"] for breach in items("breaches?state=open")] == ["CONTINUED"]
    assert items("breaches?state=closed") == []
    whole = items("verdicts?direction=IMPORT")
    assert {verdict["verdict"] for verdict in whole} == {"WITHIN", "BREACHED"}
    assert items("verdicts?phase=TWO") == []
    one = Verdict.model_validate(whole[0]).model_copy(update={"phase": Phase.TWO})
    world.projection.take([record(one, 10_000)])
    assert [verdict["phase"] for verdict in items("verdicts?phase=TWO")] == ["TWO"]
    assert items("verdicts?direction=IMPORT") == whole
    errors = items("messages?action=GroupCapacityComplianceError")
    assert {message["correlation_id"] for message in errors} == {story.EMERGENCY}
    assert {message["outcome"] for message in errors} == {"DELIVERED"}
    assert items("deliveries?outcome=REFUSED") == []
    assert len(items("deliveries")) == 47
    letters = world.ask("GET", "/api/v1/dead-letters", Role.VIEWER).json()
    assert letters["counts"] == {"unknown asset": 15, "not a finite number": 1}
    assert letters["items"][0]["size"] == 1
    assert items("groups")[0]["group_id"] == "VEC-0001"
    assert items("inbound") == []


def test_a_messages_body_is_shown_without_its_token(tmp_path: Path) -> None:
    from tests.gateway.facts import message, record

    body = json.dumps({"token": {"$token": "some-cause"}, "version_url": [{"version": "2.0", "base_url": "https://x"}]})
    owed = message("Register", NOW, body=body)
    world = World(tmp_path, records=[record(owed)])
    found = world.ask("GET", f"/api/v1/messages/{owed.message_id}", Role.VIEWER)
    assert found.json()["body"] == {"token": "(removed)", "version_url": [{"version": "2.0", "base_url": "https://x"}]}
    assert "some-cause" not in found.text
    problem(world.ask("GET", "/api/v1/messages/none", Role.VIEWER), 404)


def test_secrets_deep_in_a_messages_body_are_not_shown_either(tmp_path: Path) -> None:
    from tests.gateway.facts import message, record

    body = {
        "token": "a",
        "extra": [{"access_token": "s3same"}],
        "version_url": [{"base_url": "https://u:hunter2@cp.example/x?key=s3cr3tkey"}],
    }
    owed = message("Register", NOW, body=json.dumps(body))
    found = World(tmp_path, records=[record(owed)]).ask("GET", f"/api/v1/messages/{owed.message_id}", Role.VIEWER)
    assert found.json()["body"]["version_url"] == [{"base_url": "https://(removed)@cp.example/x?(removed)"}]
    for secret in ("s3same", "hunter2", "s3cr3tkey"):
        assert secret not in found.text


def test_status_says_how_far_event_time_is(world: World) -> None:
    found = world.ask("GET", "/api/v1/status", Role.VIEWER).json()
    assert found["clock"] == {"now": "2007-06-09T18:26:40.000Z", "speed": 1}
    assert found["event_time_lag_s"] == 11 * 60 + 40
    assert found["open_breaches"] == 1
    assert found["dead_letters"] == 16


# what operators ask


def test_a_registration_token_is_shown_once_the_connection_knows_it(world: World) -> None:
    world.lifecycle_answers()
    answer = world.ask("POST", "/api/v1/partners/vector/token", Role.OPERATOR)
    assert answer.status_code == 201
    (command,) = world.appender.values(COMMANDS)
    token = answer.json()["token"]
    assert command.kind is CommandKind.ISSUE_TOKEN
    assert command.by == "operator-1"
    assert token == world.secrets.token("vector", command.event_id)
    assert digest(token) == world.connections.known["vector"].credentials[0].digest
    assert answer.headers["cache-control"] == "no-store"
    assert token not in command.model_dump_json()


def test_a_broker_that_is_slow_for_a_moment_is_waited_for_and_asked_nothing(world: World) -> None:
    """Its answer would be waited for by partners' requests, too."""
    world.lifecycle_answers()
    answers, current = world.appender.then, world.connections.current
    late: list[tuple[str, Value]] = []
    looks = 0
    world.appender.then = lambda key, value: late.append((key, value))

    def slowly() -> Mapping[str, Connection]:
        nonlocal looks
        looks += 1
        if looks == 4:
            answers(*late[0])
        return current()

    world.connections.away = True
    world.connections.current = slowly  # type: ignore[method-assign]
    answer = world.ask("POST", "/api/v1/partners/vector/token", Role.OPERATOR)
    assert answer.status_code == 201
    assert looks >= 4
    assert world.connections.caught_up == 0


def test_a_broker_that_stays_away_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api_partners.TOKEN_WITHIN_S", 0.1)
    world.connections.away = True
    assert "the broker does not answer" in problem(world.ask("POST", "/api/v1/partners/vector/token", Role.OPERATOR), 503)["detail"]


def test_without_a_lifecycle_no_token_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api_partners.TOKEN_WITHIN_S", 0.1)
    answer = world.ask("POST", "/api/v1/partners/vector/token", Role.OPERATOR)
    assert "lifecycle" in problem(answer, 503)["detail"]
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("action", ["handshake", "suspend", "resume", "deregister", "register"])
def test_requests_become_commands(world: World, action: str) -> None:
    answer = world.ask("POST", f"/api/v1/partners/vector/{action}", Role.OPERATOR)
    assert answer.status_code == 202
    (command,) = world.appender.values(COMMANDS)
    assert command.kind == action.upper()
    assert (command.at, command.by, command.partner_id) == (NOW, "operator-1", "vector")
    assert answer.json()["id"] == command.event_id
    problem(world.ask("POST", f"/api/v1/partners/nobody/{action}", Role.OPERATOR), 404)


def test_a_partners_first_token_travels_as_ciphertext(world: World) -> None:
    body = {"base_url": "https://cp.example/oscp/cp/2.0", "token": "token-of-the-peer"}
    answer = world.ask("POST", "/api/v1/partners/vector/register", Role.OPERATOR, json=body)
    assert answer.status_code == 202
    assert "peer_token" not in answer.text
    (command,) = world.appender.values(COMMANDS)
    payload = json.loads(command.payload)
    assert "token-of-the-peer" not in command.payload
    assert payload["base_url"] == "https://cp.example/oscp/cp/2.0"
    assert world.secrets.decrypt(payload["peer_token"], "vector") == "token-of-the-peer"
    problem(world.ask("POST", "/api/v1/partners/vector/register", Role.OPERATOR, json={"base_url": "ftp://x"}), 400)


@pytest.mark.parametrize(
    ("base_url", "cure"),
    [
        ("https://user:hunter2@cp.example/oscp?key=s3cr3tkey", "give credentials in files"),
        ("https://cp.example/oscp?key=s3cr3tkey", "leave out what follows the path"),
        ("https://cp.example/oscp#s3cr3tkey", "leave out what follows the path"),
        ("http://cp.example/s3cr3tkey", "allow_private_addresses: true"),
        ("https://10.0.0.7/s3cr3tkey", "allow_private_addresses: true"),
        ("https://[::1/s3cr3tkey", "is not a URL"),
    ],
)
def test_an_address_that_could_not_be_configured_is_not_registered_with(world: World, base_url: str, cure: str) -> None:
    answer = world.ask("POST", "/api/v1/partners/vector/register", Role.OPERATOR, json={"base_url": base_url})
    found = problem(answer, 400)
    assert found["title"] == "Invalid body"
    assert [one["path"] for one in found["errors"]] == ["base_url"]
    assert found["detail"].startswith("base_url: ")
    assert cure in found["detail"]
    assert "hunter2" not in answer.text
    assert "s3cr3tkey" not in answer.text
    assert world.appender.appended == []


def test_a_private_address_is_registered_with_where_the_partner_may_have_one(tmp_path: Path) -> None:
    partners = [{"id": "vector", "allow_private_addresses": True}]
    configuration = type(story.configuration()).model_validate({**story.configuration().model_dump(), "partners": partners})
    world = World(tmp_path, configuration=configuration)
    answer = world.ask("POST", "/api/v1/partners/vector/register", Role.OPERATOR, json={"base_url": "http://127.0.0.1:9000/cp"})
    assert answer.status_code == 202
    assert answer.json()["payload"] == {"base_url": "http://127.0.0.1:9000/cp"}


def test_the_configured_token_file_is_used_and_missed(tmp_path: Path) -> None:
    file = tmp_path / "initial-token"
    partners = [{"id": "vector", "base_url": "https://cp.example", "initial_token_file": str(file)}]
    configuration = type(story.configuration()).model_validate({**story.configuration().model_dump(), "partners": partners})
    world = World(tmp_path, configuration=configuration)
    missing = problem(world.ask("POST", "/api/v1/partners/vector/register", Role.OPERATOR), 409)
    assert "initial_token_file" in missing["detail"]
    file.write_text("from-the-file\n")
    assert world.ask("POST", "/api/v1/partners/vector/register", Role.OPERATOR).status_code == 202
    (command,) = world.appender.values(COMMANDS)
    assert world.secrets.decrypt(json.loads(command.payload)["peer_token"], "vector") == "from-the-file"


def test_an_adjustment_is_checked_as_oscp_has_it(world: World) -> None:
    wish = {"partner_id": "vector", "group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": [BLOCK]}
    assert world.ask("POST", "/api/v1/commands/adjust", Role.OPERATOR, json=wish).status_code == 202
    (command,) = world.appender.values(COMMANDS)
    assert command.kind is CommandKind.ADJUST
    assert command.group_id == "VEC-0001"
    assert json.loads(command.payload) == {"type": "CONSUMPTION", "forecasted_blocks": [BLOCK]}
    wrong = {**wish, "forecasted_blocks": [BLOCK, {**BLOCK, "capacity": -1}]}
    found = problem(world.ask("POST", "/api/v1/commands/adjust", Role.OPERATOR, json=wrong), 400)
    assert found["errors"][0]["path"] == "forecasted_blocks[1].capacity"
    problem(world.ask("POST", "/api/v1/commands/adjust", Role.OPERATOR, json={**wish, "group_id": "VEC-9"}), 404)
    assert len(world.appender.appended) == 1


def test_a_compliance_error_names_the_forecast(world: World) -> None:
    body = {"partner_id": "vector", "group_id": "VEC-0001", "forecast": story.EMERGENCY, "message": "cannot go below 1.4 kW"}
    assert world.ask("POST", "/api/v1/commands/compliance-error", Role.OPERATOR, json=body).status_code == 202
    (command,) = world.appender.values(COMMANDS)
    assert json.loads(command.payload) == {"forecast": story.EMERGENCY, "message": "cannot go below 1.4 kW"}


# how it refuses


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/api/v1/scopes/none", 404),
        ("GET", "/api/v1/circuits/none", 404),
        ("GET", "/api/v1/groups/none", 404),
        ("GET", "/api/v1/partners/none", 404),
        ("DELETE", "/api/v1/status", 405),
        ("GET", "/api/v1/quarter-hours?limit=0", 400),
        ("GET", "/api/v1/quarter-hours?from=yesterday", 400),
        ("GET", "/api/v1/breaches?state=odd", 400),
    ],
)
def test_refusals_are_problems(world: World, method: str, path: str, status: int) -> None:
    problem(world.ask(method, path, Role.ADMIN), status)


def test_a_wrong_parameter_is_named(world: World) -> None:
    found = problem(world.ask("GET", "/api/v1/quarter-hours?limit=0", Role.ADMIN), 400)
    assert found["errors"][0]["path"] == "limit"


def test_ids_may_hold_slashes(tmp_path: Path) -> None:
    plain = story.configuration().model_dump()
    plain["partners"] = [{"id": "grid/vector"}]
    plain["groups"] = [{"partner_id": "grid/vector", "group_id": "a/b", "scope_id": "sceaux-house"}]
    world = World(tmp_path, configuration=type(story.configuration()).model_validate(plain))
    assert world.ask("GET", "/api/v1/partners/grid%2Fvector", Role.VIEWER).json()["id"] == "grid/vector"
    assert world.ask("GET", "/api/v1/groups/a/b", Role.VIEWER).json()["group_id"] == "a/b"
    assert world.ask("POST", "/api/v1/partners/grid%2Fvector/suspend", Role.OPERATOR).status_code == 202


def test_a_fault_of_ours_says_nothing_but_that(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(world.projection), "current", lambda self: 1 / 0)
    answer = world.ask("GET", "/api/v1/scopes", Role.VIEWER)
    assert "division" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"
    problem(answer, 500)


def test_openapi_describes_bodies_and_problems(world: World) -> None:
    document = world.ask("GET", "/api/v1/openapi.json", Role.VIEWER).json()
    assert document == json.loads(json.dumps(openapi_document(world.app)))
    nouns = {path.split("/")[3] for path in document["paths"] if path.startswith("/api/v1/")}
    wanted = "partners groups scopes circuits breaches quarter-hours messages deliveries dead-letters commands config telemetry status"
    assert set(wanted.split()) <= nouns
    telemetry = document["paths"]["/api/v1/telemetry"]["post"]
    assert telemetry["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/MeasurementBatch")
    assert "422" not in json.dumps(document["paths"])
    references = {
        each.split('"')[0].rsplit("/", 1)[1] for each in json.dumps(document).split('"#/components/schemas/')[1:] for each in [f"/{each}"]
    }
    assert references <= set(document["components"]["schemas"])
