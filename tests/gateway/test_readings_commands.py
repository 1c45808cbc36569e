"""`derms telemetry repair` and `backfill` as they are typed: what is refused, in which words, and what is said at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway import recompute
from gateway.cli import command_line
from schemas.telemetry import Origin
from schemas.units import from_ms, rfc3339
from sinks.errors import Misconfigured
from tests.gateway.test_backfill import World, write
from tests.rules.metering import START, minutes
from tests.rules.reference_quarter_hours import QUARTER, Reading

Run = Callable[..., Result]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(timedelta(hours=4))

    @contextmanager
    def opened(target: Any, client_id: str) -> Iterator[Any]:
        yield made.system

    monkeypatch.setattr(recompute, "opened", opened)
    return made


def derms(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), ["telemetry", *arguments], catch_exceptions=True)


def cause(result: Result) -> Misconfigured:
    assert isinstance(result.exception, Misconfigured), result.output
    return result.exception


def at(minute: float) -> str:
    return rfc3339(from_ms(START + minutes(minute)))


def test_a_repair_takes_whole_quarters_and_says_what_it_did(world: World) -> None:
    world.history.add([Reading(f"asset-{n}", START + minutes(minute), 600.0) for n in range(2) for minute in range(60)])
    done = derms("repair", "--from", at(5), "--to", at(16), "--asset", "asset-0")
    assert done.exit_code == 0, done.output
    assert "2 quarter hours computed: 2 rows of assets and 2 of groups written" in done.output
    done = derms("repair", "--from", at(0), "--to", at(60))
    assert "8 quarter hours computed: 6 rows of assets and 4 of groups written" in done.output  # 2 of them had lacked asset-1
    assert "0 rows of assets and 0 of groups written" in derms("repair", "--from", at(0), "--to", at(60)).output
    assert {row.origin for row in world.history.last.values()} == {Origin.REPAIR}


def test_quarters_the_running_flow_may_write_are_left_out_aloud(world: World) -> None:
    world.history.add([Reading("asset-0", START + minutes(minute), 600.0) for minute in range(240)])
    done = derms("repair", "--from", at(150), "--to", at(240))
    assert f"left out: quarter hours from {at(165)} on are still open to correction by the running flow until {at(240 + 63)}" in done.output
    assert "1 quarter hours computed: 1 rows" in done.output
    refused = cause(derms("repair", "--from", at(165), "--to", at(180)))
    assert "still open to correction by the running flow until" in str(refused)


def test_wrong_arguments_are_told(world: World) -> None:
    assert "nobody is not configured" in str(cause(derms("repair", "--from", at(0), "--to", at(15), "--asset", "nobody")))
    for arguments in (
        ["--from", at(15), "--to", at(15)],
        ["--from", "yesterday", "--to", at(15)],
        ["--from", "2026-10-20T10:00:00", "--to", at(15)],
    ):
        assert derms("repair", *arguments).exit_code == 2


def test_a_backfill_shows_what_is_wrong_with_a_file(world: World, tmp_path: Path) -> None:
    good = [Reading("asset-0", START - QUARTER + minutes(n), 60.0) for n in range(15)]
    path = write(tmp_path / "readings.csv", good, "asset-0,2026-10-20T10:00:00Z,none,,,,,\n")
    refused = derms("backfill", str(path))
    assert "line 17, power_w:" in refused.output
    assert cause(refused).setting == "readings.csv"
    loaded = derms("backfill", str(path), "--skip-bad", "--batch", "4")
    assert loaded.exit_code == 0, loaded.output
    assert "1 quarter hours computed: 1 rows of assets and 1 of groups written" in loaded.output
    assert cause(derms("backfill", str(tmp_path / "none.csv"))).problem == "No such file or directory"
    (tmp_path / "empty.csv").write_text("")
    assert "the header is asset_id,measured_at" in str(cause(derms("backfill", str(tmp_path / "empty.csv"))))
