"""The page in a real browser: signed in by link, with and without JavaScript, wide and narrow, light and dark."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.auth import Role, remove_operator
from tests.browser.driving import browser, enter, one_time_link, served, sign_in
from tests.gateway import story
from tests.gateway.facts import NOW, connection, event, record
from tests.gateway.operations_world import World

pytestmark = pytest.mark.browser


@dataclass
class Scene:
    """A served page and a browser before it."""

    world: World
    url: str
    browser: Browser

    @property
    def token(self) -> str:
        return self.world.tokens[Role.VIEWER]


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def scene(tmp_path: Path, running: Browser) -> Iterator[Scene]:
    world = World(tmp_path, attribution=story.ATTRIBUTION)
    with served(world.app) as url:
        yield Scene(world, url, running)


def listened(page: Page) -> list[str]:
    """What the page complains about: errors in the console and exceptions."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # What was on its way when the page went on is no fault.
    page.on("requestfailed", lambda request: complaints.append(request.url) if request.failure != "net::ERR_ABORTED" else None)
    return complaints


def test_a_person_with_a_link_sees_how_things_stand(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = context.new_page()
    complaints = listened(page)
    page.goto(one_time_link(scene.url, scene.token))
    page.wait_for_url(f"{scene.url}/")
    assert page.title() == "Vector DERMS"
    expect(page.get_by_role("heading", name="House in Sceaux")).to_be_visible()
    expect(page.get_by_text("Over the limit", exact=True)).to_be_visible()
    expect(page.get_by_role("img", name="House in Sceaux: mean power of each quarter hour against its limit").first).to_be_visible()
    expect(page.get_by_role("article", name="Vector vector").get_by_text("Online", exact=True)).to_be_visible()
    expect(page.get_by_role("row", name="GroupCapacityComplianceError").first.get_by_text("delivered 204")).to_be_visible()
    page.get_by_text("The chart as a table").click()
    expect(page.get_by_role("row", name="20:00–20:15").first.get_by_text("over the limit")).to_be_visible()
    assert complaints == []
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{scene.url}/sign-in")
    page.goto(f"{scene.url}/")
    assert page.url == f"{scene.url}/sign-in"
    context.close()


def test_a_quarters_start_is_not_blind(scene: Scene) -> None:
    scene.world.clock.advance(timedelta(minutes=3, seconds=28))
    context = scene.browser.new_context()
    page = enter(context, scene.url, scene.token)
    expect(page.get_by_text("Quarter 20:15–20:30, not closed yet")).to_be_visible()
    expect(page.locator("figcaption").get_by_text("not closed yet")).to_be_visible()
    bar = page.locator("figure .wide .bar.unclosed .import")
    expect(bar).to_be_visible()
    fills = {
        bar.evaluate("bar => getComputedStyle(bar).fill"),
        page.locator("figure .wide .bar.measured .import").first.evaluate("bar => getComputedStyle(bar).fill"),
    }
    assert len(fills) == 2
    context.close()


def test_a_person_with_a_token_signs_in_by_form(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = context.new_page()
    page.goto(scene.url)
    page.get_by_label("Operator token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").inner_text() == "That token is not known here."
    page.get_by_label("Operator token").fill(scene.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{scene.url}/")
    expect(page.get_by_text("viewer-1")).to_be_visible()
    context.close()


def test_without_javascript_it_reads_the_same(scene: Scene) -> None:
    context = scene.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, scene.url, scene.token)
    text = page.locator("main").inner_text()
    for words in ("House in Sceaux", "1.38\u00a0kW", "Online", "delivered 204", "unknown asset", "Sceaux connection", story.ATTRIBUTION):
        assert words in text
    assert page.locator("svg.chart rect.import").count() > 20
    context.close()


def test_news_come_without_loading_again_and_open_tables_stay_open(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = context.new_page()
    page.clock.install()
    complaints = listened(page)
    page.goto(one_time_link(scene.url, scene.token))
    page.wait_for_url(f"{scene.url}/")
    page.get_by_text("The chart as a table").click()
    scene.world.projection.take([record(event(NOW, "news", "Something new has happened")), record(connection(words="Quite another word"))])
    page.clock.run_for(11_000)
    page.get_by_text("Something new has happened").wait_for()
    expect(page.get_by_text("Quite another word")).to_be_visible()
    assert page.locator("#table-1").get_attribute("open") is not None
    assert complaints == []
    remove_operator(scene.world.operators_file, "viewer-1")
    page.clock.run_for(11_000)
    page.wait_for_url(f"{scene.url}/sign-in")
    context.close()


@pytest.mark.parametrize("width", [400, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width(scene: Scene, width: int, scheme: str, tmp_path: Path) -> None:
    context = scene.browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light")
    page = enter(context, scene.url, scene.token)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(14, 17, 22)" if scheme == "dark" else "rgb(245, 246, 248)")
    shown = [box for box in (chart.bounding_box() for chart in page.locator("svg.chart").all()) if box]
    assert len(shown) == 1
    assert shown[0]["width"] > 0.75 * min(width, 1100)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    context.close()


def test_hostile_names_stay_text(tmp_path: Path, running: Browser) -> None:
    evil = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    plain = story.configuration().model_dump(mode="json")
    plain["scopes"][0]["name"] = plain["partners"][0]["name"] = evil
    world = World(tmp_path, configuration=type(story.configuration()).model_validate(plain))
    with served(world.app) as url:
        context = running.new_context()
        page = enter(context, url, world.tokens[Role.VIEWER])
        assert page.title() == "Vector DERMS"
        expect(page.get_by_role("heading", name="<img src=x").first).to_be_visible()
        context.close()
