"""Behind the translation nobody knows the protocol a limit came by (semantics 3.4)."""

import ast
import re
from pathlib import Path

import pytest

import pipelines.rules

RULES = Path(pipelines.rules.__file__).parent
NAMES = (
    "schedules",
    "limits",
    "ladder",
    "in_force",
    "kept",
    "repeats",
    "envelopes",
    "envelope_parts",
    "envelope_facts",
    "scope_items",
    "scope_changes",
    "fan_out",
    "circuits",
    "patience",
)
WORDS = re.compile(
    r"oscp|x-request-id|request_id|forecasted_block|group_capacity|(?<!FALLBACK_)\b(CONSUMPTION|GENERATION)\b", re.IGNORECASE
)


@pytest.mark.parametrize("name", NAMES)
def test_the_rules_of_limits_know_no_protocol(name: str):
    text = (RULES / f"{name}.py").read_text()
    imported = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    assert not [module for module in imported if "oscp" in module or module.startswith(("sinks", "gateway"))]
    assert not [module for module in imported if module == "schemas.connection" and name not in ("envelope_facts",)]  # events only
    assert not WORDS.findall(text)


def test_they_import_only_each_other_and_nouns():
    for name in NAMES:
        for node in ast.walk(ast.parse((RULES / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipelines."):
                module = str(node.module)
                inside = module in ("pipelines.records", "pipelines.rules") or module.removeprefix("pipelines.rules.") in NAMES
                assert inside, f"{name} imports {module}"
