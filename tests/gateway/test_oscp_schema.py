"""Whatever is sent to the OSCP listener is answered as its own OpenAPI says, never with a 5xx but 501 and 503."""

import asyncio
import json
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckContext
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.browser.driving import served
from tests.gateway.oscp_side import TOKEN, Side, connection

SIDE = Side(connection("vector", TOKEN, handshake_id="h", peer_base_url="https://cp.example/oscp"), inbound_rate=1_000_000)
schema = schemathesis.openapi.from_dict(SIDE.app.openapi())
FAULTS = frozenset({501, 503})


def only_the_faults_that_are_named(ctx: CheckContext, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """A 5xx says that we failed: of those only 501 and 503 may be (semantics 6.6)."""
    assert response.status_code < 500 or response.status_code in FAULTS, response.text
    assert (response.content == b"") == (response.status_code == 204)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(SIDE.app) as found:
        yield found


@pytest.mark.parametrize("token", [TOKEN, "nobody", None], ids=["known", "unknown", "none"])
@schema.parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_request_is_answered_as_described(case: schemathesis.Case, url: str, token: str | None) -> None:
    SIDE.wall_s += 60  # no rate holds it back
    case.call_and_validate(
        base_url=url,
        headers={} if token is None else {"Authorization": f"Token {token}"},
        checks=[only_the_faults_that_are_named, status_code_conformance, content_type_conformance, response_schema_conformance],
    )


def test_what_the_document_calls_valid_is_taken() -> None:
    """The models behind the document are those that judge: an example of each is 204."""
    found = SIDE.app.openapi()["components"]["schemas"]
    assert {"Register", "Handshake", "HandshakeAcknowledge", "Heartbeat", "UpdateGroupCapacityForecast"} <= set(found)
    assert "offline_mode_at" in json.dumps(found["Heartbeat"])
    assert asyncio.run(SIDE.post("/heartbeat", {"offline_mode_at": "2026-10-20T11:00:00.000Z"})).status_code == 204
