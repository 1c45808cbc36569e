"""What holds for every route there is, found by walking the applications: a new route cannot be forgotten."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from gateway.auth import Role
from gateway.guard import SAFE_METHODS, SECURITY_HEADERS
from gateway.operations import FOR_PROGRAMS
from tests.gateway.operations_world import World
from tests.gateway.oscp_side import Side

OPEN = {("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/sign-out")}
"""What anybody may ask. Signing in is the way in; signing out without a session does nothing."""
VIEWERS_MAY = {("POST", "/api/v1/sign-in-links")}
"""What changes something and needs no more than the right to read: a link signs in whoever asked for it."""
PRODUCERS_MAY = {("POST", "/api/v1/telemetry")}
HOSTILE = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]


def walk(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route, with something in the place of parameters."""
    for route in iter_route_contexts(app.routes):
        for method in sorted(getattr(route, "methods", None) or []):
            parts = [part if not part.startswith("{") else "x" for part in str(route.path).split("/")]
            yield method, "/".join(parts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def routes(world: World) -> list[tuple[str, str]]:
    return [route for route in walk(world.app) if route[0] != "HEAD"]


def changing(routes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(method, path) for method, path in routes if method not in SAFE_METHODS]


def test_the_walk_finds_the_routes(routes: list[tuple[str, str]]) -> None:
    assert OPEN | VIEWERS_MAY | PRODUCERS_MAY | {("GET", "/metrics"), ("PUT", "/api/v1/config")} <= set(routes)
    assert len(routes) > 30


def test_a_stranger_gets_nowhere_whatever_the_body(world: World, routes: list[tuple[str, str]]) -> None:
    for method, path in routes:
        for content in (b"", b"{", b'{"a": 1}'):
            for token in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
                headers = {"Content-Type": "application/json", **token}
                answer = world.ask(method, path, address="203.0.113.7", headers=headers, content=content)
                if (method, path) in OPEN:
                    continue
                if path.startswith(FOR_PROGRAMS):
                    assert answer.status_code == 401, (method, path, answer.text)
                else:
                    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in"), (method, path, answer.text)
    assert world.appender.appended == []


def test_no_route_of_the_api_is_without_a_right(world: World, routes: list[tuple[str, str]]) -> None:
    for method, path in routes:
        if not path.startswith("/api/"):
            continue
        if (method, path) not in PRODUCERS_MAY:
            assert world.ask(method, path, Role.PRODUCER, json={}).status_code == 403, (method, path)
        if method not in SAFE_METHODS and (method, path) not in VIEWERS_MAY:
            assert world.ask(method, path, Role.VIEWER, json={}).status_code == 403, (method, path)
    assert world.appender.appended == []


def test_no_page_that_changes_something_is_without_a_right(world: World, routes: list[tuple[str, str]]) -> None:
    cookies, csrf = world.signed_in(Role.VIEWER)
    for method, path in changing(routes):
        if not path.startswith("/api/") and (method, path) not in OPEN:
            assert world.ask(method, path, cookies=cookies, data={"csrf": csrf}).status_code == 403, (method, path)
    assert world.appender.appended == []


def test_what_changes_something_needs_the_pages_own_token_and_origin(world: World, routes: list[tuple[str, str]]) -> None:
    cookies, csrf = world.signed_in(Role.ADMIN)
    for method, path in changing(routes):
        wanted = [{}, {"X-CSRF-Token": "wrong"}, *({**headers, "X-CSRF-Token": csrf} for headers in HOSTILE)]
        if path == "/sign-in":
            wanted = HOSTILE
        for headers in wanted:
            kind = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
            answer = world.ask(method, path, cookies=cookies, headers={"Content-Type": kind, **headers}, content=b"")
            assert answer.status_code == 403, (method, path, headers, answer.text)
    assert world.appender.appended == []


def test_a_foreign_host_name_gets_nowhere(world: World, routes: list[tuple[str, str]]) -> None:
    cookies, csrf = world.signed_in(Role.ADMIN)
    for method, path in routes:
        if not path.startswith("/health/"):
            answer = world.ask(method, path, host="http://rebound.example:8481", cookies=cookies, headers={"X-CSRF-Token": csrf})
            assert answer.status_code == 421, (method, path)


def test_every_answer_of_the_operations_listener_carries_the_security_headers(world: World, routes: list[tuple[str, str]]) -> None:
    def check(answer: httpx.Response) -> None:
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value, (answer.request.url, answer.status_code)
        assert "server" not in answer.headers

    for method, path in [*routes, ("GET", "/static/derms.css"), ("GET", "/static/none"), ("BREW", "/"), ("TRACE", "/api/v1/status")]:
        for role in (None, Role.VIEWER):
            check(world.ask(method, path, role))
    check(world.ask("GET", "/", host="http://evil.example"))
    check(world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, content=b"x" * ((2 << 20) + 1)))
    check(world.ask("POST", "/api/v1/telemetry", Role.PRODUCER, headers={"Content-Type": "text/plain"}, content=b"x"))
    world.projection.current = None  # type: ignore[method-assign, assignment] - a fault of ours
    try:
        answer = world.ask("GET", "/api/v1/status", Role.VIEWER)
    finally:
        del world.projection.current
    assert answer.status_code == 500
    check(answer)


@pytest.mark.parametrize(
    "path", ["/static/%00", "/static/..%2f..%2fsettings.py", "/static/" + "a" * 5000, "/%00", "/api/v1/partners/%ff", "/static//etc/passwd"]
)
def test_odd_paths_are_no_fault_of_ours(world: World, path: str) -> None:
    for method in ("GET", "POST"):
        assert world.ask(method, path, Role.ADMIN).status_code in (400, 403, 404, 405)


def test_a_partner_without_a_token_gets_nowhere() -> None:
    side = Side()

    async def once() -> list[tuple[Any, int]]:
        transport = httpx.ASGITransport(side.app, client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://derms.example") as client:
            found = []
            for method, path in walk(side.app):
                for content in (b"", b"{", b'{"token": "x"}'):
                    side.wall_s += 10
                    answer = await client.request(method, path, content=content, headers={"Content-Type": "application/json"})
                    found.append(((method, path), answer.status_code))
            return found

    found = asyncio.run(once())
    assert len(found) > 20
    assert {status for _, status in found} == {401}
    assert side.broker.inbound == []


def test_nothing_but_oscp_is_at_the_partners_listener(tmp_path: Path) -> None:
    side = Side()
    for path in ("/docs", "/openapi.json", "/redoc", "/", "/metrics", "/health/live", "/api/v1/status"):
        assert asyncio.run(side.send("GET", "/../../.." + path)).status_code == 404
