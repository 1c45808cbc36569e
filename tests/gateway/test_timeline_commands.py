"""`derms partner show` and `timeline` against a served operations API."""

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gateway.auth import Role
from gateway.cli import command_line
from gateway.commands import timelines
from tests.browser.driving import served
from tests.gateway import story
from tests.gateway.exchanges import asked, told
from tests.gateway.facts import NOW, connection, record
from tests.gateway.operations_world import World

runner = CliRunner()


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[World, dict[str, str]]]:
    world = World(Path(tempfile.mkdtemp()), records=[record(connection()), *told()], configuration=story.configuration())
    with served(world.app) as url:
        yield world, {"DERMS_GATEWAY__OPERATIONS_URL": url, "DERMS_OPERATOR_TOKEN": world.tokens[Role.VIEWER], "DERMS_DATA": ""}


def ran(environment: dict[str, str], *arguments: str) -> str:
    found = runner.invoke(command_line(), ["partner", *arguments], env={**environment, "COLUMNS": "160"}, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_one_partner(world: tuple[World, dict[str, str]]) -> None:
    lines = {line.split("  ")[0].strip(): line for line in ran(world[1], "show", "vector").splitlines()}
    assert "ONLINE" in lines["state"]
    assert "every 300 s" in lines["it asks of us"]
    assert "VEC-0001" in lines["groups"]
    assert "ciphertext" not in "".join(lines.values())


def test_the_timeline_has_the_newest_last(world: tuple[World, dict[str, str]]) -> None:
    text = ran(world[1], "timeline", "vector")
    lines = text.splitlines()
    assert "in ->" in lines[1]
    assert "POST Register /oscp/fp/2.0/register" in lines[1]
    assert "held 403" in text.rsplit("UpdateAssetMeasurements", 1)[1]
    assert "attempt 2" in text
    assert "req-register" in text
    assert "Heartbeat" not in text
    assert "POST Heartbeat" in ran(world[1], "timeline", "vector", "--all")
    assert len(ran(world[1], "timeline", "vector", "--limit", "1").strip().splitlines()) <= 4


def test_who_follows_sees_what_comes_once(world: tuple[World, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 0

    def pause(_: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds > 2:
            raise KeyboardInterrupt
        world[0].projection.take([record(asked(NOW, "Handshake", f"late-{rounds}"))])

    monkeypatch.setattr(timelines.time, "sleep", pause)
    found = runner.invoke(command_line(), ["partner", "timeline", "vector", "--limit", "2", "--follow"], env=world[1])
    assert found.output.count("late-1") == 1
    assert found.output.count("late-2") == 1


def test_words_of_others_are_only_words() -> None:
    line = {
        "at": "2026-10-20T10:00:00.000Z", "id": "i", "kind": "message.refused", "words": "[red]\x1b[31m", "severity": "WARNING",
        "request_id": None, "exchange": None, "body_kept": False,
    }  # fmt: skip
    written = io.StringIO()
    Console(file=written, width=140).print(timelines.timeline_table([json.loads(json.dumps(line))]))
    assert "[red] [31m" in written.getvalue()
    assert "\x1b" not in written.getvalue()


def test_ids_of_all_kinds_have_a_path() -> None:
    assert timelines.partner_path("a/b#c?d e", "/token") == "/partners/a/b%23c%3Fd%20e/token"
