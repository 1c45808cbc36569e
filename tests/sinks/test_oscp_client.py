"""One attempt over real sockets: address, headers, tokens, OAuth, and what the answers mean (semantics 8.3, 8.4)."""

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from schemas.config import Configuration
from schemas.connection import Connection, ConnectionState, Credential
from schemas.outbound import OutboundMessage, Outcome
from sinks.oscp.answers import Judgement
from sinks.oscp.client import OscpClient
from sinks.secrets import Secrets
from tests.builders import T0, configuration
from tests.schemas.golden import oscp_example
from tests.sinks.partner_server import FakePartner, Reply, Request, fake_partner

SECRETS = Secrets(bytes(range(32)))
PEER_TOKEN = "peer-token-s3same"
BODY = oscp_example("UpdateAssetMeasurements")


@pytest.fixture
def cp() -> Iterator[FakePartner]:
    with fake_partner() as partner:
        yield partner


def message(action: str = "UpdateAssetMeasurements", body: str = BODY, **changes: Any) -> OutboundMessage:
    plain: dict[str, Any] = {
        "event_id": "m-1", "at": T0, "message_id": "m-1", "partner_id": "vector", "action": action, "body": body,
        "not_before": T0, "expires_at": T0 + timedelta(days=7),
    }  # fmt: skip
    return OutboundMessage.model_validate({**plain, **changes})


def connection(url: str | None, token: str | None = PEER_TOKEN) -> Connection:
    return Connection(
        event_id="c", at=T0, partner_id="vector", state=ConnectionState.ONLINE, since=T0,
        peer_base_url=url, peer_token=token and SECRETS.encrypt(token, "vector"),
    )  # fmt: skip


def partner(**changes: Any) -> Configuration:
    return configuration(partners=[{"id": "vector", "allow_private_addresses": True, **changes}])


def attempt(
    cp: FakePartner, *messages: OutboundMessage, config: Configuration | None = None, known: Connection | None = None
) -> list[Judgement]:
    known = known or connection(f"{cp.url}/oscp/cp/2.0/")
    config = config or partner()

    async def all_of_them() -> list[Judgement]:
        client = OscpClient(lambda: config, lambda: {"vector": known}, SECRETS)
        try:
            return [await client.attempt(each) for each in messages or (message(),)]
        finally:
            await client.aclose()

    return asyncio.run(all_of_them())


def test_a_message_goes_with_its_headers_and_body(cp: FakePartner) -> None:
    (judgement,) = attempt(cp, message(correlation_id="f-1"))
    assert judgement.outcome is Outcome.DELIVERED
    (request,) = cp.requests
    assert (request.method, request.path, request.text) == ("POST", "/oscp/cp/2.0/update_asset_measurements", BODY)
    assert request.headers["authorization"] == f"Token {PEER_TOKEN}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-request-id"] == "m-1"
    assert request.headers["x-correlation-id"] == "f-1"


def test_what_became_of_it_says_where_it_was_sent_but_no_query(cp: FakePartner) -> None:
    config = partner(paths={"UpdateAssetMeasurements": "/custom?key=s3same"})
    (judgement,) = attempt(cp, config=config)
    assert (judgement.method, judgement.url) == ("POST", f"{cp.url}/oscp/cp/2.0/custom")
    (away,) = attempt(cp, known=connection("http://127.0.0.1:1/oscp"))
    assert (away.outcome, away.url) == (Outcome.RETRY, "http://127.0.0.1:1/oscp/update_asset_measurements")
    (nowhere,) = attempt(cp, known=connection(None))
    assert (nowhere.outcome, nowhere.url) == (Outcome.HELD, "")


def test_a_register_promised_under_the_secret_before_carries_that_ones_token(cp: FakePartner) -> None:
    before = Secrets(bytes(32))
    known = connection(f"{cp.url}/oscp/cp/2.0").model_copy(
        update={"credentials": [Credential(digest=before.token_digest("vector", "c"), cause="c", role="CURRENT")]}
    )
    body = json.dumps({"token": {"$token": "c"}, "version_url": [{"version": "2.0", "base_url": "https://derms.example/oscp/fp/2.0"}]})

    async def send() -> None:
        client = OscpClient(partner, lambda: {"vector": known}, Secrets(bytes(range(32)), before))
        await client.attempt(message("Register", body))
        await client.aclose()

    asyncio.run(send())
    assert json.loads(cp.requests[0].text)["token"] == before.token("vector", "c")


