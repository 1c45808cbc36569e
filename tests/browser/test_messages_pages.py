"""The pages of messages in a real browser: a backlog found by clicking, one sent again and one given up, also without scripts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from gateway.auth import Role
from schemas.connection import CommandKind
from schemas.outbound import Outcome
from schemas.topics import COMMANDS
from tests.browser.driving import browser, enter, served, sign_in
from tests.browser.test_page import Scene, listened
from tests.gateway.facts import NOW, delivery, record
from tests.gateway.test_api_messages import MINUTE, MessagePast, owed, world_of
from tests.gateway.test_messages_page import PARKED, REFUSED, STANDING
from tests.gateway.test_pages import EVIL

pytestmark = pytest.mark.browser

BACKLOG = [owed(15 * number * MINUTE, body=json.dumps({"text": EVIL})) for number in range(2, 62)]


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def scene(tmp_path: Path, running: Browser) -> Iterator[Scene]:
    said = [
        delivery(PARKED, Outcome.PARKED, 500, attempt=10, words=f"failed 10 times while others were delivered: {EVIL}"),
        delivery(REFUSED, Outcome.REFUSED, 400, words=("x" * 200 + EVIL * 3)[:300]),
    ]
    world = world_of(tmp_path, *BACKLOG, PARKED, REFUSED, *said, standing=STANDING, past=MessagePast(*((each, ()) for each in BACKLOG)))
    with served(world.app) as url:
        yield Scene(world, url, running)


def asked(scene: Scene) -> list[tuple[CommandKind, str]]:
    return [(each.kind, json.loads(each.payload)["message_id"]) for each in scene.world.appender.values(COMMANDS)]


def test_an_operator_finds_what_is_set_aside_and_sends_it_again(scene: Scene) -> None:
    context = scene.browser.new_context()
    page = enter(context, scene.url, scene.world.tokens[Role.OPERATOR])
    complaints = listened(page)
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Messages").click()
    page.get_by_role("link", name="642 waiting, 1 set aside").click()
    page.get_by_role("table", name="Messages to partners, the newest first").wait_for()
    page.get_by_role("link", name="Older").click()
    page.get_by_text("No older ones within 31 days").wait_for()
    page.get_by_label("State").select_option("parked")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="UpdateAssetMeasurements").click()
    page.get_by_role("button", name="Send again").click()
    page.get_by_text("It was asked for that it goes again.").wait_for()
    assert asked(scene) == [(CommandKind.RETRY_MESSAGE, PARKED.message_id)]
    page.clock.install()
    page.goto(f"{scene.url}/messages/{PARKED.message_id}")
    scene.world.projection.take([record(delivery(PARKED, attempt=11).model_copy(update={"at": NOW}))])
    page.clock.run_for(11_000)
    page.get_by_text("The partner has it.").wait_for()
    assert page.get_by_role("table", name="Attempts to deliver the message").locator("tbody tr").count() == 2
    assert complaints == []
    context.close()


def test_without_javascript_one_is_given_up_after_a_question(scene: Scene) -> None:
    context = scene.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, scene.url, scene.world.tokens[Role.OPERATOR])
    page.goto(f"{scene.url}/messages?id={BACKLOG[-1].message_id}")
    page.get_by_role("link", name="UpdateAssetMeasurements").click()
    page.get_by_role("button", name="Give up…").click()
    assert asked(scene) == []
    page.get_by_role("button", name="Give up").click()
    page.get_by_text("It was asked for that it is given up.").wait_for()
    assert asked(scene) == [(CommandKind.DROP_MESSAGE, BACKLOG[-1].message_id)]
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_they_fit_every_width_whatever_partners_say(scene: Scene, width: int, scheme: str) -> None:
    context = scene.browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light")
    page = enter(context, scene.url, scene.world.tokens[Role.OPERATOR])
    for path in ("", "?state=waiting", f"/{PARKED.message_id}", f"/{REFUSED.message_id}", f"/{PARKED.message_id}?confirm=drop"):
        page.goto(f"{scene.url}/messages{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("script:not([src])").count() == 0
    context.close()
