"""The fence against every way to write an address that is not what it seems, and against names that change their answer."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

import httpcore
import pytest

from sinks import addresses
from sinks.addresses import objection, resolve
from sinks.errors import Refused, Unavailable
from sinks.http import HttpClient
from sinks.http_connecting import FencedBackend
from sinks.lookups import Lookups

PUBLIC = "93.184.216.34"


def judged(host: str, *, allow_private: bool = False) -> list[str]:
    return asyncio.run(resolve(host, 443, allow_private=allow_private))


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "0:0:0:0:0:ffff:127.0.0.1",
        "localhost",
        "LOCALHOST",
        "①②⑦.⓪.⓪.①",
        "ⓛocalhost",
        "127.0.0.1\0.example.com",
        "0300.0250.1.1",
        "3232235777",
        "10.1",
    ],
)
def test_loopback_and_private_however_written_are_refused(host: str) -> None:
    with pytest.raises((Refused, Unavailable)) as caught:
        judged(host)
    assert not isinstance(caught.value, Refused) or "loopback" in caught.value.words or "private" in caught.value.words


@pytest.mark.parametrize(
    "host",
    ["0", "0.0.0.0", "0x0", "0.1.2.3", "::", "[::]", "169.254.169.254", "0xa9fea9fe", "2852039166", "fe80::1%1", "::ffff:169.254.169.254"],
)
@pytest.mark.parametrize("allow_private", [True, False])
def test_unspecified_and_link_local_are_refused_with_leave_too(host: str, allow_private: bool) -> None:
    with pytest.raises((Refused, Unavailable)):
        judged(host, allow_private=allow_private)


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", "reserved", "reserved"),  # Teredo of 127.0.0.1
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "reserved", "reserved"),
        ("64:ff9b::7f00:1", "loopback", None),
        ("64:ff9b::a9fe:a9fe", "link-local", "link-local"),
        ("64:ff9b::808:808", None, None),
        ("64:ff9b:1::a00:1", "reserved", "reserved"),
        ("2002:a9fe:a9fe::", "link-local", "link-local"),
        ("2002:a00:1::1", "private", None),
        ("2002:808:808::1", None, None),
        ("::127.0.0.1", "reserved", "reserved"),
        ("::ffff:0:10.0.0.1", "reserved", "reserved"),
        ("::ffff:0.0.0.0", "reserved", "reserved"),
        ("fec0::1", "private", None),
        ("fc00::1", "private", None),
        ("2001:db8::1", "private", None),
        ("3fff::1", "reserved", "reserved"),
        ("100::1", "reserved", "reserved"),
        ("ff02::1", "multicast", "multicast"),
        ("0.1.2.3", "reserved", "reserved"),
        ("10.0.0.1", "private", None),
        ("172.16.0.1", "private", None),
        ("198.18.0.1", "private", None),
        ("192.0.2.1", "private", None),
        ("100.64.0.1", "private", None),
        ("100.100.100.200", "metadata", "metadata"),
        ("168.63.129.16", "metadata", "metadata"),
        ("::ffff:168.63.129.16", "metadata", "metadata"),
        ("192.0.0.192", "metadata", "metadata"),
        ("fd00:ec2::254", "metadata", "metadata"),
        (PUBLIC, None, None),
        ("2606:2800:220:1::1", None, None),
    ],
)
def test_addresses_are_judged_by_what_they_stand_for(address: str, public: str | None, private: str | None) -> None:
    parsed = ipaddress.ip_address(address)
    assert (objection(parsed, allow_private=False), objection(parsed, allow_private=True)) == (public, private)


class Resolver:
    """The system's resolver as somebody else wrote it: one answer after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[Any]:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in found]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Resolver":
        monkeypatch.setattr(addresses, "LOOKUPS", Lookups(self, kept_s=0.0))
        return self


class Dialled(httpcore.AsyncNetworkBackend):
    """In the network's place: keeps where connections would go."""

    def __init__(self, unreachable: Sequence[str] = ()) -> None:
        self.addresses: list[str] = []
        self.unreachable = unreachable

    async def connect_tcp(self, host: str, port: int, **_: Any) -> Any:
        self.addresses.append(host)
        if host in self.unreachable:
            raise httpcore.ConnectError
        return None


def dial(host: str, *, allow_private: bool = False, unreachable: Sequence[str] = ()) -> list[str]:
    backend, network = FencedBackend(allow_private=allow_private), Dialled(unreachable)
    backend._inner = network  # type: ignore[assignment]
    asyncio.run(backend.connect_tcp(host, 443))
    return network.addresses


def test_a_name_that_answers_public_first_and_private_then_is_called_where_it_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver([PUBLIC], ["127.0.0.1"]).install(monkeypatch)
    assert dial("rebinding.example") == [PUBLIC]
    assert resolver.asked == 1
    with pytest.raises(Refused, match="loopback"):
        dial("rebinding.example")


def test_of_mixed_answers_only_the_permitted_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(["10.0.0.1", PUBLIC, "169.254.169.254", "::1", "93.184.216.35"]).install(monkeypatch)
    assert dial("mixed.example", unreachable=[PUBLIC]) == [PUBLIC, "93.184.216.35"]
    assert dial("mixed.example", allow_private=True, unreachable=["10.0.0.1", PUBLIC, "::1"]) == [
        "10.0.0.1",
        PUBLIC,
        "::1",
        "93.184.216.35",
    ]


def test_a_name_of_forbidden_addresses_only_is_refused_before_anything_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(["10.0.0.1", "169.254.169.254"]).install(monkeypatch)
    with pytest.raises(Refused, match="link-local and private"):
        dial("inside.example")


@pytest.mark.parametrize(
    "url",
    [
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://user@cp.example/",
        "https://cp.example\\@127.0.0.1/",
        "https://[fe80::1%25lo]/",
        "https://[::1]/",
        "https://[::ffff:7f00:1]/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https:127.0.0.1/",
        "https:///x",
        "https://169.254.169.254:80/latest",
        "HTTPS://LOCALHOST/",
        "http://cp.example/",
        "gopher://cp.example/",
        "file:///etc/passwd",
    ],
)
def test_hostile_urls_end_at_the_fence(url: str) -> None:
    async def once() -> None:
        async with HttpClient() as client:
            await client.request("POST", url, content=b"{}", timeout_s=5)

    with pytest.raises((Refused, Unavailable)):
        asyncio.run(once())
