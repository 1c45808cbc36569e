from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from gateway.config_file import parse_configuration, plan, read_configuration
from pipelines.rules.configuration import configuration_of
from schemas.config import ConfigChange
from sinks.errors import Misconfigured
from tests.builders import T0, configuration

PLAIN = configuration().model_dump(mode="json", exclude_defaults=True)


def applied(by: str = "file") -> dict[str, ConfigChange]:
    return {f"{c.kind}/{c.id}": c for c in plan({}, configuration(), at=T0, by=by).changes}


def test_a_file_becomes_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    assert read_configuration(path) == configuration()
    found = configuration_of(applied())
    for kind in ("circuits", "scopes", "assets", "partners", "groups"):
        assert sorted(getattr(found, kind), key=repr) == sorted(getattr(configuration(), kind), key=repr)
    assert found.timing == configuration().timing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scopes: [", "site.yaml: is not YAML at line 1"),
        ("scopes: [{id: a, circuit_id: x}]", r"scopes\[0\].circuit_id: there is no circuit 'x'"),
        ("scopes: [{id: a, colour: red}]", r"scopes\[0\].colour: unknown field"),
        ("nonsense: 1", "nonsense: unknown field"),
        ("circuits: [{id: a}]", r"circuits\[0\].rated_import_kw: Field required"),
        ("[1, 2]", "site.yaml"),
        ("partners: [{id: p, heartbeat_grace: soon}]", r"partners\[0\].heartbeat_grace"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=words):
        read_configuration(path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"none\.yaml: No such file"):
        read_configuration(tmp_path / "none.yaml")


def test_applying_again_changes_nothing() -> None:
    assert plan(applied(), configuration(), at=T0 + timedelta(hours=1)).changes == []


def test_what_someone_changed_since_stays_unless_the_file_is_to_win() -> None:
    current = applied()
    key = "scopes/mg-1"
    renamed = configuration().scopes[0].model_copy(update={"name": "Renamed on the page"})
    current[key] = current[key].model_copy(update={"by": "ann", "revision": 2, "body": renamed.model_dump_json()})
    found = plan(current, configuration(), at=T0)
    assert (found.changes, found.kept) == ([], [key])
    forced = plan(current, configuration(), at=T0, force=True)
    assert [(c.kind, c.id, c.revision) for c in forced.changes] == [("scopes", "mg-1", 3)]
    assert forced.kept == []


def test_nothing_is_removed_without_prune() -> None:
    fewer = parse_configuration({**PLAIN, "assets": PLAIN["assets"][:1]}, "site.yaml")
    assert plan(applied(), fewer, at=T0).changes == []
    removed = plan(applied(), fewer, at=T0, prune=True).changes
    assert {(c.id, c.body) for c in removed} == {("mg-1-pv", None), ("mg-1-bat", None)}
