"""Segments at the front door: each a message of its own, answered like any other, or refused with header and rule (semantics 6.8)."""

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.oscp.v20 import MOST_SEGMENTS
from tests.gateway.oscp_side import TOKEN, Side, block, connection, forecast_body, register_body

FORECAST = "/update_group_capacity_forecast"


def headers(index: object = None, count: object = None) -> dict[str, str]:
    found = {"X-Segment-Index": index, "X-Segment-Count": count}
    return {name: str(value) for name, value in found.items() if value is not None}


def post(side: Side, path: str = FORECAST, body: Any = None, **more: Any) -> httpx.Response:
    return asyncio.run(side.post(path, forecast_body() if body is None else body, **more))


def test_a_segment_is_kept_with_its_place_and_answered_like_any_other():
    side = Side()
    answer = post(side, headers={**headers(2, 3), "X-Correlation-ID": "r-0"})
    assert (answer.status_code, answer.content) == (204, b"")
    (message,) = side.broker.inbound
    assert (message.segment_index, message.segment_count, message.is_segment) == (2, 3, True)
    assert (message.request_id, message.correlation_id, message.group_id) == ("r-1", "r-0", "VEC-0001")


@pytest.mark.parametrize("path", [FORECAST, "/heartbeat"])
def test_one_of_one_is_a_whole_message(path: str):
    side = Side()
    body = {"offline_mode_at": "2026-10-20T11:00:00Z"} if path == "/heartbeat" else forecast_body()
    assert post(side, path, body, headers=headers(1, 1)).status_code == 204
    assert [message.is_segment for message in side.broker.inbound] == [False]


def test_segments_with_the_same_body_are_different_facts():
    side = Side()
    for index in (1, 2):
        assert post(side, headers=headers(index, 2)).status_code == 204
    assert len({message.event_id for message in side.broker.inbound}) == 2


def test_a_segment_is_checked_as_a_message_of_its_own():
    side = Side()
    answer = post(side, body=forecast_body(forecasted_blocks=[block(), block(capacity=-1)]), headers=headers(1, 2))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "forecasted_blocks[1].capacity"
    assert post(side, body=forecast_body(group_id="another's"), headers=headers(1, 2)).status_code == 404
    assert side.broker.inbound == []


@pytest.mark.parametrize(
    ("index", "count", "words"),
    [
        (1, None, "X-Segment-Index came without X-Segment-Count; a segment has both"),
        (None, 2, "X-Segment-Count came without X-Segment-Index; a segment has both"),
        (None, 1, "X-Segment-Count came without X-Segment-Index; a segment has both"),
        ("one", 2, "X-Segment-Index must be a whole number in digits"),
        (1, "2.0", "X-Segment-Count must be a whole number in digits"),
        (1, "", "X-Segment-Count must be a whole number in digits"),
        ("-1", 2, "X-Segment-Index must be a whole number in digits"),
        ("9" * 5000, 2, "X-Segment-Index must be a whole number in digits"),
        (0, 2, "X-Segment-Index must be from 1 to X-Segment-Count, which is 2"),
        (3, 2, "X-Segment-Index must be from 1 to X-Segment-Count, which is 2"),
        (0, 0, f"X-Segment-Count must be from 1 to {MOST_SEGMENTS}"),
        (1, MOST_SEGMENTS + 1, f"X-Segment-Count must be from 1 to {MOST_SEGMENTS}"),
    ],
)
def test_a_segment_that_cannot_be_put_in_its_place_is_refused(index: object, count: object, words: str):
    side = Side()
    answer = post(side, headers=headers(index, count))
    assert (answer.status_code, answer.json()["message"]) == (400, words)
    assert side.broker.inbound == []


def test_a_header_that_comes_twice_is_no_number():
    twice = httpx.Headers([("X-Segment-Index", "1"), ("X-Segment-Index", "2"), ("X-Segment-Count", "2")])
    side = Side()
    transport = httpx.ASGITransport(app=side.app, client=("192.0.2.7", 4711))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="https://derms.example") as client:
            found = httpx.Headers([*twice.multi_items(), ("Authorization", f"Token {TOKEN}"), ("X-Request-ID", "r")])
            return await client.post("/oscp/fp/2.0" + FORECAST, json=forecast_body(), headers=found)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["message"]) == (400, "X-Segment-Index must be a whole number in digits")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/register", register_body()),
        ("/handshake", {}),
        ("/handshake_acknowledge", {}),
        ("/heartbeat", {"offline_mode_at": "2026-10-20T11:00:00Z"}),
    ],
)
def test_what_has_no_array_comes_whole(path: str, body: Any):
    side = Side(connection("vector", TOKEN, handshake_id="h"))
    answer = post(side, path, body, headers=headers(1, 2))
    assert answer.status_code == 400
    assert "X-Segment-Count must be 1 for a " in answer.json()["message"]
    assert side.broker.inbound == []


SIDE = Side()


@settings(max_examples=100, deadline=None)
@given(
    index=st.none() | st.integers(-2, 200).map(str) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8),
    count=st.none() | st.integers(-2, 200).map(str) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8),
)
def test_whatever_the_headers_say_it_is_kept_in_its_place_or_refused(index: str | None, count: str | None):
    SIDE.wall_s += 60
    before = len(SIDE.broker.inbound)
    answer = post(SIDE, headers=headers(index, count))
    assert answer.status_code in (204, 400)
    for message in SIDE.broker.inbound[before:]:
        whole = (message.segment_index, message.segment_count) == (None, None)
        assert whole or 1 <= (message.segment_index or 0) <= (message.segment_count or 0) <= MOST_SEGMENTS


def test_the_description_names_the_headers():
    paths = SIDE.app.openapi()["paths"]
    named = {
        path.rpartition("/")[2]
        for path, methods in paths.items()
        for parameter in methods["post"]["parameters"]
        if parameter["name"] == "X-Segment-Index"
    }
    assert named == {"update_group_capacity_forecast"}
