"""The page: that everything is on it, in words people understand, and that nobody's words become markup."""

import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Role
from gateway.outlook import Outlook, next_change
from gateway.picture import Picture
from gateway.projection import fold
from gateway.scope_card import scope_card
from pipelines.records import Record
from schemas.capacity import CircuitCapacity
from schemas.clock import ScaledClock
from schemas.config import Configuration
from schemas.connection import ConnectionState, Severity
from schemas.facts import Value
from schemas.intervals import QUARTER
from schemas.outbound import DeadLetter, Outcome
from schemas.telemetry import Level
from tests.gateway import story
from tests.gateway.facts import NOW, connection, delivery, envelope, event, message, piece, record, row
from tests.gateway.operations_world import World

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
START = NOW.replace(minute=15, second=0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, attribution=story.ATTRIBUTION)


def page_of(world: World) -> str:
    answer = world.ask("GET", "/", Role.VIEWER)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def text_of(html: str) -> str:
    """What stands on the page, as one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html).replace("\u00a0", " "))


def records(*values: Value) -> list[Record]:
    return [record(value, offset) for offset, value in enumerate(values)]


class Tags(HTMLParser):
    """Checks that elements are closed in order, and keeps what it saw."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(html: str) -> Tags:
    found = Tags()
    found.feed(html)
    assert found.open == []
    return found


def test_everything_is_on_the_page(world: World) -> None:
    text = text_of(page_of(world))
    for words in (
        "Sat 9 Jun 2007, 20:26:40 CEST",
        "Vector vector Online",
        "Heartbeat in 20:24:50 1 min ago · every 5 min",
        "Heartbeat out 20:23:40",
        "House in Sceaux sceaux-house Over the limit",
        "Running quarter 20:15–20:30 1.38 kW of 1.10 kW",
        "Import limit now 1.10 kW as forecast",
        "Import available 1.10 kW of 9.00 kW rated",
        "Next change 22:30:00 in 2 h 3 min : import 3.50 kW, export 3.00 kW",
        "open House in Sceaux import 18:45:00",
        "GroupCapacityComplianceError delivered 204",
        story.EMERGENCY,
        "The breach of VEC-0001 continues",
        "unknown asset 15",
        "import (+)",
        "Times in CEST (Europe/Paris)",
        "doi:10.24432/C58K54",
        "nothing measured",
    ):
        assert words in text, words


def test_it_is_sound_html_without_anything_from_elsewhere_or_inline(world: World) -> None:
    html = page_of(world)
    tags = tags_of(html)
    ids = [attributes["id"] for _, attributes in tags.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in tags.seen:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "/").startswith("/"), (tag, attributes)
    assert html.count("<script") == 1
    for reference in re.findall(r'aria-labelledby="([^"]+)"', html):
        assert set(reference.split()) <= set(ids)


def test_the_chart_has_a_title_words_and_the_same_as_a_table(world: World) -> None:
    html = page_of(world)
    assert '<title id="chart-sceaux-house-900-t">House in Sceaux: mean power of each quarter hour against its limit</title>' in html
    assert "6 of them over the limit. The same figures stand in the table below." in html
    assert "20:00–20:15 1.43 kW 1.10 kW over the limit 0.00 kW 3.00 kW not judged 100 %" in text_of(html)
    assert "17:30–17:45 1.98 kW 2.50 kW within 0.00 kW 3.00 kW not judged 87 %" in text_of(html)


def test_nobodys_words_become_markup(tmp_path: Path) -> None:
    evil_id = EVIL.replace(" ", "_")
    plain = story.configuration().model_dump(mode="json")
    plain["circuits"][0]["name"] = plain["scopes"][0]["name"] = EVIL
    plain["partners"][0]["name"] = EVIL
    plain["assets"].append({"id": evil_id, "scope_id": "sceaux-house", "category": "STORAGE"})
    owed = message(EVIL, NOW, EVIL)
    evil = records(
        *story.values(),
        connection(words=EVIL, peer_base_url=EVIL),
        event(NOW, EVIL, EVIL, Severity.ALARM),
        row(START - QUARTER, 1.0, of=evil_id, level=Level.ASSET),
        envelope(9, NOW, [piece(NOW, NOW + timedelta(hours=1), 1, 1, EVIL)]),
        owed,
        delivery(owed, Outcome.REFUSED, 400, words=EVIL),
        next(value for value in story.values() if isinstance(value, DeadLetter)).model_copy(update={"event_id": "x", "reason": EVIL}),
    )
    world = World(tmp_path, records=evil, configuration=Configuration.model_validate(plain), attribution=EVIL)
    html = page_of(world)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    tags = tags_of(html)
    assert [attributes.get("src") for tag, attributes in tags.seen if tag == "script"] == ["/static/live.js"]
    assert not any("onerror" in attributes for _, attributes in tags.seen)


