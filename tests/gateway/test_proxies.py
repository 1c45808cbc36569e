"""What a proxy says of the true sender: believed of trusted ones, and changing nothing from anybody else."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import Role
from gateway.proxies import PROXIED, TrustedProxies, address_of, networks
from gateway.settings import load
from sinks.errors import Misconfigured
from tests.gateway.operations_world import HOST, World
from tests.gateway.oscp_side import Side

TRUSTED = networks("10.0.0.0/24, 192.0.2.9,fd00::/8")


def seen(peer: str, *headers: tuple[str, str], trusted: Any = TRUSTED) -> tuple[str, str, bool]:
    """Sender, scheme and whether it came through a proxy, as an application sees a request from `peer`."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    plain = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "client": (peer, 4711), "scheme": "http", "headers": plain}
    asyncio.run(TrustedProxies(app, trusted)(scope, None, None))  # type: ignore[arg-type]
    (found,) = scopes
    assert found["headers"] == plain
    return found["client"][0], found["scheme"], found.get(PROXIED, False)


FOR, PROTO = "X-Forwarded-For", "X-Forwarded-Proto"


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("10.0.0.5", [(FOR, "203.0.113.7"), (PROTO, "https")], ("203.0.113.7", "https", True)),
        ("10.0.0.5", [(FOR, "1.1.1.1, 203.0.113.7")], ("203.0.113.7", "http", True)),
        ("10.0.0.5", [(FOR, "1.1.1.1, 203.0.113.7, 10.0.0.6")], ("203.0.113.7", "http", True)),
        ("10.0.0.5", [(FOR, "1.1.1.1"), (FOR, "203.0.113.7")], ("203.0.113.7", "http", True)),
        ("10.0.0.5", [(FOR, "10.0.0.8, 10.0.0.9")], ("10.0.0.8", "http", True)),
        ("10.0.0.5", [(FOR, "127.0.0.1, unknown, 10.0.0.9")], ("10.0.0.9", "http", True)),
        ("10.0.0.5", [(FOR, "127.0.0.1, _hidden")], ("10.0.0.5", "http", True)),
        ("10.0.0.5", [(FOR, "")], ("10.0.0.5", "http", True)),
        ("10.0.0.5", [(FOR, "203.0.113.7:5678")], ("203.0.113.7", "http", True)),
        ("10.0.0.5", [(FOR, "[2001:db8::7]:5678")], ("2001:db8::7", "http", True)),
        ("10.0.0.5", [(FOR, "::ffff:203.0.113.7")], ("203.0.113.7", "http", True)),
        ("::ffff:10.0.0.5", [(FOR, "203.0.113.7")], ("203.0.113.7", "http", True)),
        ("fd00::1", [(FOR, "203.0.113.7")], ("203.0.113.7", "http", True)),
        ("10.0.0.5", [], ("10.0.0.5", "http", True)),
        ("10.0.0.5", [(PROTO, "https, http")], ("10.0.0.5", "http", True)),
        ("10.0.0.5", [(PROTO, "gopher")], ("10.0.0.5", "http", True)),
        ("10.0.0.5", [("Forwarded", "for=1.1.1.1;proto=https")], ("10.0.0.5", "http", True)),
        ("10.0.1.5", [(FOR, "203.0.113.7"), (PROTO, "https")], ("10.0.1.5", "http", False)),
        ("127.0.0.1", [(FOR, "203.0.113.7"), (PROTO, "https")], ("127.0.0.1", "http", False)),
        ("unix", [(FOR, "203.0.113.7")], ("unix", "http", False)),
    ],
)
def test_only_what_trusted_proxies_wrote_is_believed(peer: str, headers: list[tuple[str, str]], expected: tuple[str, str, bool]) -> None:
    assert seen(peer, *headers) == expected


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80), st.text("https, ", max_size=12))
def test_nobody_else_can_say_anything(forwarded: str, proto: str) -> None:
    headers = ((FOR, forwarded), (PROTO, proto), ("Forwarded", forwarded), ("X-Real-IP", forwarded))
    assert seen("203.0.113.66", *headers) == ("203.0.113.66", "http", False)
    assert seen("10.0.0.5", *headers, trusted=()) == ("10.0.0.5", "http", False)


