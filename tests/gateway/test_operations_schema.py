"""Whatever is sent to the operations API is answered as its own OpenAPI says, and never with a fault of ours."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from gateway.auth import Role
from gateway.operations import openapi_document
from tests.browser.driving import served
from tests.gateway.operations_world import World

world = World(Path(tempfile.mkdtemp()))
world.lifecycle_answers()
schema = schemathesis.openapi.from_dict(openapi_document(world.app)).exclude(path_regex="^/(metrics|health)")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(world.app) as found:
        yield found


@schema.parametrize()
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_request_is_answered_as_described(case: schemathesis.Case, url: str) -> None:
    case.call_and_validate(
        base_url=url,
        headers={"Authorization": f"Bearer {world.tokens[Role.ADMIN]}"},
        checks=[not_a_server_error, content_type_conformance, response_schema_conformance],
    )
