"""What is wrong with a message is said as path and rule, and never with the value that was found."""

import json
from typing import Any

import pytest

from schemas.config import Legacy
from schemas.oscp.checking import Violation, violations_of
from schemas.oscp.v20 import Action
from tests.schemas.golden import oscp_example
from tests.schemas.test_oscp_wire import BOTH_SAY, WE_ARE_STRICTER

HEARTBEAT = "Heartbeat"


@pytest.mark.parametrize("action", Action)
def test_nothing_is_wrong_with_the_examples(action: Action):
    assert violations_of(action, oscp_example(action)) == []


@pytest.mark.parametrize(("action", "body", "valid"), BOTH_SAY)
def test_it_judges_as_the_schemas_do(action: str, body: Any, valid: bool):
    assert (violations_of(action, json.dumps(body)) == []) is valid


@pytest.mark.parametrize(("action", "body", "path", "words"), WE_ARE_STRICTER)
def test_what_the_schemas_let_through_and_meaning_forbids_has_its_path_and_rule(action: str, body: Any, path: str, words: str):
    (violation,) = violations_of(action, json.dumps(body))
    assert violation.path == path
    assert words in violation.rule


@pytest.mark.parametrize(
    ("action", "text", "words"),
    [
        (HEARTBEAT, "", "must be JSON text"),
        (HEARTBEAT, "{", "must be JSON text"),
        (HEARTBEAT, b"\xff\xfe\xff", "must be JSON text"),
        (HEARTBEAT, '{"offline_mode_at":"2026-10-20T10:00:00Z","x":NaN}', "must be JSON text"),
        (HEARTBEAT, "[" * 100_000, "must be JSON text"),
        (HEARTBEAT, "[]", "Input should be"),
        (HEARTBEAT, "null", "Input should be"),
        ("Gossip", "{}", "there is no message Gossip"),
    ],
)
def test_what_is_no_message_at_all(action: str, text: str | bytes, words: str):
    (violation,) = violations_of(action, text)
    assert violation.path == ""
    assert violation.rule.startswith(words)


def test_a_violation_reads_as_path_and_rule():
    assert str(Violation("a[1].b", "must be more")) == "a[1].b: must be more"
    assert str(Violation("", "must be JSON text")) == "must be JSON text"


@pytest.mark.parametrize("secret", ["s3same-token", 17, ["s3same"], {"$token": "s3same"}, None])
def test_no_value_is_repeated(secret: Any):
    body = {"token": secret, "version_url": [{"version": secret, "base_url": "s3same://x"}, {"version": "2.0", "base_url": secret}]}
    found = violations_of("Register", json.dumps(body))
    assert found
    assert "s3same" not in repr(found)


@pytest.mark.parametrize("body", [{}, [], {"offline_mode_at": 5}, {"offline_mode_at": "2026-10-20"}, {"offline_mode_at": None}])
def test_a_naive_heartbeat_is_a_local_time_and_nothing_else(body: Any):
    legacy = (Legacy.NAIVE_HEARTBEAT_TIME,)
    assert violations_of(HEARTBEAT, '{"offline_mode_at":"2026-10-20 10:00:00"}', legacy) == []
    assert violations_of(HEARTBEAT, json.dumps(body), legacy) != []
    assert violations_of(HEARTBEAT, '{"offline_mode_at":"2026-10-20T10:00:00Z"}', legacy) == []
