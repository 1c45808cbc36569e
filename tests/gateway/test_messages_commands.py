"""`derms messages` against a served operations API."""

import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.auth import Role
from gateway.cli import command_line
from gateway.commands import messages
from schemas.connection import Command, CommandKind, refused_command
from schemas.facts import Value
from schemas.outbound import Outcome
from schemas.topics import COMMANDS
from sinks.errors import Refused
from tests.browser.driving import served
from tests.gateway.facts import NOW, delivery, record
from tests.gateway.operations_world import World
from tests.gateway.test_api_messages import DAY, MINUTE, MessagePast, owed, world_of

Run = Callable[..., Result]
GOOD, PARKED, OLD = owed(9 * MINUTE), owed(8 * MINUTE), owed(5 * DAY)


@pytest.fixture
def world() -> World:
    said = [delivery(GOOD), delivery(PARKED, Outcome.PARKED, 500, attempt=10, words="[red]answered 500\x1b[31m")]
    return world_of(Path(tempfile.mkdtemp()), GOOD, PARKED, *said, past=MessagePast((OLD, ())))


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr("gateway.commands.messages.time.sleep", lambda _: None)
    with served(world.app) as url:
        settings = {"DERMS_GATEWAY__OPERATIONS_URL": url, "DERMS_OPERATOR_TOKEN": world.tokens[Role.OPERATOR], "DERMS_DATA": ""}

        def run(*arguments: str, **more: Any) -> Result:
            return CliRunner().invoke(command_line(), ["messages", *arguments], env={**settings, "COLUMNS": "200"}, **more)

        yield run


def commands(world: World) -> list[tuple[CommandKind, str]]:
    return [(each.kind, json.loads(each.payload)["message_id"]) for each in world.appender.values(COMMANDS)]


def test_a_list_says_where_each_stands_and_why(run: Run) -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["made", "state", "partner", "message", "group", "tries", "took", "why", "id"]
    (parked,) = (line for line in lines if "parked 500" in line)
    assert "set aside so that others can go: [red]answered 500 [31m" in parked
    assert PARKED.message_id in parked
    assert any("delivered 204" in line and "2.0 s" in line for line in lines)
    assert OLD.message_id in run("list", "--state", "waiting", "--since", "2007-06-03T00:00:00Z").stdout
    assert OLD.message_id not in run("list", "--since", "24h").stdout
    assert OLD.message_id not in run("list", "--state", "WAITING", "--since", "2007-06-09T20:00:00+02:00").stdout
    assert GOOD.message_id not in run("list", "--partner", "other").stdout


def test_programs_get_json_of_all_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "AT_ONCE", 1)
    found = json.loads(run("list", "--json", "--limit", "10").stdout)
    assert [item["message_id"] for item in found["items"]] == [PARKED.message_id, GOOD.message_id, OLD.message_id]
    assert (found["next"], found["note"]) == (None, "")
    part = run("list", "--limit", "2")
    assert "there are older ones" in part.stderr


@pytest.mark.parametrize("wrong", [("--since", "soon"), ("--since", "2007-06-09"), ("--state", "odd"), ("--limit", "0")])
def test_wrong_usage(run: Run, wrong: tuple[str, str]) -> None:
    assert run("list", *wrong).exit_code == 2


def test_one_whole(run: Run) -> None:
    found = json.loads(run("show", OLD.message_id).stdout)
    assert (found["message_id"], found["attempted"], found["body"]) == (OLD.message_id, [], {})
    assert isinstance(run("show", "none").exception, Refused)


def obeyed(world: World, *values: Value) -> None:
    """What follows the command on the topics."""

    def then(_: str, value: Value) -> None:
        world.projection.take([record(value), *(record(each) for each in values)])

    world.appender.then = then


def test_a_parked_message_goes_again(run: Run, world: World) -> None:
    obeyed(world, delivery(PARKED, attempt=11).model_copy(update={"at": NOW}))
    found = run("retry", PARKED.message_id)
    assert found.exit_code == 0, found.output
    assert commands(world) == [(CommandKind.RETRY_MESSAGE, PARKED.message_id)]
    assert found.stdout.splitlines()[-1] == "delivered: the partner has it"


def test_what_waits_on_says_why(run: Run, world: World) -> None:
    obeyed(world)
    found = run("retry", OLD.message_id)
    assert (found.exit_code, found.stdout.splitlines()[-1]) == (0, "taken; not tried yet; dispatch has not said yet how its queues stand")


def test_a_message_is_given_up(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = delivery(PARKED, Outcome.DROPPED, None, attempt=10, words="dropped by operator-1")
    obeyed(world, dropped.model_copy(update={"event_id": "d", "at": NOW + timedelta(seconds=1)}))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    found = run("drop", PARKED.message_id, "--yes")
    assert (found.exit_code, found.stdout.splitlines()[-1]) == (0, "dropped: dropped by operator-1")
    again = run("drop", PARKED.message_id)
    assert isinstance(again.exception, Refused)
    assert again.exception.status == 409
    assert commands(world) == [(CommandKind.DROP_MESSAGE, PARKED.message_id)]


def test_what_came_to_nothing_is_a_failure(run: Run, world: World) -> None:
    obeyed(world, delivery(PARKED, attempt=11).model_copy(update={"at": NOW}))
    late = run("drop", PARKED.message_id)
    assert (late.exit_code, late.stdout.splitlines()[-1]) == (1, "delivered: the partner has it")

    def refuse(_: str, value: Value) -> None:
        assert isinstance(value, Command)
        world.projection.take([record(value), record(refused_command(value, "no message 'x' waits for this partner", NOW))])

    world.appender.then = refuse
    refused = run("retry", "unknown", "--partner", "vector")
    assert isinstance(refused.exception, Refused)
    assert "no message 'x' waits" in refused.exception.words
    assert isinstance(run("retry", "unknown").exception, Refused)
