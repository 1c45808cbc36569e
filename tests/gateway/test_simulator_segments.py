"""The simulated Capacity Provider and messages in segments: taken as a good peer does, and what our client sends holds against it."""

import asyncio
import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator_switches import Misanswer, Switches
from schemas.oscp.v20 import Action
from schemas.outbound import Outcome
from schemas.units import rfc3339
from sinks.oscp.client import OscpClient
from sinks.oscp.segments import Segment, segments_of
from tests.builders import T0
from tests.gateway.test_simulator import MEASURE, Desk, energies
from tests.sinks.partner_server import Reply, Request, fake_partner
from tests.sinks.test_oscp_client import SECRETS, connection, message, partner

ACTION = "UpdateAssetMeasurements"


def many(assets: int = 14) -> dict[str, Any]:
    (entry,) = energies()["measurements"]
    return {"group_id": "VEC-0001", "measurements": [{**entry, "asset_id": f"asset-{number:02}"} for number in range(assets)]}


def body_of(whole: dict[str, Any]) -> str:
    return json.dumps(whole, separators=(",", ":"))


def cut(whole: dict[str, Any], message_id: str = "m-1", max_body: int = 1024) -> list[Segment]:
    text = body_of(whole)
    return segments_of(message(body=text, message_id=message_id), text.encode(), max_body)


def told(desk: Desk, segment: Segment, **changes: str) -> int:
    headers = {name.lower().replace("-", "_"): value for name, value in segment.headers.items()}
    return desk.post(MEASURE, segment.body, **{**headers, **changes})


def assets(desk: Desk) -> set[str]:
    return {name for name, _, _ in desk.ledger.energies}


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_segments_make_one_message_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    desk, segments = Desk(), cut(many())
    assert len(segments) == 4
    assert [told(desk, segments[index]) for index in order] == [204] * 4
    assert desk.ledger.report()["problems"] == []
    assert (desk.ledger.heard[ACTION], desk.ledger.segmented, len(assets(desk))) == (1, 1, 14)


def test_repeated_segments_count_once_also_behind_the_whole() -> None:
    desk, segments = Desk(), cut(many())
    for segment in [*segments[:2], *segments, *segments]:
        assert told(desk, segment) == 204
    assert desk.ledger.report()["problems"] == []
    assert (desk.ledger.heard[ACTION], desk.ledger.duplicates) == (1, 6)


def test_what_is_incomplete_is_in_the_report_while_it_is() -> None:
    desk, segments = Desk(), cut(many())
    told(desk, segments[0])
    told(desk, segments[2])
    assert desk.ledger.report()["problems"] == [f"{ACTION} m-1: segments 2 and 4 of 4 did not come"]
    told(desk, segments[1])
    told(desk, segments[3])
    assert desk.ledger.report()["problems"] == []


def test_two_messages_between_each_other_are_told_apart() -> None:
    desk, one, other = Desk(), cut(many()), cut(many(13), "m-2")
    for segment in [each for pair in zip(one, other, strict=True) for each in pair]:
        told(desk, segment)
    assert (desk.ledger.heard[ACTION], desk.ledger.report()["problems"]) == (2, [])


def test_another_cut_of_the_same_message_takes_the_place_of_the_one_before() -> None:
    desk = Desk()
    told(desk, cut(many())[0])
    told(desk, cut(many())[1])
    for segment in cut(many(), max_body=1300):
        assert told(desk, segment) == 204
    assert (desk.ledger.heard[ACTION], desk.ledger.report()["problems"]) == (1, [])


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x_segment_index": "5"}, "segment 5 of 4 cannot be"),
        ({"x_segment_index": "0"}, "segment 0 of 4 cannot be"),
        ({"x_segment_index": "two"}, "segment two of 4 cannot be"),
        ({"x_segment_count": ""}, "segment 2 of  cannot be"),
    ],
)
def test_a_segment_that_cannot_be_is_refused_and_written_down(headers: dict[str, str], words: str) -> None:
    desk = Desk()
    assert told(desk, cut(many())[1], **headers) == 400
    assert desk.ledger.problems == [f"{ACTION}: {words}"]


def test_an_index_alone_and_a_message_without_an_array_cannot_be_segments() -> None:
    desk, beat = Desk(), {"offline_mode_at": rfc3339(T0.replace(hour=23))}
    assert desk.post(MEASURE, energies(), x_segment_index="1") == 400
    assert desk.post("/heartbeat", beat, x_segment_index="1", x_segment_count="2") == 400
    assert desk.ledger.problems == [f"{ACTION}: segment 1 of None cannot be", "Heartbeat: segment 1 of 2 cannot be"]


def test_one_of_one_is_a_whole_message() -> None:
    desk = Desk()
    assert desk.post(MEASURE, energies(), x_segment_index="1", x_segment_count="1") == 204
    assert (desk.ledger.heard[ACTION], desk.ledger.segmented, desk.ledger.problems) == (1, 0, [])


