"""In virtual time: what a dead partner costs the others, and what seven days of its backlog cost in memory (semantics 8.2, 8.6)."""

import gc
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest

from schemas.outbound import OutboundMessage, Outcome
from sinks.oscp.bodies import WINDOW_BYTES
from tests.builders import T0
from tests.sinks.virtual_time import ANSWER_S, answers, dispatching, hangs, refuses

NINE = [f"p{number}" for number in range(9)]
QUARTERS, GROUPS, BODY = 672, 100, "x" * 10_000
WAITING_BYTES = 1024
TRACED = 10_000
MAX_RATE, UNDER_WAY = 20.0, 7


def message(number: int, partner: str, **changes: Any) -> OutboundMessage:
    plain: dict[str, Any] = {
        "event_id": f"m{number}", "at": T0, "message_id": f"{partner}-{number:08d}-0000-0000-000000000000", "partner_id": partner,
        "action": "UpdateAssetMeasurements", "method": "POST", "group_id": f"g{number % 5}", "body": "{}", "not_before": T0,
        "expires_at": T0 + timedelta(days=7), "cause_id": None, "correlation_id": None,
    }  # fmt: skip
    return OutboundMessage.model_construct(**{**plain, **changes})


def p99_of_nine(monkeypatch: pytest.MonkeyPatch, tenth: Any) -> tuple[float, int]:
    """The delay from a message being owed to nine partners, five a second each, to its being accepted."""
    taken: dict[str, float] = {}
    with dispatching(monkeypatch, [*NINE, "tenth"], lambda offset: message(offset, "unknown")) as (dispatcher, loop, sender, _):
        sender.scripts["tenth"] = tenth
        offset = 0
        for _ in range(80):
            for partner in [*NINE, "tenth"]:
                for _ in range(5):
                    made = message(offset, partner, at=T0 + timedelta(seconds=loop.time()))
                    taken[made.message_id] = loop.time()
                    dispatcher.take(made, 0, offset)
                    offset += 1
            loop.advance(1.0)
        loop.advance(5.0)
        delays = sorted(at - taken[message_id] for at, partner, message_id in sender.accepted if partner != "tenth")
    return delays[len(delays) * 99 // 100], len(delays)


def test_nine_partners_notice_nothing_of_a_tenth_that_is_dead_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    alive, count = p99_of_nine(monkeypatch, answers)
    assert count == 9 * 5 * 80
    for tenth in (refuses, hangs):
        dead, others = p99_of_nine(monkeypatch, tenth)
        assert others == count
        assert dead <= 1.2 * alive


def owed(number: int) -> OutboundMessage:
    """The backlog of a partner that has been dead for a week: each quarter of each group, ten kilobytes each."""
    quarter, group = divmod(number, GROUPS)
    at = T0 - timedelta(days=7) + timedelta(minutes=15) * (quarter + 1)
    return message(
        number, "dead", at=at, not_before=at, group_id=f"g{group}", body=f"{number:08d}{BODY}", expires_at=at + timedelta(days=14)
    )


def beat(number: int, partner: str, seconds: float) -> OutboundMessage:
    at = T0 + timedelta(seconds=seconds)
    return message(
        10_000_000 + number, partner, action="Heartbeat", group_id=None, at=at, not_before=at, expires_at=at + timedelta(seconds=30)
    )


def test_a_week_of_backlog_is_references_only_holds_back_nobody_and_drains_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    count = QUARTERS * GROUPS
    with dispatching(monkeypatch, ["dead", "live"], owed, max_rate=MAX_RATE) as (dispatcher, loop, sender, topics):
        numbers = iter(range(count, 2 * count))

        def told(made: OutboundMessage) -> str:
            dispatcher.take(made, 0, next(numbers))
            return made.message_id

        sender.scripts["dead"] = refuses
        for number in range(count - TRACED):
            dispatcher.take(owed(number), 0, number)
        loop.advance(0.001)
        gc.collect()
        tracemalloc.start()  # the window is full by now, of bodies that are not traced: all of it is counted again
        try:
            for number in range(count - TRACED, count):
                dispatcher.take(owed(number), 0, number)
            peak = tracemalloc.get_traced_memory()[1]
            loop.advance(0.001)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert (grown - WINDOW_BYTES) / TRACED <= WAITING_BYTES
        assert peak <= WINDOW_BYTES + 2 * WAITING_BYTES * TRACED

        asked: dict[str, float] = {}
        for number in range(20):  # ten minutes of it being dead
            for made in (beat(number, "dead", loop.time()), beat(number, "live", loop.time()), message(number, "live")):
                asked[told(made)] = loop.time()
            loop.advance(30.0)
        tried = {message_id: at for at, _, message_id in reversed(sender.attempts)}
        late = {message_id: tried[message_id] - at for message_id, at in asked.items() if tried[message_id] - at > 0.01}
        assert late == {}
        assert sum(partner == "live" for _, partner, _ in sender.accepted) == 40
        probes = [message_id for _, partner, message_id in sender.attempts if partner == "dead" and message_id not in asked]
        assert len(probes) <= 5 + 600 / 30  # the breaker holds all but heartbeats

        del sender.scripts["dead"]
        back, before = loop.time(), len(sender.accepted)
        loop.advance(60.0)
        since = loop.time()
        for made in (beat(99, "dead", since), beat(99, "live", since), message(99, "live")):
            asked[told(made)] = since
        loop.advance(30.0)
        drained = [
            (at, message_id) for at, partner, message_id in sender.accepted[before:] if partner == "dead" and message_id not in asked
        ]
        assert drained[0][0] - back <= 31.0
        assert MAX_RATE * 55 <= len(drained) <= MAX_RATE * 90
        assert all(later[0] - first[0] > 0.99 for first, later in zip(drained, drained[int(MAX_RATE) + 1 :], strict=False))
        places = [int(message_id.split("-")[1]) for _, message_id in drained]
        assert sorted(places) == list(range(len(places)))
        assert all(abs(place - number) < UNDER_WAY for number, place in enumerate(places[1:]))  # the first is the breaker's probe
        done = {message_id: at for at, _, message_id in sender.accepted}
        assert all(done[message_id] - since < 2 * ANSWER_S for message_id, at in asked.items() if at == since)
        assert {topics.last[message_id] for _, message_id in drained} == {Outcome.DELIVERED}
