"""The operator's hand as pages: prefilled, looked at as the exact message, said once (semantics 3.3, 7.4)."""

import html
import json
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.api_body import Problem
from gateway.auth import Role
from gateway.hand_fields import instant, local_text
from schemas.capacity import EnvelopeCommand
from schemas.connection import CommandKind
from schemas.topics import COMMANDS
from tests.gateway.facts import NOW
from tests.gateway.operations_world import HOST, World
from tests.gateway.test_api_asked import HOUR, block, inbound, plan, see

PARIS, GROUP = ZoneInfo("Europe/Paris"), {"partner": "vector", "group": "VEC-0001"}


class Browser:
    """A browser that has signed in, and fills in forms as they are offered."""

    def __init__(self, world: World, role: Role = Role.OPERATOR) -> None:
        self.world = world
        self.cookies, self.csrf = world.signed_in(role)

    def open(self, path: str) -> str:
        answer = self.world.ask("GET", path, cookies=self.cookies)
        assert answer.status_code == 200, answer.text
        return answer.text

    def send(self, path: str, fields: dict[str, str], status: int = 200) -> str:
        answer = self.world.ask("POST", path, cookies=self.cookies, headers={"Origin": HOST}, data=fields)
        assert answer.status_code == status, answer.text
        return answer.headers["location"] if status == 303 else answer.text