def test_hostile_paths_and_forms_come_back_as_text(world: World) -> None:
    answer = world.ask("GET", "/%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status_code == 404
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert world.ask("POST", "/sign-in", data={"token": EVIL}).status_code == 403
    assert world.ask("POST", "/sign-in", json={"token": "x"}).status_code == 415


def test_empty_states_say_what_to_do_next(tmp_path: Path) -> None:
    nothing = text_of(page_of(World(tmp_path, records=[], configuration=Configuration())))
    assert "derms config apply FILE" in nothing
    assert "No partner is configured" in nothing
    new = text_of(page_of(World(tmp_path, records=[])))
    assert "derms partner token vector" in new
    assert "No readings yet. Produce them to derms.telemetry" in new
    assert "No breach." in new


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ConnectionState.AWAITING_REGISTER, "Waiting for the partner to register"),
        (ConnectionState.REGISTERED, "has to send its handshake"),
        (ConnectionState.SUSPENDED, "derms partner resume vector"),
        (ConnectionState.OFFLINE, "Offline"),
    ],
)
def test_each_connection_state_is_said_with_what_helps(tmp_path: Path, state: ConnectionState, words: str) -> None:
    assert words in text_of(page_of(World(tmp_path, records=records(connection(state)))))


def test_the_clocks_speed_is_said_and_news_come_sooner(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert 'data-refresh="10"' in page_of(world)
    desk = world.app.state.desk
    object.__setattr__(desk, "clock", ScaledClock(NOW, NOW, 240.0))
    html = page_of(world)
    assert "×240" in html
    assert 'data-refresh="3"' in html


def test_pages_elsewhere_have_their_own_error_page(world: World) -> None:
    answer = world.ask("GET", "/nowhere")
    assert answer.status_code == 404
    assert "There is nothing at /nowhere." in answer.text
    assert world.ask("GET", "/", Role.PRODUCER).status_code == 403


def picture_of(*values: Value) -> Picture:
    picture = Picture()
    for each in records(*values):
        fold(picture, each)
    return picture


def card_state(*values: Value) -> str:
    configuration = story.configuration()
    return scope_card(Outlook(picture_of(*values), configuration, configuration.scopes[0], NOW)).state.words


def test_a_scopes_state_in_a_word() -> None:
    limits = envelope(1, START, [piece(START - QUARTER, START + QUARTER, 2, None, "f")])

    def running(kilowatts: float) -> Value:
        return row(START, kilowatts, provisional=True, revision=0, at=NOW, last_minute_w=kilowatts * 1000)

    assert card_state() == "No readings"
    assert card_state(limits) == "No readings"
    assert card_state(running(1.0)) == "Limit not known"
    assert card_state(limits, running(1.0)) == "Within the limit"
    assert card_state(limits, running(1.9)) == "At risk"
    assert card_state(*story.values()) == "Over the limit"


def at_the_start_of_a_quarter(tmp_path: Path, *values: Value) -> World:
    """The story eight seconds after 20:30, when 20:15 has ended and nothing has come of 20:30."""
    found = World(tmp_path, records=[*story.records(), *records(*values)])
    found.clock.advance(START + QUARTER + timedelta(seconds=8) - NOW)
    return found


def test_a_quarter_that_has_ended_is_shown_while_it_is_not_closed(tmp_path: Path) -> None:
    world = at_the_start_of_a_quarter(tmp_path)
    html = page_of(world)
    tags_of(html)
    text = text_of(html)
    assert "Quarter 20:15–20:30, not closed yet 1.05 kW of 1.10 kW mean import so far, 73 % measured; nothing of 20:30–20:45 yet" in text
    assert "Last closed quarter 20:00–20:15 1.43 kW" in text
    assert "Running quarter" not in text
    assert "20:15–20:30: 1.05 kW so far, not closed yet" in text
    assert "20:15–20:30 1.05 kW 1.10 kW not closed yet" in text  # the table
    assert 'class="k-unclosed"' in html
    assert html.count('class="bar unclosed"') == 2
    assert html.count("<title>nothing measured</title>") == 2  # one ground each, for a gap of two quarters

    world.projection.take(records(row(START + QUARTER, 0.1, provisional=True, revision=0, at=START + QUARTER, last_minute_w=900.0)))
    html = page_of(world)
    assert "Running quarter 20:30–20:45" in text_of(html)
    assert (html.count('class="bar unclosed"'), html.count('class="bar running"')) == (2, 2)

    world.projection.take(records(row(START, 1.2)))
    assert "not closed yet" not in page_of(world)


def test_what_is_not_closed_is_in_the_api_beside_the_running_quarter(tmp_path: Path) -> None:
    world = at_the_start_of_a_quarter(tmp_path)

    def ask(path: str) -> Any:
        return world.ask("GET", path, Role.VIEWER).json()

    assert ask("/api/v1/scopes/sceaux-house")["running_quarter"] is None
    world.projection.take(records(row(START + QUARTER, 0.1, provisional=True, revision=0, last_minute_w=900.0)))
    assert ask("/api/v1/scopes/sceaux-house")["running_quarter"]["start"] == "2007-06-09T18:30:00.000Z"
    listed = ask("/api/v1/quarter-hours?level=GROUP&provisional=true&limit=3")["items"]
    assert [(each["start"][11:16], each["provisional"]) for each in listed] == [("18:30", True), ("18:15", True), ("18:00", False)]
    assert not any(each["provisional"] for each in ask("/api/v1/quarter-hours")["items"])


def test_an_ended_quarter_above_its_limit_is_a_risk_until_it_is_judged() -> None:
    before = START - QUARTER
    limits = envelope(1, before, [piece(before, START + QUARTER, 2, None, "f")])
    waits = row(before, 2.1, provisional=True, revision=0, at=START)
    assert card_state(limits, waits) == "At risk"
    assert card_state(limits, row(before, 1.9, provisional=True, revision=0, at=START)) == "Within the limit"
    configuration = story.configuration()
    card = scope_card(Outlook(picture_of(limits, waits), configuration, configuration.scopes[0], NOW))
    assert card.unclosed is not None
    assert 'class="gauge bad"' in card.unclosed.gauge
    assert 'class="bar unclosed risk"' in card.chart_wide
    assert card.kinds == ("unclosed",)
    old = row(START - 4 * QUARTER, 1.0, provisional=True, revision=0, at=START)
    card = scope_card(Outlook(picture_of(limits, old), configuration, configuration.scopes[0], NOW))
    assert (card.unclosed, card.state.words) == (None, "No readings")


def test_the_chart_begins_where_there_is_something_to_draw() -> None:
    configuration = story.configuration()
    yesterday = NOW - timedelta(days=1)

    def begins(*values: Value) -> str:
        chart = scope_card(Outlook(picture_of(*values), configuration, configuration.scopes[0], NOW)).chart_wide
        return str(re.findall(r"from (\d\d:\d\d) to 01:30", chart)[0])

    def limited(since: datetime, import_kw: float | None) -> Value:
        return envelope(1, yesterday, [piece(since, NOW, import_kw, None, "f")])

    early = row(NOW.replace(hour=13, minute=15, second=0), 1.0)
    assert begins(early) == "15:00"
    assert begins(early, limited(NOW.replace(hour=12, minute=40), 2)) == "14:00"
    assert begins(early, limited(NOW.replace(hour=9), None)) == "15:00"
    assert begins(early, limited(yesterday, 2)) == "09:30"
    assert begins(row(START, 1.0)) == "19:30"


def test_a_scope_that_gives_is_shown_by_what_it_gives() -> None:
    limits = envelope(1, START, [piece(START - QUARTER, START + QUARTER, 2, 4, "f")])
    sunny = row(START, 0.0, export_wh=600.0, provisional=True, revision=0, at=NOW, last_minute_w=-3000.0)
    configuration = story.configuration()
    card = scope_card(Outlook(picture_of(limits, sunny), configuration, configuration.scopes[0], NOW))
    found = (card.way, card.so_far, card.projected, card.limit_now, card.state.words, card.other_words)
    assert found == ("export", "2.40\u00a0kW", "3.07\u00a0kW", "4.00\u00a0kW", "Within the limit", "import limit 2.00\u00a0kW")
    assert "export" in card.kinds


def test_the_next_change_keeps_what_is_known_where_the_limit_is_not() -> None:
    circuit = story.configuration().circuits[0]
    hour = timedelta(hours=1)
    last = next(value for value in story.values() if isinstance(value, CircuitCapacity))
    pieces = [piece(NOW + number * hour, NOW + (number + 1) * hour, limit, 3, "a") for number, limit in enumerate((4, None, 20))]
    picture = picture_of(envelope(1, NOW, pieces))
    change = next_change(circuit, picture.envelopes["sceaux-house"], last, NOW)
    assert change is not None
    assert (change.at - NOW, change.import_w, change.export_w) == (2 * hour, 9000.0, 3000.0)
