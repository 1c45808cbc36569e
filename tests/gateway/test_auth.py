"""Who gets in, what they may do, and what another site's page cannot do."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.auth import Operators, Right, Role, add_operator, read_operators, remove_operator
from gateway.sessions import LINK_LASTS, SESSION_LASTS
from sinks.errors import Misconfigured
from tests.gateway.operations_world import HOST, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_file_keeps_digests_only_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "operators.json"
    token = add_operator(path, "ana", "admin")
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Operators(path).by_token(token) == read_operators(path)[0]
    assert Operators(path).by_token(token + "x") is None


def test_a_name_entered_again_gets_a_new_token_and_the_old_one_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "operators.json"
    first = add_operator(path, "ana", Role.VIEWER)
    operators = Operators(path)
    assert operators.by_token(first) is not None
    second = add_operator(path, "ana", Role.ADMIN)
    found = operators.by_token(second)
    assert operators.by_token(first) is None
    assert found is not None
    assert found.may(Right.CONFIGURE)


def test_a_file_written_by_hand_may_be_yaml_and_a_broken_one_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "operators.json"
    token = add_operator(path, "ana", "viewer")
    digest = read_operators(path)[0].token_sha256
    path.write_text(f"operators:\n  - {{name: bo, role: operator, token_sha256: {digest}}}\n")
    operators = Operators(path)
    found = operators.by_token(token)
    assert found is not None
    assert found.name == "bo"
    path.write_text("operators: [{name: bo, role: king, token_sha256: x}]")
    assert operators.by_token(token) is None
    with pytest.raises(Misconfigured, match=r"DERMS_OPERATORS_FILE.*role"):
        read_operators(path)


def test_no_file_means_nobody(tmp_path: Path) -> None:
    assert Operators(tmp_path / "none.json").by_token("x") is None


@pytest.mark.parametrize(("name", "role"), [("two words", "viewer"), ("", "viewer"), ("ana", "king")])
def test_bad_names_and_roles_are_refused(tmp_path: Path, name: str, role: str) -> None:
    with pytest.raises(Misconfigured, match="viewer, producer, operator, admin"):
        add_operator(tmp_path / "operators.json", name, role)


READ = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]
REQUESTS = [
    ("GET", "/api/v1/status", READ),
    ("GET", "/api/v1/openapi.json", READ),
    ("GET", "/", READ),
    ("POST", "/api/v1/telemetry", [Role.PRODUCER, Role.ADMIN]),
    ("POST", "/api/v1/partners/vector/suspend", [Role.OPERATOR, Role.ADMIN]),
    ("PUT", "/api/v1/config", [Role.ADMIN]),
]


@pytest.mark.parametrize(("method", "path", "allowed"), REQUESTS)
@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_what_the_contract_says(world: World, method: str, path: str, allowed: list[Role], role: Role) -> None:
    answer = world.ask(method, path, role, json={})
    assert (answer.status_code != 403) == (role in allowed), answer.text
    assert answer.status_code != 401


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in REQUESTS if path != "/"])
def test_nobody_is_told_how_to_sign_in(world: World, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        answer = world.ask(method, path, headers=headers, json={})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["title"] == "Not signed in"
    assert world.appender.appended == []


def test_a_person_signs_in_with_the_token_and_stays_signed_in(world: World) -> None:
    assert world.ask("GET", "/").headers["location"] == "/sign-in"
    answer = world.ask("POST", "/sign-in", data={"token": world.tokens[Role.VIEWER]})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert world.tokens[Role.VIEWER] not in cookie
    assert "viewer-1" in world.ask("GET", "/", cookies=dict(answer.cookies)).text


def test_a_wrong_token_and_a_role_without_pages_stay_outside(world: World) -> None:
    for token in ("wrong", "", world.tokens[Role.PRODUCER]):
        answer = world.ask("POST", "/sign-in", data={"token": token})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        assert token == "" or token not in answer.text


def test_a_session_ends_by_the_wall_clock(world: World) -> None:
    cookies, _ = world.signed_in(Role.VIEWER)
    world.clock.advance(timedelta(days=30))
    assert world.ask("GET", "/", cookies=cookies).status_code == 200
    world.wall.advance(SESSION_LASTS)
    assert world.ask("GET", "/", cookies=cookies).headers["location"] == "/sign-in"


def test_taking_an_operator_out_ends_token_and_session_at_once(world: World) -> None:
    cookies, _ = world.signed_in(Role.OPERATOR)
    assert world.ask("GET", "/api/v1/status", Role.OPERATOR).status_code == 200
    assert remove_operator(world.operators_file, "operator-1")
    assert not remove_operator(world.operators_file, "operator-1")
    assert world.ask("GET", "/api/v1/status", Role.OPERATOR).status_code == 401
    assert world.ask("GET", "/api/v1/status", cookies=cookies).status_code == 401


def test_a_changed_or_foreign_cookie_is_no_session(world: World) -> None:
    cookies, _ = world.signed_in(Role.ADMIN)
    name, value = next(iter(cookies.items()))
    foreign = world.secrets.encrypt('{"name": "admin-1"}', "vector")
    for wrong in (value[:-2] + "AA", foreign, "v1.x.y", "", "{}"):
        assert world.ask("GET", "/api/v1/status", cookies={name: wrong}).status_code == 401


def test_a_one_time_link_works_once(world: World) -> None:
    path = world.ask("POST", "/api/v1/sign-in-links", Role.VIEWER).json()["path"]
    first = world.ask("GET", path)
    assert first.status_code == 200
    assert world.ask("GET", "/api/v1/status", cookies=dict(first.cookies)).status_code == 200
    again = world.ask("GET", path)
    assert again.status_code == 403
    assert "set-cookie" not in again.headers


def test_a_link_is_of_no_use_when_too_old_or_when_its_operator_is_gone(world: World) -> None:
    late, gone = (world.ask("POST", "/api/v1/sign-in-links", Role.VIEWER).json()["path"] for _ in range(2))
    world.wall.advance(LINK_LASTS)
    assert world.ask("GET", late).status_code == 403
    world.wall.advance(-LINK_LASTS)
    remove_operator(world.operators_file, "viewer-1")
    assert world.ask("GET", gone).status_code == 403


def test_what_changes_something_needs_the_sessions_own_token(world: World) -> None:
    cookies, csrf = world.signed_in(Role.OPERATOR)
    path = "/api/v1/partners/vector/suspend"
    _, other = world.signed_in(Role.OPERATOR)
    assert world.ask("POST", path, cookies=cookies).status_code == 403
    assert world.ask("POST", path, cookies=cookies, headers={"X-CSRF-Token": other}).status_code == 403
    assert world.appender.appended == []
    assert world.ask("POST", path, cookies=cookies, headers={"X-CSRF-Token": csrf}).status_code == 202


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_sites_page_can_neither_act_nor_sign_in(world: World, headers: dict[str, str]) -> None:
    cookies, csrf = world.signed_in(Role.OPERATOR)
    answer = world.ask("POST", "/api/v1/partners/vector/suspend", cookies=cookies, headers={**headers, "X-CSRF-Token": csrf})
    assert answer.status_code == 403
    assert world.ask("POST", "/sign-in", data={"token": world.tokens[Role.VIEWER]}, headers=headers).status_code == 403


def test_our_own_page_may(world: World) -> None:
    cookies, csrf = world.signed_in(Role.VIEWER)
    headers = {"Origin": HOST, "Sec-Fetch-Site": "same-origin"}
    assert world.ask("POST", "/sign-out", cookies=cookies, data={"csrf": "wrong"}, headers=headers).status_code == 403
    answer = world.ask("POST", "/sign-out", cookies=cookies, data={"csrf": csrf}, headers=headers)
    assert answer.status_code == 303
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_a_name_rebound_to_this_address_is_of_no_use(world: World) -> None:
    evil = "http://evil.example:8481"
    assert world.ask("GET", "/metrics", host=evil).status_code == 421
    assert world.ask("GET", "/sign-in", host=evil).status_code == 421
    assert world.ask("GET", "/health/live", host=evil).status_code == 200
    assert world.ask("GET", "/api/v1/status", Role.VIEWER, host=evil).status_code == 200
    for own in ("http://localhost:8481", "http://[::1]:8481", "http://127.0.0.1"):
        assert world.ask("GET", "/sign-in", host=own).status_code == 200


def test_a_host_name_can_be_allowed(tmp_path: Path) -> None:
    assert World(tmp_path, hosts=["derms.example"]).ask("GET", "/sign-in", host="https://DERMS.example").status_code == 200


def test_every_answer_carries_the_security_headers(world: World) -> None:
    for method, path in (("GET", "/sign-in"), ("GET", "/api/v1/nope"), ("GET", "/static/derms.css"), ("GET", "/nope"), ("GET", "/metrics")):
        headers = world.ask(method, path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
