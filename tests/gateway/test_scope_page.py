"""A scope's page and its day in the API: chosen days, empty states, rights, the history behind, and nobody's words as markup."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.auth import Role
from gateway.past import NOT_THERE, SLOW, BreachWish
from gateway.scope_day import DayFacts
from schemas.capacity import PieceKind
from schemas.compliance import Breach, VerdictKind
from schemas.config import Configuration
from schemas.connection import ConnectionState, Severity
from schemas.telemetry import Level
from schemas.units import Phase
from sinks.errors import Unavailable
from tests.gateway import story
from tests.gateway.facts import NOW, connection, envelope, event, piece, row
from tests.gateway.operations_world import World, problem
from tests.gateway.test_pages import EVIL, records, tags_of, text_of
from tests.gateway.test_scope_day import breach, verdict

PAGE, DAY = "/scopes/sceaux-house", "/api/v1/scopes/sceaux-house/day"


class FakePast:
    """A history that answers with what it is given, or is away."""

    def __init__(self, facts: DayFacts | None = None, breaches: Sequence[Breach] = ()) -> None:
        self.facts, self.known = facts, breaches
        self.asked: list[Any] = []

    async def day(self, scope_id: str, group_id: str | None, circuit_id: str | None, start: datetime, end: datetime) -> DayFacts:
        self.asked.append((scope_id, group_id, circuit_id, start, end))
        if self.facts is None:
            raise Unavailable(SLOW)
        return self.facts

    async def breaches(self, wish: BreachWish) -> Sequence[Breach]:
        self.asked.append(wish)
        return self.known


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def html_of(world: World, path: str = PAGE, role: Role = Role.VIEWER) -> str:
    answer = world.ask("GET", path, role)
    assert answer.status_code == 200, answer.text
    tags = tags_of(answer.text)
    ids = [attributes["id"] for _, attributes in tags.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in tags.seen:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert answer.text.count("<script") == 1
    return answer.text


def test_the_page_shows_the_day_whole(world: World) -> None:
    text = text_of(html_of(world))
    for words in (
        "House in Sceaux sceaux-house Over the limit",
        "Saturday 9 June 2007 96 quarter hours; Europe/Paris (CEST)",
        "Vector VEC-0001 Online",
        "Offline if silent at 20:39:50 in 13 min",
        "the normal forecasts limit, not the fallback",
        "the last limit is held on for 1 h, then the normal schedule",
        "Withheld nothing",
        "00:00–00:15 – 4.00 kW nothing measured",
        "20:00–20:15 1.43 kW 1.10 kW over the limit 0.00 kW 3.00 kW not judged 100 % 1 as forecast",
        "20:15–20:30 1.05 kW 1.10 kW running",
        "23:45–00:00 – 3.50 kW to come",
        "Energy 9.280 kWh imported 0.000 kWh exported 40 of 96 quarter hours closed",
        "open rev. 6 House in Sceaux import 18:45–20:15 6 quarters 1.45 kW 0.400 kWh 7f3d5510-emergency 6× delivered 204 VEC-0001 vector",
        "Sceaux connection sceaux-feeder",
        "house-main connection meter",
        "Import limit of VEC-0001 exceeded",
        "limit as forecast",
    ):
        assert words in text, words


def test_the_neighbouring_days_are_linked_and_the_day_stands_in_the_field(world: World) -> None:
    html = html_of(world)
    assert f'href="{PAGE}?day=2007-06-08"' in html
    assert f'href="{PAGE}?day=2007-06-10"' in html
    assert '<input id="choose" name="day" type="date" value="2007-06-09"' in html
    assert ">Today</a>" not in html
    tomorrow = html_of(world, f"{PAGE}?day=2007-06-10")
    assert ">Today</a>" in tomorrow
    assert "This day has not begun, and no limit is known for it yet." in tomorrow


def test_a_word_that_is_no_day_shows_today_and_says_so(world: World) -> None:
    text = text_of(html_of(world, f"{PAGE}?day=%3Cscript%3E"))
    assert "is no day; write it as 2007-06-09" in text
    assert "Saturday 9 June 2007" in text


def test_who_may_act_is_shown_where(world: World) -> None:
    wanted = (
        "/limit?scope=sceaux-house",
        "/adjust?partner=vector&amp;group=VEC-0001",
        "/compliance-error?partner=vector&amp;group=VEC-0001",
    )
    assert all(path in html_of(world, role=Role.OPERATOR) for path in wanted)
    assert not any(path in html_of(world, role=Role.VIEWER) for path in wanted)
    assert world.ask("GET", PAGE, Role.PRODUCER).status_code == 403
    assert world.ask("GET", PAGE).headers["location"] == "/sign-in"
    assert world.ask("GET", "/scopes/nowhere", Role.VIEWER).status_code == 404


def test_the_api_has_the_same_day(world: World) -> None:
    found = world.ask("GET", DAY, Role.VIEWER).json()
    assert (found["start"], found["end"], len(found["quarters"])) == ("2007-06-08T22:00:00.000Z", "2007-06-09T22:00:00.000Z", 96)
    assert (found["closed"], found["import_wh"], found["note"]) == (40, pytest.approx(9280.0), "")
    over = [each["start"] for each in found["quarters"] if each["imports"]["verdict"] == "BREACHED"]
    assert over == [f"2007-06-09T{at}:00.000Z" for at in ("16:45", "17:00", "17:15", "17:30", "17:45", "18:00")]
    assert found["breaches"][0]["quarters"] == 6
    assert len(world.ask("GET", f"{DAY}?date=2007-03-25", Role.VIEWER).json()["quarters"]) == 92
    assert len(world.ask("GET", f"{DAY}?date=2007-10-28", Role.VIEWER).json()["quarters"]) == 100


def test_the_api_refuses_with_a_cure(world: World) -> None:
    for wrong in ("2007-13-01", "today", "20070609", "9999-12-31", "%00", "2007-02-30"):
        refused = problem(world.ask("GET", f"{DAY}?date={wrong}", Role.VIEWER), 400)
        assert "write" in refused["detail"]
        assert refused["errors"][0]["path"] == "date"
    assert "GET /api/v1/scopes" in problem(world.ask("GET", "/api/v1/scopes/nowhere/day", Role.VIEWER), 404)["detail"]
    problem(world.ask("GET", DAY), 401)
    problem(world.ask("GET", DAY, Role.PRODUCER), 403)


def test_older_days_come_from_the_history(tmp_path: Path) -> None:
    then = NOW.replace(month=5, hour=10, minute=0, second=0)
    past = FakePast(
        DayFacts(rows={then: row(then, 2.0)}, breaches=[breach(then, 1)], pieces=[piece(then, then + timedelta(hours=1), 1, None, "f")])
    )
    world = World(tmp_path, past=past)
    text = text_of(html_of(world, f"{PAGE}?day=2007-05-09"))
    assert "12:00–12:15 2.00 kW 1.00 kW not judged" in text
    assert "1 of 96 quarter hours closed" in text
    assert "closed House in Sceaux import Wed 9 May 12:00–12:15" in text
    start = datetime.fromisoformat("2007-05-08T22:00:00+00:00")
    assert past.asked == [("sceaux-house", "VEC-0001", "sceaux-feeder", start, start + timedelta(days=1))]


def test_what_the_picture_holds_whole_is_not_asked_of_the_history(tmp_path: Path) -> None:
    past = FakePast()
    start = NOW.replace(day=8, hour=22, minute=0, second=0)
    rows = [row(start + number * timedelta(minutes=15), 1.0) for number in range(82)]
    world = World(tmp_path, past=past, records=records(*rows))
    html_of(world)
    assert past.asked == []


def test_a_history_that_does_not_answer_is_said_in_a_line(tmp_path: Path) -> None:
    world = World(tmp_path, past=FakePast())
    assert SLOW in text_of(html_of(world, f"{PAGE}?day=2007-05-09"))
    assert world.ask("GET", f"{DAY}?date=2007-05-09", Role.VIEWER).json()["note"] == SLOW
    assert NOT_THERE in text_of(html_of(World(tmp_path / "other"), f"{PAGE}?day=2007-05-09"))


def test_while_a_partner_is_away_the_card_says_what_holds(tmp_path: Path) -> None:
    fallback = piece(NOW - timedelta(hours=1), NOW + timedelta(hours=1), 2, None, "f").model_copy(
        update={"import_kind": PieceKind.FALLBACK}
    )

    def said(*values: Any) -> str:
        return text_of(html_of(World(tmp_path / str(len(list(tmp_path.iterdir()))), records=records(*values))))

    offline = connection(ConnectionState.OFFLINE)
    assert "the partner's fallback limits hold now" in said(offline, envelope(1, NOW - timedelta(hours=1), [fallback])).replace(
        "&#39;", "'"
    )
    assert "no fallback covers now, and no other limit is known" in said(offline)
    withheld = connection(withheld_since=NOW - timedelta(minutes=5))
    assert "measurements: the partner asks for a style we cannot send · since 20:21:40" in said(withheld)


def test_empty_states_say_what_to_do(tmp_path: Path) -> None:
    plain = {"scopes": [{"id": "bare", "time_zone": "Asia/Kolkata"}]}
    world = World(tmp_path, records=[], configuration=Configuration.model_validate(plain))
    text = text_of(html_of(world, "/scopes/bare"))
    assert "No capacity group is bound to this scope" in text
    assert "No circuit stands for this scope" in text
    assert "No asset belongs to this scope" in text
    assert "Asia/Kolkata (IST)" in text


def test_single_conductors_have_a_table_of_their_own(tmp_path: Path) -> None:
    quarter = NOW.replace(minute=0, second=0)
    found = verdict(quarter, VerdictKind.BREACHED, phase=Phase.TWO, allowed_wh=200.0)
    assert "20:00–20:15 two import 1.20 kW 0.80 kW over the limit" in text_of(
        html_of(World(tmp_path, records=records(row(quarter, 1.0), found)))
    )


def test_nobodys_words_become_markup(tmp_path: Path) -> None:
    evil = EVIL.replace(" ", "_")
    plain = story.configuration().model_dump(mode="json")
    plain["scopes"][0] |= {"id": evil, "name": EVIL}
    plain["groups"][0]["scope_id"] = evil
    plain["circuits"][0]["name"] = plain["partners"][0]["name"] = EVIL
    plain["assets"] = [{"id": evil, "scope_id": evil, "category": "STORAGE"}]
    quarter = NOW.replace(minute=0, second=0)
    hostile = records(
        connection(words=EVIL),
        row(quarter, 1.0),
        row(quarter, 1.0, of=evil, level=Level.ASSET),
        verdict(quarter, VerdictKind.UNKNOWN, reason=EVIL, forecasts=[EVIL], scope_id=evil),
        breach(quarter, 1, forecasts=[EVIL], scope_id=evil),
        event(NOW - timedelta(hours=1), EVIL, EVIL, Severity.ALARM, evil),
    )
    world = World(tmp_path, records=hostile, configuration=Configuration.model_validate(plain))

    for path in (
        f"/scopes/{quote(evil)}",
        "/scopes",
        "/breaches",
        "/circuits",
        f"/scopes?q={quote(EVIL)}",
        f"/breaches?about={quote(EVIL)}",
    ):
        html = html_of(world, path, Role.OPERATOR)
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert "&lt;script&gt;alert(1)" in html


def test_the_list_of_scopes_is_searched_and_puts_the_urgent_first(tmp_path: Path) -> None:
    plain = story.configuration().model_dump(mode="json")
    plain["scopes"] = [{"id": f"quiet-{number}", "name": f"Quiet {number}"} for number in range(120)] + plain["scopes"]
    world = World(tmp_path, configuration=Configuration.model_validate(plain))
    html = html_of(world, "/scopes")
    text = text_of(html)
    assert "121 scopes, those that need attention first" in text
    assert text.index("House in Sceaux") < text.index("Quiet 0")
    assert "Part 1 of 2" in text
    assert html_of(world, "/scopes?page=2").count("Quiet ") == 21
    assert "Over the limit House in Sceaux sceaux-house 1.38 kW 1.10 kW" in text_of(html_of(world, "/scopes?q=vec-0001"))
    assert "No scope fits." in html_of(world, "/scopes?q=nowhere")
    assert "No scope is configured" in html_of(World(tmp_path / "none", records=[], configuration=Configuration()), "/scopes")
    overview = text_of(world.ask("GET", "/", Role.VIEWER).text)
    assert "All 121 scopes" in overview
    assert "House in Sceaux" in overview
    assert "0 of 121 scopes within limit" in overview


def test_the_navigation_marks_where_one_is(world: World) -> None:
    for path, here in (("/", "Overview"), (PAGE, "Scopes"), ("/scopes", "Scopes"), ("/breaches", "Breaches"), ("/circuits", "Circuits")):
        html = world.ask("GET", path, Role.VIEWER).text
        assert html.count('aria-current="page"') == 1
        assert f'aria-current="page">{here}</a>' in html
    assert 'aria-label="Sections"' in world.ask("GET", "/partners/vector", Role.VIEWER).text
