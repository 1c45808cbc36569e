"""`derms adjust`, `compliance-error`, `limit`, `requests` against a served operations API."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from gateway.auth import Role
from gateway.cli import command_line
from gateway.commands import asking
from schemas.capacity import EnvelopeCommand
from schemas.connection import Command, CommandKind, refused_command
from schemas.facts import Value
from schemas.topics import COMMANDS
from sinks.errors import Misconfigured, Refused
from tests.browser.driving import served
from tests.gateway.facts import NOW
from tests.gateway.operations_world import World
from tests.gateway.test_api_asked import block, plan, see

Run = Callable[..., Result]


@pytest.fixture
def world() -> World:
    found = World(Path(tempfile.mkdtemp()))
    plan(found, (-2, 6, 3.0), name="plan-1")
    return found


@pytest.fixture
def run(world: World) -> Iterator[Run]:
    with served(world.app) as url:
        settings = {"DERMS_GATEWAY__OPERATIONS_URL": url, "DERMS_OPERATOR_TOKEN": world.tokens[Role.OPERATOR], "DERMS_DATA": ""}

        def run(*arguments: str, **more: Any) -> Result:
            return CliRunner().invoke(command_line(), list(arguments), env={**settings, "COLUMNS": "200"}, **more)

        yield run


def blocks_file(directory: Path, blocks: Any = None) -> str:
    file = directory / "blocks.json"
    file.write_text(json.dumps([block()] if blocks is None else blocks))
    return str(file)


def commands(world: World) -> list[Command]:
    return list(world.appender.values(COMMANDS))


def test_a_wish_is_shown_and_asked(run: Run, world: World, tmp_path: Path) -> None:
    found = run("adjust", "vector", "VEC-0001", "--type", "CONSUMPTION", "--file", blocks_file(tmp_path))
    assert found.exit_code == 0, found.output
    (command,) = commands(world)
    assert found.stdout == f"asked (command {command.event_id})\n"
    assert json.loads(next(line for line in found.stderr.splitlines() if line.startswith("{")))["forecasted_blocks"] == [block()]
    assert "X-Request-ID: " in found.stderr


def test_a_preview_sends_nothing_and_stdout_is_the_exact_message(run: Run, world: World, tmp_path: Path) -> None:
    file = blocks_file(tmp_path, [block(capacity=50)])
    found = run("adjust", "vector", "VEC-0001", "--type", "CONSUMPTION", "--file", file, "--preview")
    assert json.loads(found.stdout)["forecasted_blocks"][0]["capacity"] == 50
    assert "mind: 50 kW is more than the circuit is rated for" in found.stderr
    assert commands(world) == []


def test_a_file_to_begin_with(run: Run, tmp_path: Path, world: World) -> None:
    found = run("adjust", "vector", "VEC-0001", "--type", "CONSUMPTION", "--prefill")
    blocks = yaml.safe_load(found.stdout)
    assert [one["capacity"] for one in blocks] == [3.0]
    file = tmp_path / "blocks.yaml"
    file.write_text(found.stdout.replace("3.0", "4.0"))
    assert run("adjust", "vector", "VEC-0001", "--type", "CONSUMPTION", "--file", str(file)).exit_code == 0
    assert json.loads(commands(world)[0].payload)["forecasted_blocks"] == [{**blocks[0], "capacity": 4.0}]
    assert run("adjust", "vector", "VEC-0001", "--type", "CONSUMPTION").exit_code == 2
    assert run("adjust", "vector", "VEC-0001", "--type", "WISHES", "--file", str(file)).exit_code == 2


def test_an_error_is_shown_and_asked(run: Run, world: World) -> None:
    found = run("compliance-error", "vector", "VEC-0001", "--forecast", "plan-1", "--message", "the feeder is out")
    assert found.exit_code == 0, found.output
    assert "X-Correlation-ID: plan-1" in found.stderr
    assert json.loads(commands(world)[0].payload) == {"forecast": "plan-1", "message": "the feeder is out"}


@pytest.mark.parametrize("written", ["- [", "{}", "[]", "[{capacity: !!python/object:os.system x}]"])
def test_a_file_that_is_no_list_of_blocks_is_named(run: Run, tmp_path: Path, written: str) -> None:
    file = tmp_path / "blocks.yaml"
    file.write_text(written)
    found = run("adjust", "vector", "VEC-0001", "--type", "CONSUMPTION", "--file", str(file))
    assert isinstance(found.exception, Misconfigured)
    assert found.exception.setting == "blocks.yaml"


def test_what_is_wrong_is_said_before_anything_is_asked(run: Run, tmp_path: Path, world: World) -> None:
    found = run("adjust", "vector", "VEC-0001", "--type", "CONSUMPTION", "--file", blocks_file(tmp_path, [block(capacity=-1)]))
    assert isinstance(found.exception, Refused)
    assert "forecasted_blocks[0].capacity" in found.exception.words
    assert commands(world) == []


def test_who_follows_hears_each_change_until_the_end(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Command] = []
    world.appender.then = lambda _, value: keep(seen, value)
    rounds = 0

    def passes(_: float) -> None:
        nonlocal rounds
        rounds += 1
        see(world, seen[0] if rounds == 1 else refused_command(seen[0], "the group went away", NOW))

    monkeypatch.setattr(asking.time, "sleep", passes)
    found = run("compliance-error", "vector", "VEC-0001", "--forecast", "plan-1", "--message", "out", "--follow")
    assert found.exit_code == 1
    said = found.stdout.splitlines()[1:]
    assert [line.split(":")[0] for line in said] == ["asked", "waiting", "refused"]


def keep(seen: list[Command], value: Value) -> None:
    if isinstance(value, Command):
        seen.append(value)


def test_a_limit_is_set_and_lifted(run: Run, world: World) -> None:
    times = ("--from", "2026-10-20T14:15:00+13:00", "--to", "2026-10-20T02:00:00Z")
    assert run("limit", "sceaux-house", "--direction", "IMPORT", *times, "--kw", "1.5", "--why", "works").exit_code == 0
    assert run("limit", "sceaux-house", "--direction", "EXPORT", *times, "--lift").exit_code == 0
    first, second = (EnvelopeCommand.model_validate_json(command.payload) for command in commands(world))
    assert (first.blocks[0].limit_w, first.blocks[0].start.hour, first.why) == (1500, 1, "works")
    assert (second.direction, second.blocks[0].limit_w) == ("EXPORT", None)
    for wrong in (("--kw", "1", "--lift"), (), ("--kw", "-1")):
        assert run("limit", "sceaux-house", "--direction", "IMPORT", *times, *wrong).exit_code == 2
    naive = ("--from", "2026-10-20T14:15:00", "--to", "2026-10-20T02:00:00Z", "--kw", "1")
    assert "say the offset" in run("limit", "sceaux-house", "--direction", "IMPORT", *naive).output


def test_requests_are_listed_with_what_became_of_them(run: Run, world: World) -> None:
    run("limit", "sceaux-house", "--direction", "IMPORT", "--from", "2026-10-20T14:15:00Z", "--to", "2026-10-20T15:00:00Z", "--kw", "1")
    (command,) = commands(world)
    see(world, command, refused_command(command, "there is no scope [red]", NOW))
    found = run("requests")
    assert "Limit a scope" in found.stdout
    assert "REFUSED" in found.stdout
    assert "[red]" in found.stdout
    assert command.kind is CommandKind.ENVELOPE
