"""The configuration over the API: shown as it is taken, changed all or nothing, never from a stale revision."""

from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Role
from pipelines.rules.configuration import changes_between
from schemas.config import Configuration
from schemas.topics import CONFIG
from tests.gateway import story
from tests.gateway.facts import NOW
from tests.gateway.operations_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The story's house, configured by file, with a topic that is followed."""
    found = World(tmp_path)
    for change in changes_between({}, story.configuration(), by="file", at=NOW):
        found.config.take("", change)
    found.appender.then = found.config.take
    return found


def shown(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.ask("GET", "/api/v1/config", Role.VIEWER).json()
    return found


def put(world: World, configuration: Any, **options: Any) -> Any:
    return world.ask("PUT", "/api/v1/config", Role.ADMIN, json={"configuration": configuration, **options})


def test_what_is_shown_is_taken_again_and_changes_nothing(world: World) -> None:
    found = shown(world)
    assert Configuration.model_validate(found["configuration"]) == world.config.current()
    assert {(item["kind"], item["by"], item["revision"]) for item in found["items"]} >= {("partners", "file", 1), ("groups", "file", 1)}
    answer = put(world, found["configuration"], revision=found["revision"], prune=True)
    assert (answer.status_code, answer.json()) == (200, {"applied": True, "revision": found["revision"], "changes": []})
    assert world.appender.appended == []


def test_a_change_is_written_in_the_order_of_references_with_who_and_when(world: World) -> None:
    found = shown(world)
    plain = found["configuration"]
    plain["scopes"].append({"id": "shed", "circuit_id": "shed-feeder"})
    plain["circuits"].append({"id": "shed-feeder", "rated_import_kw": 5, "rated_export_kw": 5})
    plain["partners"][0]["name"] = "Vector Limited"
    answer = put(world, plain, revision=found["revision"])
    assert answer.status_code == 200
    changes = [(one["kind"], one["id"], one["change"], one["revision"]) for one in answer.json()["changes"]]
    assert changes == [("circuits", "shed-feeder", "added", 1), ("scopes", "shed", "added", 1), ("partners", "vector", "changed", 2)]
    assert [(key, value.by, value.at) for topic, key, value in world.appender.appended if topic == CONFIG.name] == [
        ("circuits/shed-feeder", "admin-1", NOW),
        ("scopes/shed", "admin-1", NOW),
        ("partners/vector", "admin-1", NOW),
    ]
    assert answer.json()["revision"] == shown(world)["revision"] == found["revision"] + 3


def test_a_stale_revision_is_refused(world: World) -> None:
    found = shown(world)
    plain = found["configuration"]
    plain["partners"][0]["name"] = "One"
    assert put(world, plain, revision=found["revision"]).status_code == 200
    plain["partners"][0]["name"] = "Other"
    answer = put(world, plain, revision=found["revision"])
    assert answer.status_code == 409
    assert answer.json()["title"] == "Stale revision"
    partner = world.config.current().partner("vector")
    assert partner is not None
    assert partner.name == "One"


def test_nothing_is_removed_without_prune_and_a_dry_run_changes_nothing(world: World) -> None:
    plain = shown(world)["configuration"]
    plain["assets"] = [asset for asset in plain["assets"] if asset["id"] != "house-laundry"]
    assert put(world, plain).json()["changes"] == []
    dry = put(world, plain, prune=True, dry_run=True).json()
    assert (dry["applied"], [one["change"] for one in dry["changes"]]) == (False, ["removed"])
    assert world.config.current().asset("house-laundry") is not None
    assert put(world, plain, prune=True).json()["changes"][0]["id"] == "house-laundry"
    assert world.config.current().asset("house-laundry") is None
    assert "house-laundry" not in str(shown(world)["items"])


@pytest.mark.parametrize(
    ("configuration", "path", "words"),
    [
        ({"scopes": [{"id": "x", "circuit_id": "none"}]}, "", "there is no circuit 'none'"),
        ({"scopes": [{"id": "x", "time_zone": "Mars/Base"}]}, "scopes[0].time_zone", "unknown time zone"),
        ({"scopes": [{"id": "x", "colour": "red"}]}, "scopes[0].colour", "not permitted"),
        ({"circuits": [{"id": "x"}]}, "circuits[0].rated_import_kw", "required"),
        ({"circuits": "none"}, "circuits", "valid tuple"),
    ],
)
def test_a_wrong_configuration_is_refused_whole_with_path_and_reason(world: World, configuration: Any, path: str, words: str) -> None:
    answer = put(world, configuration)
    assert answer.status_code == 400
    error = answer.json()["errors"][0]
    assert error["path"] == path
    assert words in error["message"]
    assert world.appender.appended == []


def test_what_would_not_go_with_the_items_that_stay_is_refused(world: World) -> None:
    second = {"id": "other", "circuit_id": "sceaux-feeder"}
    answer = put(world, {"circuits": shown(world)["configuration"]["circuits"], "scopes": [second]})
    assert answer.status_code == 400
    assert "sceaux-feeder" in answer.json()["detail"]
    assert "nothing was changed" in answer.json()["detail"]
    assert world.appender.appended == []