@given(st.lists(st.sampled_from(["1.1.1.1", "127.0.0.1", "10.0.0.7", "unknown", "", "::1", "10.0.0.0/8", " "]), max_size=6))
def test_what_a_client_wrote_before_the_proxy_does_not_matter(spoofed: list[str]) -> None:
    assert seen("10.0.0.5", (FOR, ",".join([*spoofed, "203.0.113.7"])))[0] == "203.0.113.7"


@pytest.mark.parametrize("text", ["somewhere", "10.0.0.1/8", "10.0.0.0/33", "*", "10.0.0.1;10.0.0.2"])
def test_a_wrong_setting_is_named(text: str) -> None:
    with pytest.raises(
        Misconfigured, match=r"^DERMS_GATEWAY__TRUSTED_PROXIES: .*neither an address nor a network.*for example 10\.0\.0\.5"
    ):
        load({"DERMS_GATEWAY__TRUSTED_PROXIES": text})


def test_addresses_are_read_in_every_way_they_are_written() -> None:
    assert {str(address_of(text)) for text in ("1.2.3.4", " 1.2.3.4 ", "1.2.3.4:5", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:5")} == {"1.2.3.4"}
    assert str(address_of("fe80::1%eth0")) == "fe80::1"
    assert [address_of(text) for text in ("", "a", "1.2.3", "1.2.3.4.5", "[", "0x7f.1", "2130706433")] == [None] * 7


def ask(app: Any, path: str, peer: str, headers: dict[str, str]) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(TrustedProxies(app, TRUSTED), client=(peer, 5000))
        async with httpx.AsyncClient(transport=transport, base_url=HOST, headers=headers) as client:
            return await (client.post if path == "/sign-in" else client.get)(
                path, **({"data": {"token": TOKEN[0]}} if path == "/sign-in" else {})
            )

    return asyncio.run(once())


TOKEN = [""]


def test_a_session_of_who_comes_by_https_to_the_proxy_is_for_https_only(tmp_path: Path) -> None:
    world = World(tmp_path)
    TOKEN[0] = world.tokens[Role.VIEWER]
    assert "Secure" in ask(world.app, "/sign-in", "10.0.0.5", {PROTO: "https"}).headers["set-cookie"]
    assert "Secure" not in ask(world.app, "/sign-in", "10.0.0.5", {}).headers["set-cookie"]
    assert "Secure" not in ask(world.app, "/sign-in", "203.0.113.7", {PROTO: "https"}).headers["set-cookie"]


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("203.0.113.7", {}, 401),
        ("203.0.113.7", {FOR: "127.0.0.1"}, 401),
        ("10.0.0.5", {FOR: "127.0.0.1"}, 401),
        ("10.0.0.5", {}, 401),
        ("127.0.0.1", {FOR: "203.0.113.7"}, 401),
        ("127.0.0.1", {FOR: "127.0.0.1"}, 401),
        ("127.0.0.1", {"Forwarded": "for=203.0.113.7"}, 401),
        ("127.0.0.1", {"X-Real-IP": "203.0.113.7"}, 401),
        ("127.0.0.1", {"Via": "1.1 proxy"}, 401),
        ("127.0.0.1", {"X-Forwarded-Host": "derms.example"}, 401),
        ("127.0.0.1", {PROTO: "https"}, 401),
    ],
)
def test_metrics_are_open_to_this_machine_only_and_to_no_proxy_on_it(
    tmp_path: Path, peer: str, headers: dict[str, str], status: int
) -> None:
    assert ask(World(tmp_path).app, "/metrics", peer, headers).status_code == status


def test_a_trusted_proxy_on_this_machine_is_not_this_machine(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def once() -> int:
        transport = httpx.ASGITransport(TrustedProxies(world.app, networks("127.0.0.1")), client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
            return (await client.get("/metrics")).status_code

    assert asyncio.run(once()) == 401


def test_strangers_behind_one_proxy_have_a_rate_each() -> None:
    side = Side()

    async def once() -> list[int]:
        transport = httpx.ASGITransport(TrustedProxies(side.app, TRUSTED), client=("10.0.0.5", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="https://derms.example") as client:
            found = [await client.post("/oscp/fp/2.0/heartbeat", headers={FOR: "203.0.113.7"}) for _ in range(120)]
            found.append(await client.post("/oscp/fp/2.0/heartbeat", headers={FOR: "203.0.113.8"}))
            return [answer.status_code for answer in found]

    statuses = asyncio.run(once())
    assert statuses[:100] == [401] * 100
    assert statuses[-2:] == [429, 401]
