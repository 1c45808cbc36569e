"""What `derms status` and `derms partner list` show is short enough to be read."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from gateway.auth import Role
from gateway.commands.tables import moment
from gateway.commands.watching import partners_table, status_view
from gateway.process_report import processes_of
from tests.gateway.operations_world import World


def shown(view: RenderableType) -> str:
    written = io.StringIO()
    Console(file=written, width=100).print(view)
    return written.getvalue()


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    rows = [
        {"name": "telemetry", "pid": 4711, "deaths": 2, "running": True, "ready": True, "last_words": ""},
        {"name": "archive", "pid": None, "deaths": 1, "running": False, "ready": False, "last_words": "[/no] disk full"},
    ]
    (tmp_path / "processes.json").write_text(json.dumps({"processes": rows}))
    world = World(tmp_path, processes=lambda: processes_of(tmp_path / "processes.json"))
    answer: dict[str, Any] = world.ask("GET", "/api/v1/status", Role.VIEWER).json()
    return answer


def line(text: str, start: str) -> str:
    return next(each for each in text.splitlines() if each.strip("│ ").startswith(start))


def test_status_says_the_whole_in_words(found: dict[str, Any]) -> None:
    text = shown(status_view(found))
    assert line(text, "clock").split(maxsplit=1)[1].strip() == "2007-06-09 18:26:40Z"
    assert line(text, "ready").split() == ["ready", "no"]
    checks = "broker ok, process telemetry ok, process archive is not running: [/no] disk full"
    assert line(text, "checks").split(maxsplit=1)[1].strip() == checks
    assert "event time is 700 s behind the clock" in text
    assert line(text, "open breaches").split() == ["open", "breaches", "1"]
    assert line(text, "dead letters").split() == ["dead", "letters", "16"]
    assert line(text, "telemetry").replace("│", " ").split() == ["telemetry", "ready", "4711", "2"]
    assert line(text, "archive").replace("│", " ").split() == ["archive", "not", "running", "1"]


def test_partners_have_six_columns_of_whole_words(found: dict[str, Any]) -> None:
    text = shown(status_view(found))
    header = line(text.replace("┃", "│"), "partner ")
    assert [name.strip() for name in header.strip("│").split("│")] == [
        "partner",
        "state",
        "since",
        "heartbeat in",
        "heartbeat out",
        "words",
    ]
    cells = [cell.strip() for cell in line(text, "vector").strip("│").split("│")]
    assert cells[:2] == ["vector", "ONLINE"]
    assert cells[3] == "18:24:50Z"
    assert "…" not in text


def test_before_the_first_quarter_nothing_is_made_up(found: dict[str, Any]) -> None:
    bare = found | {"event_time_lag_s": None, "processes": None, "partners": [], "clock": {"now": found["clock"]["now"], "speed": 240.0}}
    text = shown(status_view(bare))
    assert "no quarter hour has closed yet" in text
    assert "240 times as fast" in text
    assert "processes" not in text
    assert "partners" not in text


def test_a_partners_words_are_only_words() -> None:
    text = shown(partners_table([{"id": "p", "state": "FAILED", "words": "[red]no[/] \x1b[2J"}]))
    assert "[red]no[/]" in text
    assert "\x1b" not in text


def test_moments_are_short() -> None:
    assert moment(None) == "-"
    assert moment("2026-10-20T12:15:00.123+02:00") == "2026-10-20 10:15:00Z"
