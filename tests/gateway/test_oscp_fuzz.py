"""Whatever comes, the listener answers in OSCP's words and never with a 5xx but 501 and 503 (semantics 6.6)."""

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.oscp_auth import Holders
from gateway.rate import MOST_CALLERS, Buckets
from schemas.facts import digest
from tests.gateway.oscp_side import TOKEN, Side, block, connection, forecast_body, register_body

ANSWERS = {204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 501, 503}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
valid = st.sampled_from(
    [
        ("/register", register_body()),
        ("/handshake", {"required_behaviour": {"measurement_configuration": ["CONTINUOUS"], "heartbeat_interval": 5}}),
        ("/handshake_acknowledge", {"required_behaviour": {"measurement_configuration": []}}),
        ("/heartbeat", {"offline_mode_at": "2026-10-20T11:00:00Z"}),
        ("/update_group_capacity_forecast", forecast_body(forecasted_blocks=[block(), block()])),
    ]
)


SIDE = Side(connection("vector", TOKEN, handshake_id="h"))


def later() -> Side:
    """The one listener all examples go to, after so long that no rate holds them back."""
    SIDE.wall_s += 60
    return SIDE


def spoilt(body, path: list[int], value):
    """`body` with one part, found by walking along `path`, replaced by `value`."""
    if not path or not isinstance(body, (dict, list)) or not body:
        return value
    keys = list(body) if isinstance(body, dict) else list(range(len(body)))
    key = keys[path[0] % len(keys)]
    found = dict(body) if isinstance(body, dict) else list(body)
    found[key] = spoilt(body[key], path[1:], value)
    return found


def answered(answer) -> None:
    assert answer.status_code in ANSWERS, answer.text
    if answer.status_code == 204:
        assert answer.content == b""
    else:
        assert isinstance(answer.json()["message"], str)


@settings(max_examples=150, deadline=None)
@given(message=valid, path=st.lists(st.integers(0, 5), max_size=4), value=anything)
def test_a_valid_message_with_one_part_spoilt(message, path, value):
    where, body = message
    content = json.dumps(spoilt(body, path, value)).encode()
    answered(asyncio.run(later().post(where, content=content)))


@settings(max_examples=100, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]),
    path=st.sampled_from(["", "/", "/register", "/heartbeat", "/handshake", "/x", "/%00", "/register%2f", "//"]),
    content=st.binary(max_size=40) | anything.map(lambda value: json.dumps(value).encode()),
    token=st.none() | st.sampled_from([f"Token {TOKEN}", TOKEN]) | st.text(st.characters(min_codepoint=33, max_codepoint=126)),
    kind=st.sampled_from(["application/json", "application/json;charset=", "", ";", "text/html", "application/json; charset=x"]),
    request_id=st.none() | st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=300),
)
def test_any_request(method, path, content, token, kind, request_id):
    headers = {"Content-Type": kind}
    headers |= {} if request_id is None else {"X-Request-ID": request_id.encode("latin-1")}
    answer = asyncio.run(later().send(method, path, content=content, token=token, headers=headers, request_id=None))
    if method != "HEAD":
        answered(answer)


def test_a_token_is_found_among_all_partners_and_only_as_its_own():
    known = {c.partner_id: c for c in (connection("a", "1", "2"), connection("b", "3"), connection("c"))}
    holders = Holders()
    assert [holders.find(known, digest(token)) for token in "1234"] == ["a", "a", "b", None]
    later = {**known, "b": connection("b", "4")}
    assert [holders.find(later, digest(token)) for token in "1234"] == ["a", "a", None, "b"]
    assert [holders.find({}, digest(token)) for token in "1234"] == [None] * 4


def test_a_bucket_gives_its_burst_and_then_its_rate():
    now = 0.0
    buckets = Buckets(lambda: now)
    assert [buckets.take("a", 10, 3) for _ in range(4)] == [None, None, None, 1]
    assert buckets.take("b", 10, 3) is None
    now = 0.11
    assert [buckets.take("a", 10, 3) for _ in range(2)] == [None, 1]
    assert buckets.take("slow", 0.1, 1) is None
    assert buckets.take("slow", 0.1, 1) == 10


def test_so_many_callers_are_remembered_and_no_more():
    buckets = Buckets(lambda: 0.0)
    for number in range(MOST_CALLERS + 10):
        buckets.take(str(number), 1, 1)
    assert buckets.take(str(MOST_CALLERS), 1, 1) == 1
    assert buckets.take("0", 1, 1) is None
