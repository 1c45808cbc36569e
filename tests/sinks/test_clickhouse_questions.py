"""Saved questions and the dashboard: every one runs, on an empty history and on one with rows, and names what exists."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import sinks.clickhouse
from schemas.facts import Value
from schemas.intervals import local_day
from schemas.telemetry import Level, QuarterHour
from schemas.topics import FLOW_REPORTS, READINGS, TOPICS
from sinks.clickhouse.client import Store
from sinks.clickhouse.fence import check
from sinks.clickhouse.queries import Parameter, parse, question, questions
from sinks.clickhouse.sink import Batch, History
from sinks.errors import Misconfigured
from tests.builders import T0
from tests.schemas.golden import example

HERE = Path(sinks.clickhouse.__file__).parent
DASHBOARDS = sorted((HERE / "grafana").glob("*.json"))
NAMES = [each.name for each in questions()]


def goldens(store: Store) -> None:
    history = History(store, "life", 1)
    for topic in TOPICS:
        if topic not in (*READINGS, FLOW_REPORTS):
            history.add(Batch(topic.name, 0, 1, 1, [(1, example(topic.name))]))
    history.flush()


def views(store: Store) -> set[str]:
    return {row["name"] for row in store.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")}


def test_headroom_is_among_them() -> None:
    assert "headroom" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_question_runs_with_its_defaults(store: Store, name: str) -> None:
    asked = question(name)
    check(asked.sql)
    assert asked.title
    assert asked.words
    store.query(asked.sql, asked.values({}))
    goldens(store)
    store.query(asked.sql, asked.values({}))


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_is_used_and_each_used_one_is_said(name: str) -> None:
    asked = question(name)
    used = set(re.findall(r"\{(\w+):(\w+)\}", asked.sql))
    assert used == {(parameter.name, parameter.kind) for parameter in asked.parameters}


@pytest.mark.parametrize("name", NAMES)
def test_questions_read_views_only(store: Store, name: str) -> None:
    assert set(re.findall(r"\b(?:FROM|JOIN) (\w+)", question(name).sql)) <= views(store)


def test_an_unknown_question_or_parameter_is_told_what_there_is() -> None:
    with pytest.raises(Misconfigured, match="headroom"):
        question("nope")
    with pytest.raises(Misconfigured, match="group, hours"):
        question("headroom").values({"nope": "1"})
    assert question("headroom").values({"hours": "2"}) == {"group": "", "hours": "2"}


def test_heads_of_questions() -> None:
    text = "-- title: T\n-- words: one\n-- words: two\n-- param: a String = 'x y' | w\n-- param: n UInt8 = 3 | m\nSELECT 1\n"
    parsed = parse("q", text)
    assert (parsed.words, parsed.sql) == ("one two", "SELECT 1")
    assert parsed.parameters == (Parameter("a", "String", "x y", "w"), Parameter("n", "UInt8", "3", "m"))
    with pytest.raises(ValueError, match="title"):
        parse("q", "SELECT 1")
    with pytest.raises(ValueError, match="parameter"):
        parse("q", "-- title: T\n-- words: w\n-- param: a\nSELECT 1")


@pytest.mark.parametrize(("day", "length"), [("2026-09-27", 92), ("2026-09-28", 96), ("2026-04-05", 100)])
def test_local_days_have_92_96_or_100_quarters(store: Store, day: str, length: int) -> None:
    golden = example("derms.quarter-hours")
    assert isinstance(golden, QuarterHour)
    noon = T0.fromisoformat(f"{day}T00:30:00+00:00")  # noon or so in Auckland
    start, end = local_day(noon, "Pacific/Auckland")
    rows: list[tuple[int, Value]] = []
    at = start - timedelta(hours=3)
    while at < end + timedelta(hours=3):
        changes: dict[str, Any] = {"start": at, "import_wh": 250.0, "level": Level.ASSET, "id": "a", "revision": 1, "provisional": False}
        rows.append((len(rows), golden.model_copy(update=changes)))
        at += timedelta(minutes=15)
    history = History(store, "life", 1)
    history.add(Batch("derms.quarter-hours", 0, 0, len(rows) - 1, rows))
    history.flush()
    asked = question("energy")
    found = {str(row["day"]): row for row in store.query(asked.sql, asked.values({}))}
    assert (found[day]["quarters"], found[day]["of"], found[day]["complete"]) == (length, length, 1)
    assert found[day]["import_kwh"] == length / 4
    assert sorted(row["complete"] for row in found.values()) == [0, 0, 1]


def test_in_force_joins_the_limits_of_the_time(store: Store) -> None:
    goldens(store)
    asked = question("in_force")
    for row in store.query(asked.sql, asked.values({})):
        assert row["import_kind"]


def test_there_is_a_dashboard() -> None:
    assert DASHBOARDS


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_dashboards_read_existing_views_and_their_queries_run(store: Store, file: Path) -> None:
    goldens(store)
    dashboard = json.loads(file.read_text())
    queries = [target["rawSql"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert queries
    for sql in queries:
        assert set(re.findall(r"\b(?:FROM|JOIN) (\w+)", sql)) <= views(store)
        plain = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 >= toDateTime(0) AND \1 <= now()", sql)
        plain = re.sub(r"\$\{?group\}?", "VEC-0001", plain)
        assert "$" not in plain
        check(plain)
        store.query(plain)
