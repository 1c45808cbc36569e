"""What the legacy platform is still owed, from the live picture: since when, in the gauges and on the cards."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.auth import Role
from gateway.circuit_owed import owed_writes
from gateway.picture import Picture
from gateway.projection import fold
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.config import Configuration
from schemas.connection import CIRCUIT_REFUSED, CIRCUIT_UNREACHABLE, CIRCUIT_WRITTEN, Event, SubjectKind
from schemas.facts import Value
from schemas.units import rfc3339
from tests.gateway import story
from tests.gateway.facts import NOW
from tests.gateway.operations_world import World
from tests.gateway.test_pages import records, tags_of, text_of

NAME = "sceaux-feeder"
CONFIG = story.configuration()


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def change(minutes: float, name: str = NAME) -> CircuitCapacity:
    """One that took effect so many minutes ago."""
    return CircuitCapacity(
        event_id=f"c{minutes:g}", at=ago(minutes), circuit_id=name, scope_id="sceaux-house", available_import_w=3500.0,
        available_export_w=3000.0, effective_from=ago(minutes), kind=PieceKind.FORECAST,
    )  # fmt: skip


def said(kind: str, about: float, minutes: float) -> Event:
    """So many minutes ago: what became of the change that took effect `about` minutes ago."""
    return Event(
        event_id=f"{kind} {about} {minutes}", at=ago(minutes), subject_kind=SubjectKind.CIRCUIT, subject_id=NAME, kind=kind,
        cause_id=f"c{about:g}", words="the platform is down", data=json.dumps({"effective_from": rfc3339(ago(about))}),
    )  # fmt: skip


def owed(*values: Value, used: bool = True, config: Configuration = CONFIG) -> dict[str, datetime] | None:
    picture = Picture()
    for each in records(*values):
        fold(picture, each)
    found = owed_writes(picture, config, NOW, used=used)
    return None if found is None else dict(found)


def test_nothing_is_owed_where_there_is_no_platform() -> None:
    assert owed(change(30), used=False) is None
    assert owed() == {}
    assert owed(change(30), said(CIRCUIT_REFUSED, 60, 59), used=False) == {NAME: ago(30)}


@pytest.mark.parametrize(
    ("values", "since"),
    [
        ([change(30)], 30),
        ([change(30), said(CIRCUIT_WRITTEN, 30, 29)], None),
        ([change(30), said(CIRCUIT_REFUSED, 30, 29)], None),
        ([change(30), said(CIRCUIT_UNREACHABLE, 30, 29)], 30),
        ([change(30), change(15), said(CIRCUIT_UNREACHABLE, 30, 29)], 30),
        ([change(60), change(45), change(30), said(CIRCUIT_WRITTEN, 60, 59), said(CIRCUIT_UNREACHABLE, 30, 29)], 45),
        ([change(60), said(CIRCUIT_WRITTEN, 60, 59), said(CIRCUIT_UNREACHABLE, 60, 58)], None),  # it is only not asserted again
        ([change(30), said(CIRCUIT_WRITTEN, 15, 14)], None),  # the newer change itself was not read yet
        ([change(30), change(15), said(CIRCUIT_WRITTEN, 90, 89)], 30),  # of one that is not kept any more
        ([change(60 * 48 + 1)], None),  # its word may be older than what is read
        ([change(60 * 48 + 1), said(CIRCUIT_UNREACHABLE, 60 * 48 + 1, 60)], 60 * 48 + 1),
        ([change(30, "no scope has it")], None),
    ],
)
def test_since_when_a_circuit_is_owed_a_write(values: list[Value], since: float | None) -> None:
    assert owed(*values) == ({} if since is None else {NAME: ago(since)})


def test_the_gauges(tmp_path: Path) -> None:
    def lines(directory: str, *values: Value, **extra: bool) -> list[str]:
        (tmp_path / directory).mkdir()
        found = World(tmp_path / directory, records=records(*values), **extra).ask("GET", "/metrics").text
        return [line for line in found.splitlines() if line.startswith("derms_circuit_writes_owed")]

    assert lines("none", change(30)) == []
    assert lines("set", change(30), writes_circuits=True) == [
        "derms_circuit_writes_owed 1.0", "derms_circuit_writes_owed_oldest_seconds 1800.0",
    ]  # fmt: skip
    assert lines("heard", change(30), said(CIRCUIT_WRITTEN, 30, 29)) == [
        "derms_circuit_writes_owed 0.0", "derms_circuit_writes_owed_oldest_seconds 0.0",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/circuits", f"/circuits/{NAME}", "/", "/scopes/sceaux-house"])
def test_cards_say_since_when_a_write_is_owed(tmp_path: Path, path: str) -> None:
    def page(directory: str, *values: Value) -> str:
        (tmp_path / directory).mkdir()
        world = World(tmp_path / directory, records=records(*values), writes_circuits=True)
        answer = world.ask("GET", path, Role.VIEWER)
        assert answer.status_code == 200
        tags_of(answer.text)
        return text_of(answer.text)

    earlier = (change(30), said(CIRCUIT_WRITTEN, 30, 29))
    assert "Legacy platform owed since 20:21:40 5 min ago" in page("owed", *earlier, change(5))
    assert "Legacy platform written, an earlier value" in page("just-now", *earlier, change(0.1))
    told = "Legacy platform unreachable, owed since 20:21:40 5 min ago the platform is down"
    assert told in page("told", *earlier, change(5), change(1), said(CIRCUIT_UNREACHABLE, 5, 4))
    refused = page("refused", change(30), said(CIRCUIT_REFUSED, 30, 29), change(5))
    assert "Legacy platform owed since 20:21:40 5 min ago Next change" in refused  # that was about another change
