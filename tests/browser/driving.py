"""A real browser before the page: the system's Chromium, driven by Playwright.

`picture` takes the README's picture of any running system: it signs in by a one-time link as a person would.
"""

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from sinks.http import fetch

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=15_000)  # a machine that is busy takes its time; what is there is seen at once
NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The system's Chromium; without one the test is skipped by name, or fails where CI=true."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return found
    words = "needs Chromium (apt-get install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(words)
    pytest.skip(words)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser of its own, ended afterwards."""
    path = chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a free loopback port; gives its URL."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who asks before the server runs waits for it
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def one_time_link(operations_url: str, token: str) -> str:
    """The URL of a one-time link for the owner of `token`."""
    answer = fetch("POST", f"{operations_url}/api/v1/sign-in-links", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 201, answer.body
    return operations_url + str(json.loads(answer.body)["path"])


def enter(context: BrowserContext, operations_url: str, token: str) -> Page:
    """The live page in a new tab, signed in by a one-time link."""
    page = context.new_page()
    page.goto(one_time_link(operations_url, token))
    page.wait_for_url(f"{operations_url}/")
    return page


def sign_in(page: Page, operations_url: str, token: str) -> None:
    """Signs in by the form and waits for the live page: going on before the answer has come would leave without its cookie."""
    page.goto(f"{operations_url}/sign-in")
    page.get_by_label("Operator token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{operations_url}/")


def picture(operations_url: str, token: str, path: Path, *, width: int = 1280, height: int = 1060, scheme: str = "light") -> None:
    """A picture of the upper part of the live page as a PNG file at `path`."""
    with browser() as running:
        context = running.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=1.5,
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = enter(context, operations_url, token)
        page.screenshot(path=path)
        context.close()