def form_of(page: str, step: str) -> dict[str, str]:
    """The fields of the page's form for that step, as offered."""
    for text in re.findall(r"<form method=\"post\".*?</form>", page, re.S):
        if f'name="step" value="{step}"' in text:
            break
    else:
        raise AssertionError(f"no form for {step} in the page")
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text))
    fields |= dict(re.findall(r'<input id="[^"]+" name="([^"]+)"[^>]*? value="([^"]*)"', text))
    fields |= dict(re.findall(r'<textarea[^>]* name="([^"]+)"[^>]*>(.*?)</textarea>', text, re.S))
    fields |= dict(re.findall(r'<input type="radio"[^>]* name="([^"]+)" value="([^"]*)" checked', text))
    for name, choices in re.findall(r'<select[^>]* name="([^"]+)">(.*?)</select>', text, re.S):
        chosen = re.search(r'<option(?: value="([^"]*)")? selected>([^<]*)', choices) or re.search(
            r'<option(?: value="([^"]*)")?>([^<]*)', choices
        )
        fields[name] = (chosen.group(1) or chosen.group(2)) if chosen else ""
    return {name: html.unescape(value) for name, value in fields.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    plan(found, (-2, 6, 3.0), name="plan-1")
    return found


def test_a_wish_is_prefilled_looked_at_and_sent_once(world: World) -> None:
    browser = Browser(world)
    page = browser.open("/adjust?partner=vector&group=VEC-0001&type=CONSUMPTION")
    fields = form_of(page, "look")
    assert (fields["capacity"], fields["unit"], fields["phase"], fields["way"]) == ("3", "KW", "ALL", "one")
    start = NOW.replace(minute=30, second=0, microsecond=0)
    assert fields["from"] == local_text(start, PARIS)
    looked = browser.send("/adjust", {**fields, "capacity": "4,5"})
    confirm = form_of(looked, "say")
    draft = json.loads(confirm["draft"])
    assert draft["forecasted_blocks"][0]["capacity"] == 4.5
    exact = re.search(r'<pre class="exact"[^>]*>(.*?)</pre>', looked, re.S)
    assert exact is not None
    body = json.loads(html.unescape(exact.group(1)))
    assert body == {"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": draft["forecasted_blocks"]}
    assert world.appender.appended == []
    place = browser.send("/adjust", confirm, 303)
    browser.send("/adjust", confirm, 303)
    first, second = world.appender.values(COMMANDS)
    assert (first.event_id, first.kind, first.by) == (second.event_id, CommandKind.ADJUST, "operator-1")
    see(world, first)
    page = browser.open(place)
    assert "Ask for another capacity" in page
    assert f'id="r-{first.event_id}" class="mine"' in page


def test_what_was_written_stays_when_it_is_changed_or_wrong(world: World) -> None:
    browser = Browser(world)
    fields = {**form_of(browser.open("/adjust?group=VEC-0001"), "look"), "capacity": "1.25"}
    looked = browser.send("/adjust", fields)
    again = form_of(looked, "say")
    changed = browser.send("/adjust", {**{name: value for name, value in fields.items() if name != "step"}, "csrf": again["csrf"]})
    assert form_of(changed, "look")["capacity"] == "1.25"
    for wrong, words in {"capacity": "write a number", "from": "write a date and a time", "to": "must be after from"}.items():
        value = {"capacity": "lots", "from": "soon", "to": fields["from"]}[wrong]
        page = browser.send("/adjust", {**fields, wrong: value}, 400)
        assert words in page
        assert form_of(page, "look")[wrong] == value
    page = browser.send("/adjust", {**fields, "way": "all", "blocks": '[{"capacity": 1}]'}, 400)
    assert "forecasted_blocks[0].phase" in page
    assert browser.send("/adjust", {**fields, "way": "all", "blocks": "nonsense"}, 400).count("is not JSON") == 1
    assert world.appender.appended == []


def test_blocks_of_ones_own(world: World) -> None:
    browser = Browser(world)
    fields = form_of(browser.open("/adjust?group=VEC-0001"), "look")
    assert json.loads(fields["blocks"])[0]["capacity"] == 3.0
    looked = browser.send("/adjust", {**fields, "way": "all", "blocks": json.dumps([block(1, 2, 1.0), block(2, 3, 2.0)])})
    assert len(json.loads(form_of(looked, "say")["draft"])["forecasted_blocks"]) == 2


def test_an_error_is_prefilled_from_the_forecast_and_from_a_breached_quarter(world: World) -> None:
    browser = Browser(world)
    fields = form_of(browser.open("/compliance-error?partner=vector&group=VEC-0001&forecast=plan-1"), "look")
    assert (fields["forecast"], fields["way"]) == ("plan-1", "span")
    assert "cannot keep to the 3 KW of forecast plan-1" in fields["message"]
    looked = browser.send("/compliance-error", {**fields, "message": "the <feeder> is out"})
    assert "X-Correlation-ID" in looked
    assert "<feeder>" not in looked
    browser.send("/compliance-error", form_of(looked, "say"), 303)
    (command,) = world.appender.values(COMMANDS)
    payload = json.loads(command.payload)
    assert (payload["forecast"], payload["message"]) == ("plan-1", "the <feeder> is out")
    assert payload["forecasted_blocks"][0]["capacity"] == 3.0
    breached = next(verdict for verdict in world.projection.current().verdicts["VEC-0001"].values() if verdict.verdict == "BREACHED")
    query = f"quarter={breached.quarter:%Y-%m-%dT%H:%M:%S}%2B00:00&direction=IMPORT"
    fields = form_of(browser.open(f"/compliance-error?group=VEC-0001&{query}"), "look")
    assert "above the 1.100 kW allowed" in fields["message"]
    assert fields["from"] == local_text(breached.quarter, PARIS)


def test_an_error_without_blocks_and_about_an_older_forecast(world: World) -> None:
    browser = Browser(world)
    fields = form_of(browser.open("/compliance-error?group=VEC-0001"), "look")
    looked = browser.send("/compliance-error", {**fields, "other": "old-1", "way": "none", "message": "out"})
    assert "not among the last ones known here" in looked
    assert "forecasted_blocks" not in json.loads(form_of(looked, "say")["draft"])
    page = browser.send("/compliance-error", {**fields, "way": "span", "from": "2030-01-01T00:00", "to": "2030-01-01T01:00"}, 400)
    assert "the forecast says nothing about this time" in page


def test_a_limit_of_ones_own_is_set_and_lifted(world: World) -> None:
    browser = Browser(world)
    fields = form_of(browser.open("/limit?scope=sceaux-house"), "look")
    looked = browser.send("/limit", {**fields, "capacity": "1.5", "why": "works"})
    confirm = form_of(looked, "say")
    browser.send("/limit", confirm, 303)
    lifted = browser.send("/limit", {**fields, "way": "lift"})
    assert "lifted" in lifted
    browser.send("/limit", form_of(lifted, "say"), 303)
    first, second = (EnvelopeCommand.model_validate_json(command.payload) for command in world.appender.values(COMMANDS))
    assert (first.blocks[0].limit_w, first.why, second.blocks[0].limit_w) == (1500.0, "works", None)


def test_a_forecast_until_further_notice_and_one_over_a_change_of_clocks_are_shown(world: World) -> None:
    until = block()
    body = {"group_id": "VEC-0001", "type": "GENERATION", "forecasted_blocks": [{**until, "end_time": "9999-12-31T23:59:59.999Z"}]}
    see(world, inbound("for-ever", group="VEC-0001", body=json.dumps(body)))
    browser = Browser(world)
    assert "9999" in browser.open("/adjust?group=VEC-0001&type=GENERATION")
    assert "for-ever" in browser.open("/compliance-error?group=VEC-0001&forecast=for-ever")
    fields = form_of(browser.open("/limit?scope=sceaux-house"), "look")
    looked = browser.send("/limit", {**fields, "from": "2026-10-25T02:30", "to": "9999-12-31T23:30:00+00:00", "capacity": "1"})
    assert "02:30\u00a0CEST" in looked
    looked = browser.send("/limit", {**fields, "from": "2026-10-25T02:30+01:00", "to": "2026-10-25T04:00", "capacity": "1"})
    assert "02:30\u00a0CET" in looked


def test_without_a_choice_one_is_offered_and_unknown_ones_are_told(world: World) -> None:
    browser = Browser(world)
    assert 'value="VEC-0001"' in browser.open("/adjust")
    assert 'value="VEC-0001"' in browser.open("/compliance-error")
    assert 'value="sceaux-house"' in browser.open("/limit")
    for path in ("/adjust?group=VEC-9", "/limit?scope=nowhere", "/adjust?group=VEC-0001&partner=another"):
        assert world.ask("GET", path, cookies=browser.cookies).status_code == 404


def test_only_who_may_act_may_and_only_from_our_own_page(world: World) -> None:
    viewer = Browser(world, Role.VIEWER)
    for path in ("/adjust?group=VEC-0001", "/compliance-error?group=VEC-0001", "/limit?scope=sceaux-house"):
        assert world.ask("GET", path, cookies=viewer.cookies).status_code == 403
        assert world.ask("GET", path).headers["location"] == "/sign-in"
    assert "Ask for another capacity</a>" not in viewer.open("/requests")
    browser = Browser(world)
    fields = form_of(browser.send("/adjust", form_of(browser.open("/adjust?group=VEC-0001"), "look")), "say")
    for changed in ({**fields, "csrf": "x"}, {**fields, "csrf": viewer.csrf}):
        browser.send("/adjust", changed, 403)
    browser.send("/adjust", {**fields, "draft": "{}"}, 400)
    browser.send("/adjust", {**fields, "draft": fields["draft"].replace("VEC-0001", "VEC-2")}, 400)
    assert world.ask("POST", "/adjust", cookies=browser.cookies, data=fields, headers={"Origin": "http://evil.example"}).status_code == 403
    assert world.appender.appended == []


def test_local_times_over_a_change_of_the_clock() -> None:
    def read(text: str) -> str:
        return instant({"from": text}, "from", PARIS).isoformat()

    assert read("2026-10-25T02:30") == "2026-10-25T00:30:00+00:00"
    assert read("2026-10-25T02:30+01:00") == "2026-10-25T01:30:00+00:00"
    with pytest.raises(Problem, match="does not exist in Europe/Paris"):
        read("2026-03-29T02:30")
    with pytest.raises(Problem, match="too long ago"):
        read("0001-01-01T00:00")
    for hours in range(48):
        at = instant({"from": "2026-10-24T12:00"}, "from", PARIS) + hours * HOUR
        assert instant({"from": local_text(at, PARIS)}, "from", PARIS) == at
