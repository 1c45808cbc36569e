"""A partner's page in a real browser: read, acted upon, kept up to date; with and without JavaScript, all widths, light and dark."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from gateway.auth import Role
from schemas.connection import Command
from schemas.topics import COMMANDS
from tests.browser.driving import browser, enter, served, sign_in
from tests.browser.test_page import Scene, listened
from tests.gateway.exchanges import PEER_TOKEN, asked, came, told
from tests.gateway.facts import NOW, connection, record
from tests.gateway.operations_world import World

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def scene(tmp_path: Path, running: Browser) -> Iterator[Scene]:
    world = World(tmp_path, records=[record(connection()), *told()])
    world.lifecycle_answers()
    with served(world.app) as url:
        yield Scene(world, url, running)


def opened(scene: Scene, context: BrowserContext, role: Role = Role.OPERATOR) -> Page:
    page = enter(context, scene.url, scene.world.tokens[role])
    page.get_by_role("article", name="Vector vector").get_by_role("link", name="Vector").click()
    page.wait_for_url(f"{scene.url}/partners/vector")
    return page


def commands(scene: Scene) -> list[Command]:
    return scene.world.appender.values(COMMANDS)


def test_a_person_reads_what_passed(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = opened(scene, context, Role.VIEWER)
    complaints = listened(page)
    assert page.title() == "Vector · Vector DERMS"
    expect(page.get_by_text("Connected: both sides have shaken hands.")).to_be_visible()
    assert page.get_by_role("button", name="Register").count() == 0
    row = page.get_by_role("row").filter(has_text="no connection: connection refused")
    expect(row.get_by_text("POST Register")).to_be_visible()
    expect(row.get_by_text("we ask it")).to_be_visible()
    row.get_by_text("Body", exact=True).click()
    expect(row.locator("pre").get_by_text('"token": "(removed)"')).to_be_visible()
    assert page.get_by_text("POST Heartbeat").count() == 0
    page.get_by_role("link", name="with heartbeats").click()
    expect(page.get_by_text("POST Heartbeat").first).to_be_visible()
    assert complaints == []
    context.close()


def test_news_come_by_themselves_open_bodies_stay_open_and_forms_in_use_are_left_alone(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = opened(scene, context)
    page.clock.install()
    page.reload()
    complaints = listened(page)
    row = page.get_by_role("row").filter(has_text="held 403")
    row.get_by_text("Body", exact=True).click()
    page.get_by_text("with another address or token").click()
    page.get_by_label("The token it gave us").fill(PEER_TOKEN)
    at = NOW + timedelta(seconds=5)
    scene.world.projection.take([record(came(at, "Handshake", "req-news", {})), record(asked(at, "Handshake", "req-news"))])
    page.clock.run_for(11_000)
    page.get_by_text("req-news").wait_for()
    expect(row.locator("pre")).to_be_visible()
    assert page.get_by_label("The token it gave us").input_value() == PEER_TOKEN
    assert complaints == []
    page.get_by_role("button", name="Register", exact=True).click()
    page.wait_for_url("**?done=register")
    expect(page.get_by_role("status").get_by_text("The registration was asked for.")).to_be_visible()
    assert scene.world.secrets.decrypt(commands(scene)[0].payload.split('"')[3], "vector") == PEER_TOKEN
    context.close()


def test_a_token_is_issued_after_a_question_and_shown_once_without_javascript(scene: Scene) -> None:
    context = scene.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, scene.url, scene.world.tokens[Role.OPERATOR])
    page.goto(f"{scene.url}/partners/vector")
    assert "POST UpdateGroupCapacityForecast" in page.locator("main").inner_text()
    page.get_by_role("button", name="Issue a token…").click()
    page.get_by_role("button", name="Issue a token").click()
    token = page.locator("code.token").inner_text()
    assert token == scene.world.secrets.token("vector", commands(scene)[0].event_id)
    assert token not in page.url
    page.get_by_role("link", name="Back to Vector").click()
    assert token not in page.content()
    context.close()


def test_what_is_held_back_is_mended_by_a_click(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = opened(scene, context)
    complaints = listened(page)
    expect(page.get_by_text("The partner answers 403 to what we send")).to_be_visible()
    assert page.get_by_role("button", name="Issue a token…").get_attribute("class") == ""
    resume = page.get_by_role("button", name="Resume")
    assert resume.get_attribute("class") == "quiet"
    expect(page.get_by_text("tries at once what failed or is held back")).to_be_visible()
    resume.click()
    page.wait_for_url("**?done=resume")
    expect(page.get_by_role("status").get_by_text("Resuming was asked for.")).to_be_visible()
    assert [command.kind.value for command in commands(scene)] == ["RESUME"]
    assert complaints == []
    context.close()


def test_the_end_of_a_connection_can_be_left(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = opened(scene, context)
    page.get_by_role("button", name="Deregister…").click()
    page.get_by_role("link", name="Leave it").click()
    assert commands(scene) == []
    page.get_by_role("button", name="Deregister…").click()
    page.get_by_role("button", name="Deregister", exact=True).click()
    page.wait_for_url("**?done=deregister")
    assert [command.kind.value for command in commands(scene)] == ["DEREGISTER"]
    context.close()


@pytest.mark.parametrize("width", [400, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width(scene: Scene, width: int, scheme: str, tmp_path: Path) -> None:
    context = scene.browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light")
    page = opened(scene, context)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    answer = page.get_by_text("held 403").bounding_box()
    assert answer is not None
    assert answer["x"] + answer["width"] <= width
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    context.close()
