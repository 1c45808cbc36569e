"""Files with secrets count from the next use on, and a partner that demands our certificate is shown it (semantics 8.4, 8.7)."""

import asyncio
import base64
import ssl
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from schemas.outbound import Outcome
from sinks.oscp.client import OscpClient
from tests.gateway.authority import Authority
from tests.sinks.partner_server import FakePartner, Request, fake_partner
from tests.sinks.test_oscp_client import SECRETS, TokenServer, connection, message, oauth, partner
from tests.sinks.test_oscp_client_faults import NO_CONTENT, answering, attempt_at

SHORT_S = 20
"""A token that lasts no longer than it is renewed before its end: each message fetches another."""


@pytest.mark.parametrize("way", ["basic", "post"])
def test_new_secrets_in_their_files_count_from_the_next_use(tmp_path: Path, way: str) -> None:
    def secret_of(request: Request) -> str:
        if way == "post":
            return parse_qs(request.text)["client_secret"][0]
        return base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().partition(":")[2]

    async def before_and_after(cp: FakePartner) -> None:
        config, known = oauth(cp, tmp_path, client_authentication=way), connection(cp.url)
        client = OscpClient(lambda: config, lambda: {"vector": known}, SECRETS)
        try:
            assert (await client.attempt(message())).outcome is Outcome.DELIVERED
            (tmp_path / "secret").write_text("renewed\n")
            (tmp_path / "key").write_text("another key\n")
            assert (await client.attempt(message())).outcome is Outcome.DELIVERED
        finally:
            await client.aclose()

    with fake_partner() as cp:
        cp.answer = TokenServer(expires_in=SHORT_S)
        asyncio.run(before_and_after(cp))
        assert [secret_of(request) for request in cp.requests if request.path == "/token"] == ["client s3same&+", "renewed"]
        assert [request.headers["key"] for request in cp.requests] == ["subscription", "subscription", "another key", "another key"]


@pytest.mark.parametrize("shown", [True, False])
def test_a_partner_that_demands_our_certificate_is_shown_it(tmp_path: Path, shown: bool) -> None:
    authority = Authority(tmp_path)
    demanding = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    demanding.load_cert_chain(*authority.issue("partner"))
    demanding.verify_mode = ssl.CERT_REQUIRED
    chain, key = authority.issue("us")
    ours = {"client_cert_file": str(chain), "client_key_file": str(key)} if shown else {}
    config = partner(tls={"ca_file": str(authority.file), **ours})
    judgement = attempt_at(answering(NO_CONTENT), tls=demanding, host="localhost", config=config)
    assert judgement.outcome is (Outcome.DELIVERED if shown else Outcome.RETRY)


def test_one_file_may_hold_our_certificate_and_its_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    demanding = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    demanding.load_cert_chain(*authority.issue("partner"))
    demanding.verify_mode = ssl.CERT_REQUIRED
    both = tmp_path / "both.pem"
    both.write_text("".join(file.read_text() for file in authority.issue("us")))
    config = partner(tls={"ca_file": str(authority.file), "client_cert_file": str(both), "client_key_file": str(both)})
    assert attempt_at(answering(NO_CONTENT), tls=demanding, host="localhost", config=config).outcome is Outcome.DELIVERED