def test_a_later_segment_has_to_name_the_first() -> None:
    desk, segments = Desk(), cut(many())
    told(desk, segments[0])
    told(desk, segments[1])
    told(desk, segments[2], x_correlation_id=segments[1].request_id)
    assert desk.ledger.problems == [
        f"{ACTION}: segment 3 of 4: X-Correlation-ID '{segments[1].request_id}' is not the request id of the first, m-1"
    ]


def test_an_id_that_two_segments_share_is_a_problem() -> None:
    desk, segments = Desk(), cut(many())
    told(desk, segments[1])
    told(desk, segments[2], x_request_id=segments[1].request_id)
    assert desk.ledger.problems == [f"{ACTION}: X-Request-ID {segments[1].request_id} came before with another segment"]


def test_an_invalid_segment_is_refused() -> None:
    desk, (first, *_) = Desk(), cut(many())
    empty = Segment(1, 4, "m-1", None, b'{"group_id":"VEC-0001","measurements":[]}')
    assert told(desk, empty) == 400
    assert "measurements" in desk.ledger.problems[0]
    assert told(desk, first) == 204


def test_the_answer_to_the_whole_is_that_to_its_last_segment() -> None:
    desk = Desk()
    answers = [told(desk, segment) for segment in cut({**many(), "group_id": "other"})]
    assert answers == [204, 204, 204, 404]
    assert desk.ledger.report()["problems"] == [f"{ACTION}: there is no group 'other'"]


def test_what_is_larger_than_it_takes_is_answered_413_and_written_down() -> None:
    desk = Desk(switches=Switches(max_body=1024))
    for segment in cut(many()):
        assert told(desk, segment) == 204
    assert desk.ledger.problems == []
    text = body_of(many())
    assert desk.post(MEASURE, text.encode(), x_request_id="m-2") == 413
    assert desk.ledger.problems == [f"{ACTION}: the body has {len(text)} bytes, more than 1024"]


def test_a_segment_it_refuses_without_reason_ends_the_message_by_its_own_fault() -> None:
    desk, segments = Desk(), cut(many())
    told(desk, segments[0])
    desk.reception.switches.answers = [Misanswer(status=400)]
    assert told(desk, segments[1]) == 400
    assert desk.ledger.report()["problems"] == []
    assert desk.ledger.refused == {segments[1].request_id: Action.UPDATE_ASSET_MEASUREMENTS}


def test_a_segment_it_misbehaves_at_is_owed_until_it_comes_again() -> None:
    desk, segments = Desk(), cut(many())
    desk.reception.switches.answers = [Misanswer(status=503)]
    assert told(desk, segments[0]) == 503
    assert desk.ledger.owed == {"m-1": Action.UPDATE_ASSET_MEASUREMENTS}
    for segment in segments:
        told(desk, segment)
    assert (desk.ledger.owed, desk.ledger.heard[ACTION]) == ({}, 1)


@given(st.lists(st.sampled_from([503, 429, 202, 401]), max_size=6), st.lists(st.booleans(), min_size=7, max_size=7), st.integers(0, 4))
def test_what_our_client_sends_arrives_once_whatever_it_is_answered(statuses: list[int], restarts: list[bool], quiet: int) -> None:
    """Each request may be answered badly, taken (202) or not, and each try may be one of a dispatch just started."""
    desk = Desk(switches=Switches(max_body=1024))
    left = [204] * quiet + statuses
    whole = many()

    def answer(request: Request) -> Reply | int:
        status = left.pop(0) if left else 204
        desk.reception.switches.answers = [] if status == 204 else [Misanswer(status=status)]
        headers = {**request.headers, "authorization": f"Token {desk.reception.credentials.newest}"}
        return desk.reception.answer(request.method, request.path, headers, request.text.encode()).status

    async def run(url: str) -> Outcome:
        outcome, client = Outcome.RETRY, None
        for restart in [*restarts, False]:
            if client is None or restart:
                if client is not None:
                    await client.aclose()
                client = OscpClient(lambda: partner(max_body=1024), lambda: {"vector": connection(url)}, SECRETS)
            outcome = (await client.attempt(message(body=body_of(whole)))).outcome
            if outcome is Outcome.DELIVERED:
                break
        if client is not None:
            await client.aclose()
        return outcome

    with fake_partner(answer) as cp:
        assert asyncio.run(run(cp.url)) is Outcome.DELIVERED
    report = desk.ledger.report()
    assert (report["problems"], report["owed"]) == ([], {})
    assert (desk.ledger.heard[ACTION], desk.ledger.segmented) == (1, 1)
    assert assets(desk) == {entry["asset_id"] for entry in whole["measurements"]}
