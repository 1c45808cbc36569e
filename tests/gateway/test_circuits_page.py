"""The pages of circuits: what is available now, why, what comes next, whether the platform has it, and the last changes."""

import json
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.auth import Role
from gateway.charts import scope_chart
from gateway.circuit_card import KEPT, source_words, when_in
from gateway.circuits_page import circuit_drawing
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.config import Configuration
from schemas.connection import CIRCUIT_WRITES, Event, SubjectKind
from schemas.facts import derived_id
from tests.gateway import story
from tests.gateway.facts import NOW
from tests.gateway.operations_world import World
from tests.gateway.test_pages import records, tags_of, text_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def text(world: World, path: str = "/circuits") -> str:
    answer = world.ask("GET", path, Role.VIEWER)
    assert answer.status_code == 200, answer.text
    tags_of(answer.text)
    return text_of(answer.text)


def changed(**changes: object) -> CircuitCapacity:
    plain = {
        "event_id": derived_id("change", *changes.values()),
        "at": NOW,
        "circuit_id": "sceaux-feeder",
        "scope_id": "sceaux-house",
        "available_import_w": 3500.0,
        "available_export_w": 3000.0,
        "effective_from": NOW,
        "kind": PieceKind.FORECAST,
    }
    return CircuitCapacity.model_validate({**plain, **changes})


def test_a_circuit_says_what_holds_why_and_what_comes(world: World) -> None:
    found = text(world)
    for words in (
        "1 circuit",
        "Sceaux connection sceaux-feeder House in Sceaux",
        "Import available 1.10 kW of 9.00 kW rated",
        "Export available 3.00 kW of 6.00 kW rated",
        "Since 18:45:00 1 h 41 min ago · before: import 3.50 kW",
        "Source as forecast 7f3d5510-emergency",
        "Next change 22:30:00 in 2 h 3 min : import 3.50 kW, export 3.00 kW",
        "18:00:00 3.50 kW 3.00 kW as forecast",
    ):
        assert words in found, words
    assert "Legacy platform" not in found


def test_its_own_page_has_all_changes_and_a_drawing(world: World) -> None:
    found = text(world, "/circuits/sceaux-feeder")
    assert "00:00:00 4.00 kW 3.00 kW as forecast" in found
    assert "12:00:00 2.50 kW 3.00 kW 4.00 kW / 3.00 kW as forecast b1c0a9e2-day-ahead" in found
    assert "Sceaux connection: available capacity over the last 24 hours" in found
    assert world.ask("GET", "/circuits/nowhere", Role.VIEWER).status_code == 404


def test_the_drawing_steps_from_change_to_change_below_the_rating() -> None:
    circuit = story.configuration().circuits[0]
    changes = tuple(
        changed(effective_from=NOW - timedelta(hours=hours), available_import_w=watts)
        for hours, watts in ((1, 1000.0), (3, 4000.0), (30, 2000.0))
    )
    drawing = circuit_drawing(circuit, changes, ZoneInfo("Europe/Paris"), NOW)
    steps = [((step.start - NOW) / timedelta(hours=1), (step.end - NOW) / timedelta(hours=1), step.import_w) for step in drawing.steps]
    assert steps == [(-24, 0, 9000.0), (-24, -3, 2000.0), (-3, -1, 4000.0), (-1, 0, 1000.0)]
    assert "rated 9.00\u00a0kW" in [each.text for each in ET.fromstring(str(scope_chart(drawing))).iter("text")]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("WRITTEN", "Legacy platform written 20:26:40"),
        ("REFUSED", "refused (422) 20:26:40 now the platform said no"),
        ("UNREACHABLE", "unreachable"),
    ],
)
def test_what_the_platform_said_is_shown(tmp_path: Path, kind: str, words: str) -> None:
    last = changed()
    told = Event(
        event_id="told",
        at=NOW,
        subject_kind=SubjectKind.CIRCUIT,
        subject_id="sceaux-feeder",
        kind=next(each for each in CIRCUIT_WRITES if each.endswith(kind.lower())),
        words="the platform said no",
        data=json.dumps({"change_id": last.event_id, "status": 422 if kind == "REFUSED" else None}),
    )
    assert words in text(World(tmp_path, records=records(last, told)))


def test_a_value_that_only_stays_says_so() -> None:
    known = {"import_kind": PieceKind.FORECAST, "export_kind": PieceKind.FORECAST}
    unknown = {"import_kind": PieceKind.UNKNOWN, "export_kind": PieceKind.UNKNOWN}
    assert source_words(changed(**known)) == "as forecast"
    assert source_words(changed(**unknown, kind=PieceKind.UNKNOWN)) == KEPT
    assert source_words(changed(**{**known, "export_kind": PieceKind.UNKNOWN})) == f"import as forecast; export {KEPT}"
    assert source_words(None) == ""


def test_scopes_without_a_circuit_are_listed_and_circuits_are_searched(tmp_path: Path) -> None:
    plain = story.configuration().model_dump(mode="json")
    plain["scopes"].append({"id": "bare", "name": "Bare scope"})
    plain["circuits"].append({"id": "spare", "rated_import_kw": 1, "rated_export_kw": 1})
    world = World(tmp_path, configuration=Configuration.model_validate(plain))
    found = text(world)
    assert "2 circuits" in found
    assert "Nothing was said of this circuit yet" in found
    assert found.index("Scopes without a circuit") < found.index("Bare scope")
    assert "1 circuit" in text(world, "/circuits?q=SPARE")
    assert "1 circuit" in text(world, "/circuits?q=house%20in")
    assert "No circuit fits" in text(world, "/circuits?q=none")
    assert "No circuit is configured" in text(World(tmp_path / "empty", configuration=Configuration()))


def test_times_say_their_zone_where_it_is_not_the_pages(tmp_path: Path) -> None:
    plain = story.configuration().model_dump(mode="json")
    plain["circuits"].append({"id": "athens", "rated_import_kw": 9, "rated_export_kw": 6})
    plain["scopes"] += [
        {"id": "athens-house", "circuit_id": "athens", "time_zone": "Europe/Athens"},
        {"id": "rome-house", "time_zone": "Europe/Paris"},
    ]
    last, other = changed(), changed(circuit_id="athens", scope_id="athens-house")
    world = World(tmp_path, configuration=Configuration.model_validate(plain), records=records(last, other))
    found = text(world)
    assert "Since 20:26:40 now" in found
    assert "Since 21:26:40 EEST now" in found
    assert "21:26:40 EEST 3.50 kW 3.00 kW" in found
    assert "Times are local to each circuit's scope, and say so where that is not CEST (Europe/Paris)" in found
    alone = text(world, "/circuits/athens")
    assert "Since 21:26:40 now" in alone
    assert "Times are those of EEST (Europe/Athens)" in alone


def test_zones_that_share_a_name_are_told_apart() -> None:
    chicago, shanghai, winter = ZoneInfo("America/Chicago"), ZoneInfo("Asia/Shanghai"), NOW.replace(month=1)
    assert when_in(winter, shanghai, chicago, winter).words == "02:26:40 Asia/Shanghai"
    assert when_in(winter, ZoneInfo("Asia/Taipei"), shanghai, winter).words == "02:26:40"


def test_rights(world: World) -> None:
    for path in ("/circuits", "/circuits/sceaux-feeder"):
        assert world.ask("GET", path).headers["location"] == "/sign-in"
        assert world.ask("GET", path, Role.PRODUCER).status_code == 403
