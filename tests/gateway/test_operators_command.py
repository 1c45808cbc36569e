"""`derms operator`: adding, listing and removing, and that a running listener knows at once."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.auth import Role, read_operators
from gateway.cli import command_line
from sinks.errors import Misconfigured
from tests.gateway.listening import QUICK, ask, closing, connected, listening, status_of, until
from tests.gateway.operations_world import World


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DERMS_")]:
        monkeypatch.delenv(name)


def derms(*arguments: str) -> tuple[int, str, BaseException | None]:
    ended = CliRunner().invoke(command_line(), list(arguments))
    return ended.exit_code, ended.stdout, ended.exception


def test_names_and_roles_are_listed_and_never_a_digest(tmp_path: Path) -> None:
    file = tmp_path / "operators.json"
    for name, role in (("bo", "producer"), ("ana", "admin")):
        code, out, _ = derms("operator", "add", name, "--role", role, "--file", str(file))
        assert code == 0
        token = out.splitlines()[-1]
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    code, out, _ = derms("operator", "list", "--file", str(file))
    assert code == 0
    rows = [re.findall(r"[\w-]+", line) for line in out.splitlines()]
    assert [row for row in rows if len(row) == 2] == [["name", "role"], ["ana", "admin"], ["bo", "producer"]]
    assert not any(each.token_sha256[:12] in out for each in read_operators(file))


def test_the_file_is_the_named_one_else_the_instances_else_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_settings = tmp_path / "from-settings.json"
    _, _, error = derms("operator", "list")
    assert isinstance(error, Misconfigured)
    assert error.setting == "DERMS_OPERATORS_FILE"
    derms("operator", "add", "ana", "--role", "viewer", "--data", str(tmp_path))
    assert [each.name for each in read_operators(tmp_path / "operators.json")] == ["ana"]
    monkeypatch.setenv("DERMS_OPERATORS_FILE", str(with_settings))
    derms("operator", "add", "bo", "--role", "viewer")
    assert [each.name for each in read_operators(with_settings)] == ["bo"]


def test_removing_says_what_happened(tmp_path: Path) -> None:
    file = tmp_path / "operators.json"
    derms("operator", "add", "ana", "--role", "viewer", "--file", str(file))
    assert derms("operator", "remove", "ana", "--file", str(file))[:2] == (0, "ana may not use the operations side any more\n")
    assert json.loads(file.read_text()) == {"operators": []}
    _, _, error = derms("operator", "remove", "ana", "--file", str(file))
    assert isinstance(error, Misconfigured)
    assert "there is no 'ana'" in error.problem


def test_a_running_listener_refuses_the_removed_ones_token_and_session_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    cookies, _ = world.signed_in(Role.OPERATOR)
    by_token = f"Authorization: Bearer {world.tokens[Role.OPERATOR]}"
    by_session = "Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items())

    def statuses(listener: Any) -> list[int]:
        return [status_of(ask(listener, closing("GET", "/api/v1/status", header))) for header in (by_token, by_session)]

    with listening(world.app, name="operations") as listener:
        assert statuses(listener) == [200, 200]
        derms("operator", "remove", "operator-1", "--file", str(world.operators_file))
        assert statuses(listener) == [401, 401]
        derms("operator", "add", "operator-1", "--role", "operator", "--file", str(world.operators_file))
        assert statuses(listener) == [401, 401]


def test_a_changed_role_holds_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    with listening(world.app, name="operations") as listener:
        _, out, _ = derms("operator", "add", "admin-1", "--role", "producer", "--file", str(world.operators_file))
        old, new = (f"Authorization: Bearer {token}" for token in (world.tokens[Role.ADMIN], out.splitlines()[-1]))
        assert status_of(ask(listener, closing("GET", "/api/v1/status", old))) == 401
        assert status_of(ask(listener, closing("GET", "/api/v1/status", new))) == 403


def test_a_body_that_does_not_come_is_answered_408(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.app.user_middleware[0].kwargs["body_within_s"] = 0.2
    with listening(world.app, name="operations", limits=QUICK) as listener:
        kind, token = "Content-Type: application/json", f"Authorization: Bearer {world.tokens[Role.PRODUCER]}"
        answer = ask(listener, closing("POST", "/api/v1/telemetry", kind, token, "Content-Length: 100", body=b'{"measure'))
        assert status_of(answer) == 408
        assert b"the body did not come within 0.2 s" in answer
        assert (
            status_of(ask(listener, closing("POST", "/sign-in", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 9")))
            == 408
        )


def test_a_client_that_hangs_up_within_its_body_is_no_fault_of_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path)
    with listening(world.app, name="operations") as listener:
        with connected(listener) as connection:
            kind, token = "Content-Type: application/json", f"Authorization: Bearer {world.tokens[Role.PRODUCER]}"
            connection.sendall(closing("POST", "/api/v1/telemetry", kind, token, "Content-Length: 100", body=b'{"measure'))
            until(lambda: len(listener.server_state.tasks) == 1)
        until(lambda: not listener.server_state.tasks and not listener.server_state.connections)
    assert caplog.records == []
