"""Bodies made to cost: refused on both listeners with 400 within a moment, whatever they are full of."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.auth import Role
from tests.gateway.operations_world import World
from tests.gateway.oscp_side import TOKEN, Side, connection

MOMENT_S = 3.0
"""Seconds on the slowest machine; without limits it is five times as much."""


def filled(before: bytes, part: bytes, after: bytes, size: int) -> bytes:
    """About `size` bytes, as many parts as fit."""
    return before + part * ((size - len(before) - len(after) - 2) // len(part)) + part.rstrip(b",") + after


def quickly(ask: Callable[[], int]) -> int:
    started = time.monotonic()
    status = ask()
    assert time.monotonic() - started < MOMENT_S
    return status


HANDSHAKE = b'{"required_behaviour":{"measurement_configuration":['


PARTNERS = {
    "depth": ("/heartbeat", b"[" * 1_000_000),
    "depth of objects": ("/heartbeat", b'{"a":' * 150_000),
    "a long number": ("/heartbeat", b'{"offline_mode_at":' + b"1" * 100_000 + b"}"),
    "a long handshake": ("/handshake", filled(HANDSHAKE, b"1,", b"]}}", 1_000_000)),
    "a long acknowledgement": ("/handshake_acknowledge", filled(HANDSHAKE, b'"A",', b"]}}", 1_000_000)),
    "a long flat handshake": ("/handshake", filled(b'{"measurement_configuration":[', b"1,", b"]}", 1_000_000)),
    "a long forecast": ("/update_group_capacity_forecast", filled(b'{"forecasted_blocks":[', b"{},", b"]}", 1_000_000)),
    "many versions": ("/register", filled(b'{"token":"a","version_url":[', b"1,", b"]}", 1_000_000)),
    "a long token": ("/register", b'{"token":"' + b"a" * 1_000_000 + b'","version_url":[{"version":"2.0","base_url":"https://8.8.8.8"}]}'),
    "a long URL": ("/register", b'{"token":"a","version_url":[{"version":"2.0","base_url":"https://8.8.8.8/' + b"a" * 1_000_000 + b'"}]}'),
}
PRODUCERS = {
    "depth": b"[" * 2_000_000,
    "depth of objects": b'{"measurements":' * 100_000,
    "a long number": b'{"measurements":' + b"1" * 2_000_000 + b"}",
    "numbers": filled(b'{"measurements":[', b"1,", b"]}", 2_000_000),
    "empty readings": filled(b'{"measurements":[', b"{},", b"]}", 2_000_000),
    "fewer empty readings": filled(b'{"measurements":[', b"{          },", b"]}", 2_000_000),
    "properties": filled(b"{", b'"a":1,', b'"b":1}', 1_000_000),
    "half a character": b'{"measurements":[{"asset_id":"\\ud800","measured_at":"2007-01-01T00:00:00Z","power_w":1}]}',
    "no UTF-8": b"\xff\xfe",
}
CONFIGURATIONS = {
    "numbers": filled(b'{"configuration":{"assets":[', b"1,", b"]}}", 1_000_000),
    "depth": b'{"configuration":{"a":' + b"[" * 300 + b"]" * 300 + b"}}",
}
FORMS = {"fields": b"a=1&" * 200_000, "a long token": b"token=" + b"a" * 1_000_000}


@pytest.mark.parametrize("of", PARTNERS)
def test_a_partners_body_is_refused_in_a_moment(of: str) -> None:
    path, content = PARTNERS[of]
    side = Side(connection("vector", TOKEN, handshake_id="h"))
    assert quickly(lambda: asyncio.run(side.post(path, content=content)).status_code) == 400
    assert side.broker.inbound == []


def asked(directory: Path, method: str, path: str, role: Role | None, content: bytes, kind: str = "application/json") -> int:
    world = World(directory)
    status = quickly(lambda: world.ask(method, path, role, headers={"Content-Type": kind}, content=content).status_code)
    assert world.appender.appended == []
    return status


@pytest.mark.parametrize("of", PRODUCERS)
def test_a_producers_body_is_refused_in_a_moment(tmp_path: Path, of: str) -> None:
    assert asked(tmp_path, "POST", "/api/v1/telemetry", Role.PRODUCER, PRODUCERS[of]) == 400


@pytest.mark.parametrize("of", CONFIGURATIONS)
def test_an_admins_configuration_is_refused_in_a_moment(tmp_path: Path, of: str) -> None:
    assert asked(tmp_path, "PUT", "/api/v1/config", Role.ADMIN, CONFIGURATIONS[of]) == 400


@pytest.mark.parametrize("of", FORMS)
def test_a_form_without_end_is_refused(tmp_path: Path, of: str) -> None:
    assert asked(tmp_path, "POST", "/sign-in", None, FORMS[of], "application/x-www-form-urlencoded") in (400, 403)
