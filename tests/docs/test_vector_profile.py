"""The tables of docs/vector-profile.md agree with the code: settings, what the preset says of them, and tests."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from schemas.config import Measurements, OAuth, Partner, Tls, Wants
from schemas.topology import Group

ROOT = Path(__file__).parents[2]
PARTS: dict[str, type[BaseModel]] = {"wants": Wants, "oauth": OAuth, "measurements": Measurements, "tls": Tls}
"""Fields of a partner that have fields of their own."""
CODE = re.compile(r"`([^`]+)`")
TEST = re.compile(r"tests/[\w/]+\.py::\w+")
REQUIRED = "required"


class Line(NamedTuple):
    """One line of the profile."""

    words: str
    settings: str
    preset: str
    tests: str


def tables() -> list[list[list[str]]]:
    """The tables of the page, without their heads."""
    text = (ROOT / "docs" / "vector-profile.md").read_text()
    found = [block for block in text.split("\n\n") if block.startswith("|")]
    return [[[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.strip().splitlines()[2:]] for block in found]


PROFILE = [Line(*cells) for cells in tables()[0]]
RULES = tables()[1]


def settings_of(line: Line) -> Iterator[tuple[str, str]]:
    """Each setting of a line, with what the preset says of it as it stands there."""
    names = CODE.findall(line.settings)
    values = [each.strip("`") for each in re.findall(rf"`[^`]*`|{REQUIRED}", line.preset)]
    assert len(names) == len(values), line
    yield from zip(names, values, strict=True)


def by_setting() -> dict[str, str]:
    found = [pair for line in PROFILE for pair in settings_of(line)]
    assert len(dict(found)) == len(found), "a setting stands in two lines"
    return dict(found)


def expected() -> set[str]:
    """All settings of a partner, those of its parts by part and name."""
    own = {name for name in Partner.model_fields if name not in PARTS} | {"oauth"}
    return own | {f"{part}.{name}" for part, model in PARTS.items() for name in model.model_fields}


def owner(setting: str) -> tuple[type[BaseModel], str]:
    part, _, name = setting.rpartition(".")
    return {"": Partner, "group": Group, **PARTS}[part], name


def test_every_setting_of_a_partner_is_in_the_table() -> None:
    assert {name for name in by_setting() if not name.startswith("group.")} == expected()
    groups = {name.removeprefix("group.") for name in by_setting() if name.startswith("group.")}
    assert groups == set(Group.model_fields) - {"partner_id", "group_id", "scope_id"}


@pytest.mark.parametrize("setting", sorted(by_setting()))
def test_the_preset_is_as_the_table_says(setting: str) -> None:
    model, name = owner(setting)
    said, field = by_setting()[setting], model.model_fields[name]
    if said == REQUIRED:
        assert field.is_required()
        return
    assert not field.is_required()
    present = field.get_default(call_default_factory=True)
    if model is Partner:
        present = getattr(Partner(id="vector", profile="vector"), name)
    assert TypeAdapter[Any](field.annotation).validate_python(yaml.safe_load(said)) == present


def test_the_preset_is_what_holds_where_nothing_is_said() -> None:
    assert Partner(id="vector") == Partner(id="vector", profile="vector")
    with pytest.raises(ValueError, match="profile"):
        Partner.model_validate({"id": "vector", "profile": "another"})


@functools.cache
def functions_in(file: str) -> frozenset[str]:
    """The tests of a file."""
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    functions = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in functions if name.startswith("test_"))


@pytest.mark.parametrize("cell", [*(line.tests for line in PROFILE), *(cells[-1] for cells in RULES)])
def test_every_line_has_tests_and_they_are_there(cell: str) -> None:
    named = CODE.findall(cell)
    assert named
    for each in named:
        assert TEST.fullmatch(each), each
        file, _, function = each.partition("::")
        assert function in functions_in(file), each
