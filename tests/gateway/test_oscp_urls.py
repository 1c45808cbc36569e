"""Each URL a partner tells: judged at the door by text and address, whatever way it is written."""

import asyncio
from typing import Any

import pytest

from gateway.oscp_v20 import _resolver
from tests.gateway.oscp_side import Side, register_body


class Fenced(Side):
    """The listener with its real fence behind the door."""

    def _resolver(self, allow_private: bool) -> Any:
        return _resolver(allow_private)


def told(url: str, *, allow_private: bool = False) -> int:
    """The answer to a Register with that `base_url`."""
    side = Fenced(allow_private_addresses=allow_private)
    return asyncio.run(side.post("/register", register_body(url=url))).status_code


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/oscp",
        "https://localhost/oscp",
        "https://2130706433/oscp",
        "https://0x7f.1/oscp",
        "https://0177.0.0.1/oscp",
        "https://[::1]/oscp",
        "https://[::ffff:10.0.0.1]/oscp",
        "https://[64:ff9b::a00:1]/oscp",
        "https://[fe80::1%25lo]/oscp",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/oscp",
        "https://10.0.0.1:8443/oscp",
        "https://user:pass@8.8.8.8/oscp",
        "https://@8.8.8.8/oscp",
        "https://8.8.8.8\\@127.0.0.1/oscp",
        "https://8.8.8.8:0/oscp",
        "https://8.8.8.8:99999/oscp",
        "https://8.8.8.8:x/oscp",
        "https://8.8.8.8/oscp?next=",
        "https://8.8.8.8/oscp#",
        "https://8.8.8.8/os cp",
        "https://8.8.8.8/\t",
        "https://①②⑦.⓪.⓪.①/oscp",
        "https:///oscp",
        "//8.8.8.8/oscp\n",
        "http://8.8.8.8/oscp",
        "ftp://8.8.8.8/oscp",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "",
    ],
)
def test_what_no_partner_can_be_reached_at_is_refused(url: str) -> None:
    assert told(url) == 400


@pytest.mark.parametrize(
    "url", ["https://169.254.169.254/x", "https://[fe80::1]/x", "https://0.0.0.0/x", "https://[fd00:ec2::254]/x", "https://224.0.0.1/x"]
)
def test_leave_for_private_addresses_does_not_open_all(url: str) -> None:
    assert told(url, allow_private=True) == 400


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/oscp", "https://10.0.0.1/oscp", "https://[::1]:8443/oscp"])
def test_leave_for_private_addresses_admits_them(url: str) -> None:
    assert told(url, allow_private=True) == 204


@pytest.mark.parametrize("url", ["https://8.8.8.8/oscp", "https://8.8.8.8:8443/oscp/", "https://[2001:4860:4860::8888]/oscp"])
def test_a_public_address_over_tls_is_taken(url: str) -> None:
    assert told(url) == 204
