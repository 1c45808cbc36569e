"""The page of breaches and the same list in the API: conditions, parts, what the history adds, and what the partner was told."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Role
from gateway.past import BreachWish
from schemas.compliance import Breach, BreachState
from schemas.facts import Value
from schemas.intervals import quarter_of
from schemas.outbound import Outcome
from schemas.units import Direction, Phase
from sinks.errors import Unavailable
from tests.gateway.facts import NOW, delivery, message
from tests.gateway.operations_world import World, problem
from tests.gateway.test_pages import records, tags_of, text_of
from tests.gateway.test_scope_day import breach
from tests.gateway.test_scope_page import FakePast

TODAY = quarter_of(NOW) - timedelta(hours=4)
YESTERDAY = TODAY - timedelta(days=1)


def some() -> list[Value]:
    return [
        breach(TODAY, 3, state=BreachState.CONTINUED, revision=3, forecasts=["f1"]),
        breach(YESTERDAY, 1, forecasts=["f1"]),
        breach(YESTERDAY + timedelta(hours=1), 2, direction=Direction.EXPORT, state=BreachState.VOIDED, revision=2, phase=Phase.ONE),
    ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, records=records(*some()))


def text(world: World, query: str = "", role: Role = Role.VIEWER) -> str:
    answer = world.ask("GET", f"/breaches{query}", role)
    assert answer.status_code == 200, answer.text
    tags_of(answer.text)
    return text_of(answer.text)


def listed(world: World, query: str = "") -> list[Any]:
    answer = world.ask("GET", f"/api/v1/breaches{query}", Role.VIEWER)
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


def test_all_are_listed_newest_first(world: World) -> None:
    found = text(world)
    assert "3 breaches, the newest first" in found
    assert "open rev. 3 House in Sceaux import 16:15–17:00 3 quarters 1.50 kW 0.120 kWh f1" in found
    assert "voided rev. 2 House in Sceaux export, phase one Fri 8 Jun 17:15–17:45" in found
    assert found.index("16:15–17:00") < found.index("17:15–17:45") < found.index("16:15–16:30")
    assert 'href="/scopes/sceaux-house?day=2007-06-08"' in world.ask("GET", "/breaches", Role.VIEWER).text


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?state=open", 1),
        ("?state=closed", 1),
        ("?state=voided", 1),
        ("?direction=export", 1),
        ("?partner=vector", 3),
        ("?partner=other", 0),
        ("?about=VEC-0001", 3),
        ("?about=sceaux-house", 3),
        ("?about=house%20in%20sceaux", 3),
        ("?about=gone", 0),
        ("?from=2007-06-09", 1),
        ("?to=2007-06-08", 2),
        ("?from=2007-06-08&to=2007-06-08&direction=import", 1),
    ],
)
def test_conditions_stand_in_the_address(world: World, query: str, count: int) -> None:
    found = text(world, query)
    assert ("1 breach that fit" in found) if count == 1 else (f"{count} breaches that fit" in found)
    html = world.ask("GET", f"/breaches{query}", Role.VIEWER).text
    assert ("No breach fits." in html) is (count == 0)


def test_conditions_that_mean_nothing_are_left_out_and_said(world: World) -> None:
    found = text(world, "?state=odd&direction=up&from=yesterday")
    assert "'odd' is no state; it is open, closed or voided; this condition was left out" in found.replace("&#39;", "'")
    assert "is no direction" in found
    assert "is no day; write it as 2026-10-25" in found
    assert "3 breaches" in found


def test_the_api_has_the_same_conditions(world: World) -> None:
    assert [each["state"] for each in listed(world)] == ["CONTINUED", "VOIDED", "CLOSED"]
    assert [len(listed(world, f"?state={state}")) for state in ("open", "closed", "voided", "all")] == [1, 1, 1, 3]
    assert len(listed(world, "?direction=EXPORT&partner_id=vector&group_id=VEC-0001&scope_id=sceaux-house")) == 1
    assert len(listed(world, "?from=2007-06-09T00:00:00Z")) == 1
    assert len(listed(world, "?to=2007-06-09T00:00:00Z")) == 2
    assert len(listed(world, "?limit=1")) == 1
    problem(world.ask("GET", "/api/v1/breaches?from=yesterday", Role.VIEWER), 400)


def test_the_history_adds_older_ones_and_the_picture_knows_better(tmp_path: Path) -> None:
    old = breach(YESTERDAY - timedelta(days=30), 4)
    stale = breach(TODAY, 1, state=BreachState.OPENED, revision=1)
    past = FakePast(breaches=[stale, old])
    world = World(tmp_path, records=records(*some()), past=past)
    assert [each["revision"] for each in listed(world)] == [3, 2, 1, 1]
    assert "4 breaches" in text(world)
    assert "Wed 9 May" in text(world)
    listed(world, "?state=open&scope_id=s1")
    wish = past.asked[-1]
    assert isinstance(wish, BreachWish)
    assert (wish.scope_id, set(wish.states)) == ("s1", {"OPENED", "CONTINUED"})


def test_a_history_that_is_away_is_said(tmp_path: Path) -> None:
    class Away(FakePast):
        async def breaches(self, wish: BreachWish) -> list[Breach]:
            raise Unavailable("the history is away")

    world = World(tmp_path, records=records(*some()), past=Away())
    assert "the history is away" in text(world)
    assert world.ask("GET", "/api/v1/breaches", Role.VIEWER).json()["note"] == "the history is away"


def test_what_the_partner_was_told_stands_with_the_breach_it_is_about(tmp_path: Path) -> None:
    early = message("GroupCapacityComplianceError", YESTERDAY + timedelta(minutes=20), "f1")
    late = [message("GroupCapacityComplianceError", TODAY + timedelta(minutes=minutes), "f1") for minutes in (16, 31)]
    other = message("GroupCapacityComplianceError", TODAY, "of another forecast")
    told = [early, *late, other, delivery(early, Outcome.REFUSED, 409), *(delivery(one) for one in late)]
    found = text(World(tmp_path, records=records(*some(), *told)))
    assert "f1 2× delivered 204 VEC-0001 vector" in found
    assert "f1 refused 409 VEC-0001 vector" in found
    assert "kWh no VEC-0001" in found


def test_long_lists_come_in_parts(tmp_path: Path) -> None:
    many = [breach(YESTERDAY - number * timedelta(hours=2), 1) for number in range(120)]
    world = World(tmp_path, records=records(*many))
    assert "Part 1 of 3" in text(world)
    html = world.ask("GET", "/breaches?page=2&state=closed", Role.VIEWER).text
    assert 'href="?state=closed&amp;page=3"' in html
    assert 'href="?state=closed&amp;page=1"' in html
    assert "Part 3 of 3" in text(world, "?page=99")
    assert "Part 1 of 3" in text(world, "?page=-1")


def test_rights(world: World) -> None:
    assert world.ask("GET", "/breaches").headers["location"] == "/sign-in"
    assert world.ask("GET", "/breaches", Role.PRODUCER).status_code == 403
    assert "/compliance-error?" in world.ask("GET", "/breaches", Role.OPERATOR).text
    assert "/compliance-error?" not in world.ask("GET", "/breaches", Role.VIEWER).text