def test_without_a_correlation_there_is_no_such_header(cp: FakePartner) -> None:
    attempt(cp)
    assert "x-correlation-id" not in cp.requests[0].headers


@pytest.mark.parametrize("correlation_id", ["a\nb", "\u6f22", "x\x7f"])
def test_a_correlation_that_no_header_can_hold_is_our_defect_and_holds_up_nothing(cp: FakePartner, correlation_id: str) -> None:
    owed = message("GroupCapacityComplianceError", json.dumps({"message": "m"})).model_copy(update={"correlation_id": correlation_id})
    (judged,) = attempt(cp, owed)
    assert (judged.outcome, judged.defect) == (Outcome.REFUSED, True)
    assert "X-Correlation-ID" in judged.words
    assert cp.requests == []


def test_paths_legacy_tokens_and_static_headers_by_profile(cp: FakePartner, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("subscription-s3same\n")
    config = partner(
        paths={"UpdateAssetMeasurements": "/custom"},
        legacy=["BARE_TOKEN"],
        headers={"Ocp-Apim-Subscription-Key": {"file": str(tmp_path / "key")}},
    )
    attempt(cp, config=config)
    (request,) = cp.requests
    assert request.path == "/oscp/cp/2.0/custom"
    assert request.headers["authorization"] == PEER_TOKEN
    assert request.headers["ocp-apim-subscription-key"] == "subscription-s3same"


def test_our_token_is_made_when_a_register_is_sent(cp: FakePartner) -> None:
    body = json.dumps({"token": {"$token": "cause-7"}, "version_url": [{"version": "2.0", "base_url": "http://x"}]})
    attempt(cp, message("Register", body, method="DELETE"))
    (request,) = cp.requests
    assert (request.method, request.path) == ("DELETE", "/oscp/cp/2.0/register")
    assert request.json == {"token": SECRETS.token("vector", "cause-7"), "version_url": [{"version": "2.0", "base_url": "http://x"}]}


def test_a_register_waits_for_the_connection_it_is_owed_because_of(cp: FakePartner) -> None:
    body = json.dumps({"token": {"$token": "cause"}, "version_url": [{"version": "2.0", "base_url": "https://fp.example/oscp/fp/2.0"}]})
    at = T0 + timedelta(seconds=1)
    seen = [{}, {"vector": connection(None, None)}, {"vector": connection(f"{cp.url}/a", "new").model_copy(update={"at": at})}]

    async def one() -> Judgement:
        client = OscpClient(partner, lambda: seen.pop(0) if len(seen) > 1 else seen[0], SECRETS)
        try:
            return await client.attempt(message("Register", body, at=at))
        finally:
            await client.aclose()

    assert asyncio.run(one()).outcome is Outcome.DELIVERED
    (request,) = cp.requests
    assert (request.path, request.headers["authorization"]) == ("/a/register", "Token new")


def test_the_partners_words_come_without_secrets(cp: FakePartner) -> None:
    cp.answer = lambda request: (400, json.dumps({"message": f"no: {request.headers['authorization']}"}).encode(), {})
    (judgement,) = attempt(cp)
    assert (judgement.outcome, judgement.status) == (Outcome.REFUSED, 400)
    assert judgement.words == "answered 400: no: Token ***"


def with_credentials(url: str, *causes: str, secrets: Secrets = SECRETS) -> Connection:
    given = [Credential(digest=secrets.token_digest("vector", cause), cause=cause, role="CURRENT") for cause in causes]
    return connection(url).model_copy(update={"credentials": given})


@pytest.mark.parametrize(
    "body", ['{"message": "we call you with Token %s"}', "<p>Token %s</p>", '[{"path": "x-%s"}]', '{"errors": ["%s%s"]}']
)
@pytest.mark.parametrize("status", [400, 403, 503, 202])
def test_a_partner_that_repeats_our_own_token_does_not_make_it_known(cp: FakePartner, status: int, body: str) -> None:
    for cause in ("before", "c"):
        own = SECRETS.token("vector", cause)
        cp.answer = lambda request, own=own: (status, body.replace("%s", own).encode(), {})
        (judgement,) = attempt(cp, known=with_credentials(cp.url, "before", "c"))
        assert judgement.status == status
        assert "***" in judgement.words
        assert own[:20] not in judgement.words


def test_no_token_of_a_rotation_or_of_another_secret_is_made_known(cp: FakePartner) -> None:
    lost, before, now = Secrets(bytes(32)), Secrets(bytes([7] * 32)), Secrets(bytes(range(32)), Secrets(bytes([7] * 32)))
    known = with_credentials(cp.url, "c", secrets=lost)
    tokens = [secrets.token("vector", "c") for secrets in (lost, before, now)]
    cp.answer = lambda request: (400, json.dumps({"message": " and ".join([*tokens, PEER_TOKEN])}).encode(), {})

    async def one() -> Judgement:
        client = OscpClient(partner, lambda: {"vector": known}, now)
        try:
            return await client.attempt(message())
        finally:
            await client.aclose()

    assert asyncio.run(one()).words == "answered 400: *** and *** and *** and ***"


def test_what_is_not_there_is_tried_again(cp: FakePartner) -> None:
    (judgement,) = attempt(cp, known=connection("http://127.0.0.1:1/cp"))
    assert judgement.outcome is Outcome.RETRY
    assert "cannot connect" in judgement.words


@pytest.mark.parametrize(
    ("known", "config", "words"),
    [
        (connection(None), partner(), "address is not known"),
        (connection("http://127.0.0.1:1", token=None), partner(), "token is not known"),
        (connection("https://127.0.0.1:1"), partner(allow_private_addresses=False), "not allowed"),
        (connection("http://127.0.0.1:1"), partner(headers={"Key": {"file": "/no/such/file"}}), "headers.Key"),
        (connection("http://127.0.0.1:1"), configuration(partners=[{"id": "other"}], groups=[]), "not in the configuration"),
        (connection("http://127.0.0.1:1").model_copy(update={"peer_token": "v1.x.y"}), partner(), "installation secret"),
    ],
)
def test_what_only_a_person_can_mend_is_held(cp: FakePartner, known: Connection, config: Configuration, words: str) -> None:
    (judgement,) = attempt(cp, known=known, config=config)
    assert judgement.outcome is Outcome.HELD
    assert words in judgement.words
    assert cp.requests == []


class TokenServer:
    """Answers token requests and, as a partner, takes only the newest token."""

    def __init__(self, **answer: Any) -> None:
        self.made = 0
        self.extra = answer
        self.valid: str | None = None

    def __call__(self, request: Request) -> Reply | int:
        if request.path == "/token":
            self.made += 1
            self.valid = f"access-{self.made}"
            found = {"access_token": self.valid, "token_type": "Bearer", "expires_in": 3600, **self.extra}
            return 200, json.dumps(found).encode(), {}
        return 204 if request.headers["authorization"] == f"Bearer {self.valid}" else 401


def oauth(cp: FakePartner, tmp_path: Path, **changes: Any) -> Configuration:
    (tmp_path / "secret").write_text("client s3same&+")
    (tmp_path / "key").write_text("subscription")
    settings = {"token_url": f"{cp.url}/token", "client_id": "us", "client_secret_file": str(tmp_path / "secret"), **changes}
    return partner(oauth=settings, headers={"Key": {"file": str(tmp_path / "key")}})


def test_oauth_tokens_are_fetched_once_and_used_as_bearer(cp: FakePartner, tmp_path: Path) -> None:
    cp.answer = server = TokenServer()
    judgements = attempt(cp, message(), message(), config=oauth(cp, tmp_path, scope="oscp", audience="vector"))
    assert [judgement.outcome for judgement in judgements] == [Outcome.DELIVERED] * 2
    assert server.made == 1
    token_request = cp.requests[0]
    basic = base64.b64decode(token_request.headers["authorization"].removeprefix("Basic ")).decode()
    assert basic == "us:client s3same&+"
    assert parse_qs(token_request.text) == {"grant_type": ["client_credentials"], "scope": ["oscp"], "audience": ["vector"]}
    assert [request.headers["key"] for request in cp.requests] == ["subscription"] * 3


def test_oauth_client_authentication_in_the_body(cp: FakePartner, tmp_path: Path) -> None:
    cp.answer = TokenServer()
    attempt(cp, config=oauth(cp, tmp_path, client_authentication="post"))
    form = parse_qs(cp.requests[0].text)
    assert (form["client_id"], form["client_secret"]) == (["us"], ["client s3same&+"])
    assert "authorization" not in cp.requests[0].headers


def test_a_token_is_renewed_before_its_end(cp: FakePartner, tmp_path: Path) -> None:
    cp.answer = server = TokenServer(expires_in=20)
    attempt(cp, message(), message(), config=oauth(cp, tmp_path))
    assert server.made == 2


def test_a_revoked_token_is_renewed_once_and_the_message_repeated(cp: FakePartner, tmp_path: Path) -> None:
    server = TokenServer()
    first = True

    def answer(request: Request) -> Reply | int:
        nonlocal first
        if request.path != "/token" and first:
            first = False
            return 401
        return server(request)

    cp.answer = answer
    (judgement,) = attempt(cp, config=oauth(cp, tmp_path))
    assert (judgement.outcome, server.made) == (Outcome.DELIVERED, 2)
    assert [request.id for request in cp.requests if request.path != "/token"] == ["m-1", "m-1"]


def test_credentials_that_stay_wrong_hold_the_queue(cp: FakePartner, tmp_path: Path) -> None:
    server = TokenServer()
    cp.answer = lambda request: server(request) if request.path == "/token" else 403
    (judgement,) = attempt(cp, config=oauth(cp, tmp_path))
    assert (judgement.outcome, judgement.status, server.made) == (Outcome.HELD, 403, 2)


@pytest.mark.parametrize(
    ("reply", "outcome", "words"),
    [
        ((400, b'{"error":"invalid_client"}', {}), Outcome.HELD, "invalid_client"),
        ((503, b"", {"Retry-After": "9"}), Outcome.RETRY, "token server answered 503"),
        ((200, b"{}", {}), Outcome.RETRY, "no access token"),
        ((200, b'{"access_token":"x","token_type":"mac"}', {}), Outcome.RETRY, "no bearer token"),
        ((200, b'{"access_token":"x","expires_in":"soon"}', {}), Outcome.RETRY, "no access token"),
    ],
)
def test_a_token_server_that_does_not_help(cp: FakePartner, tmp_path: Path, reply: Reply, outcome: Outcome, words: str) -> None:
    cp.answer = lambda request: reply
    (judgement,) = attempt(cp, config=oauth(cp, tmp_path))
    assert judgement.outcome is outcome
    assert words in judgement.words
    assert "s3same" not in judgement.words
    assert judgement.retry_after_s == (9.0 if "503" in words else None)


def test_a_token_server_that_repeats_what_it_knows_makes_nothing_known(cp: FakePartner, tmp_path: Path) -> None:
    own = SECRETS.token("vector", "c")

    def answer(request: Request) -> Reply:
        words = f"{request.headers.get('authorization', '')} {request.text} {request.headers['key']} {own} {PEER_TOKEN}"
        return 400, json.dumps({"error_description": words}).encode(), {}

    cp.answer = answer
    for way in ("basic", "post"):
        config = oauth(cp, tmp_path, client_authentication=way)
        (judgement,) = attempt(cp, config=config, known=with_credentials(cp.url, "c"))
        assert (judgement.outcome, judgement.status) == (Outcome.HELD, 400)
        for secret in (own, PEER_TOKEN, "s3same", "subscription", base64.b64encode(b"us:client s3same&+").decode()):
            assert secret not in judgement.words


def test_a_spent_token_is_made_known_no_more_than_the_new_one(cp: FakePartner, tmp_path: Path) -> None:
    server = TokenServer()

    def answer(request: Request) -> Reply | int:
        return server(request) if request.path == "/token" else (403, b'{"message": "neither access-1 nor access-2"}', {})

    cp.answer = answer
    (judgement,) = attempt(cp, config=oauth(cp, tmp_path))
    assert judgement.words == "answered 403: neither *** nor ***"


def test_one_token_request_however_many_messages_wait(cp: FakePartner, tmp_path: Path) -> None:
    cp.answer = server = TokenServer()
    config, known = oauth(cp, tmp_path), connection(cp.url)

    async def at_once() -> list[Judgement]:
        client = OscpClient(lambda: config, lambda: {"vector": known}, SECRETS)
        try:
            return await asyncio.gather(*(client.attempt(message()) for _ in range(6)))
        finally:
            await client.aclose()

    assert {judgement.outcome for judgement in asyncio.run(at_once())} == {Outcome.DELIVERED}
    assert server.made == 1
