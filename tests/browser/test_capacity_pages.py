"""The pages of scopes, breaches and circuits in a real browser: found by clicking, readable without scripts, fitting every width."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.auth import Role
from tests.browser.driving import browser, enter, served, sign_in
from tests.browser.test_page import Scene, listened
from tests.gateway import story
from tests.gateway.facts import NOW, event, record, row
from tests.gateway.operations_world import World

pytestmark = pytest.mark.browser

PATHS = ("/scopes", "/scopes/sceaux-house", "/breaches", "/circuits", "/circuits/sceaux-feeder")


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def scene(tmp_path: Path, running: Browser) -> Iterator[Scene]:
    world = World(tmp_path, attribution=story.ATTRIBUTION)
    with served(world.app) as url:
        yield Scene(world, url, running)


def test_an_operator_goes_from_the_overview_to_a_day_and_back_in_time(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = enter(context, scene.url, scene.world.tokens[Role.OPERATOR])
    complaints = listened(page)
    page.get_by_role("heading", name="House in Sceaux").get_by_role("link").click()
    page.wait_for_url(f"{scene.url}/scopes/sceaux-house")
    drawing = page.get_by_role("img", name="House in Sceaux, Sat 9 Jun: mean power of each quarter hour against its limit").first
    expect(drawing).to_be_visible()
    assert page.locator("figure .wide rect.band").count() == 1
    quarters = page.get_by_role("table", name="All quarter hours of Saturday 9 June 2007")
    assert quarters.locator("tbody tr").count() == 96
    expect(quarters.get_by_role("row", name="20:00–20:15").get_by_text("over the limit")).to_be_visible()
    assert page.get_by_role("link", name="Set a limit").get_attribute("href") == "/limit?scope=sceaux-house"
    page.get_by_role("link", name="Day before").click()
    page.get_by_role("heading", name="Friday 8 June 2007").wait_for()
    page.get_by_label("Day", exact=True).fill("2007-10-28")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("heading", name="Sunday 28 October 2007 100 quarter hours").wait_for()
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Breaches").click()
    page.get_by_label("State").select_option("open")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("heading", name="1 breach that fit").wait_for()
    assert "state=open" in page.url
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Circuits").click()
    page.get_by_role("link", name="Sceaux connection", exact=True).click()
    expect(page.get_by_role("img", name="Sceaux connection: available capacity over the last 24 hours").first).to_be_visible()
    assert complaints == []
    context.close()


def test_without_javascript_a_day_is_chosen_by_its_form(scene: Scene) -> None:
    context = scene.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, scene.url, scene.token)
    page.goto(f"{scene.url}/scopes/sceaux-house")
    assert "9.280\u00a0kWh" in page.locator("main").inner_text()
    page.get_by_label("Day", exact=True).fill("2007-06-10")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(f"{scene.url}/scopes/sceaux-house?day=2007-06-10")
    expect(page.get_by_role("link", name="Today")).to_be_visible()
    context.close()


def test_news_reach_the_day_while_the_chosen_field_stays(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = enter(context, scene.url, scene.token)
    page.clock.install()
    page.goto(f"{scene.url}/scopes/sceaux-house")
    page.get_by_label("Day", exact=True).fill("2007-06-01")
    scene.world.projection.take(
        [
            record(row(NOW.replace(minute=15, second=0), 1.0), 1),
            record(event(NOW, "news", "The circuit was told", subject="sceaux-house"), 2),
        ]
    )
    page.clock.run_for(11_000)
    page.get_by_text("41 of 96 quarter hours closed").wait_for()
    expect(page.get_by_text("The circuit was told")).to_be_visible()
    assert page.get_by_label("Day", exact=True).input_value() == "2007-06-01"
    context.close()


def covered(page: Page) -> list[str]:
    """Words of the visible chart that lie over other words or outside the drawing."""
    return list(
        page.evaluate(
            """() => {
              const seen = [...document.querySelectorAll("svg.chart text")].filter((each) => each.getClientRects().length);
              const boxes = seen.map((each) => ({words: each.textContent, box: each.getBoundingClientRect()}));
              const meets = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
              const wrong = boxes.flatMap((a, i) =>
                boxes.slice(i + 1).filter((b) => meets(a.box, b.box)).map((b) => a.words + " / " + b.words));
              const out = boxes.filter((a) => a.box.left < 0 || a.box.right > innerWidth).map((a) => a.words);
              return [...wrong, ...out];
            }"""
        )
    )


@pytest.mark.parametrize(("width", "scheme"), [(430, "dark"), (430, "light"), (1280, "light"), (1280, "dark")])
def test_they_fit_every_width_and_no_words_cover_others(scene: Scene, width: int, scheme: str) -> None:
    context = scene.browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light")
    page = enter(context, scene.url, scene.world.tokens[Role.OPERATOR])
    for path in (*PATHS, "/scopes/sceaux-house?day=2007-10-28", "/scopes/sceaux-house?day=2007-03-25"):
        page.goto(scene.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert covered(page) == [], path
    context.close()


@pytest.mark.parametrize("width", [430, 1280])
def test_a_day_on_which_the_clocks_change_is_drawn_without_words_over_words(tmp_path: Path, running: Browser, width: int) -> None:
    world = World(tmp_path)
    start = NOW.replace(month=10, day=27, hour=22, minute=0, second=0)
    world.clock.set(start + timedelta(hours=20))
    world.projection.take([record(row(start + number * timedelta(minutes=15), 1.0), number) for number in range(79)])
    with served(world.app) as url:
        context = running.new_context(viewport={"width": width, "height": 900})
        page = enter(context, url, world.tokens[Role.VIEWER])
        page.goto(f"{url}/scopes/sceaux-house")
        assert covered(page) == []
        chart = page.locator("figure .wide svg, figure .narrow svg").locator("visible=true")
        assert [each.text_content() for each in chart.locator("text.offset").all()] == ["+02", "+01"]
        hours = [each.text_content() for each in chart.locator("text.axis").all()]
        assert hours.count("02:00") == (2 if width == 1280 else 0)
        assert page.get_by_role("rowheader", name="02:15–02:30 (+02)").count() == 1
        assert page.get_by_role("rowheader", name="02:15–02:30 (+01)").count() == 1
        context.close()
