"""Messages in the history: found by every condition, in parts, with where each stands; counted by partner and action."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from gateway.history import serving_history
from gateway.messages_model import MessageWish, Stand, place_of, stand_of
from gateway.past import AskedHistory
from gateway.past_messages import MessageCount
from schemas.facts import Value
from schemas.outbound import OutboundMessage, Outcome
from sinks.clickhouse.client import client_of
from sinks.clickhouse.rows import Place, columns_of, rows_of
from tests.embedded_history import emptied_store, history_store, settings_of
from tests.gateway.facts import NOW, delivery, message

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MEASURED, WRONG = "UpdateAssetMeasurements", "GroupCapacityComplianceError"


@pytest.fixture(scope="module")
def past() -> Iterator[AskedHistory]:
    with serving_history(settings_of(history_store())) as url:
        yield AskedHistory(partial(client_of, url, timeout_s=5), within_s=20)


def stored(*values: Value) -> None:
    store = emptied_store()
    for offset, value in enumerate(values):
        for table, plain in rows_of(value, Place(1, offset)):
            store.insert_columns(table, columns_of([plain]))


def story() -> dict[str, OutboundMessage]:
    """A day of which each message stands otherwise, the newest last."""
    waiting = [message(MEASURED, NOW - ago * MINUTE) for ago in (3, 2)]
    named = {
        "forgotten": message(MEASURED, NOW - 8 * DAY),
        "delivered": message(MEASURED, NOW - 9 * MINUTE),
        "slow": message(MEASURED, NOW - 8 * MINUTE),
        "refused": message(WRONG, NOW - 7 * MINUTE, "forecast-1"),
        "parked": message(MEASURED, NOW - 6 * MINUTE),
        "retried": message(MEASURED, NOW - 5 * MINUTE),
        "beat": message("Heartbeat", NOW - 4 * MINUTE),
        "first": waiting[0],
        "second": waiting[1].model_copy(update={"partner_id": "dead", "group_id": "D-1"}),
    }
    stored(
        *named.values(),
        named["second"],  # again, as a replay does
        delivery(named["delivered"]),
        delivery(named["slow"], Outcome.RETRY, 500),
        delivery(named["slow"], attempt=2).model_copy(update={"at": named["slow"].at + 5 * MINUTE}),
        delivery(named["refused"], Outcome.REFUSED, 400, words="no such forecast"),
        delivery(named["parked"], Outcome.RETRY, 500),
        delivery(named["parked"], Outcome.PARKED, 500, attempt=10),
        delivery(named["retried"], Outcome.RETRY, 500),
        delivery(named["beat"]),
    )
    return named


@pytest.fixture(scope="module")
def named(past: AskedHistory) -> dict[str, OutboundMessage]:
    return story()


def test_all_conditions(past: AskedHistory, named: dict[str, OutboundMessage]) -> None:
    names = {each.message_id: name for name, each in named.items()}

    def found(**wish: Any) -> list[str]:
        return [names[line.message_id] for line in asyncio.run(past.messages(MessageWish(NOW, **wish), 50))]

    newest_first = ["second", "first", "beat", "retried", "parked", "refused", "slow", "delivered", "forgotten"]
    assert found() == newest_first
    assert found(heartbeats=False) == [name for name in newest_first if name != "beat"]
    assert found(stand=Stand.WAITING) == ["second", "first", "retried", "parked"]
    assert found(stand=Stand.DELIVERED) == ["beat", "slow", "delivered"]
    assert found(stand=Stand.EXPIRED) == ["forgotten"]
    assert [found(stand=each) for each in (Stand.PARKED, Stand.REFUSED, Stand.RETRY)] == [["parked"], ["refused"], ["retried"]]
    assert found(stand=Stand.DROPPED) == []
    assert found(partner_id="dead", stand=Stand.WAITING) == found(group_id="D-1") == ["second"]
    assert found(action=WRONG) == found(text="forecast-1") == found(text=named["refused"].message_id[:20]) == ["refused"]
    assert found(since=NOW - 4 * MINUTE, until=NOW - 2 * MINUTE) == ["first", "beat"]
    assert found(text="' OR 1=1 --") == []
    assert found(before=(int(named["parked"].at.timestamp() * 1000), named["parked"].message_id)) == newest_first[5:]


def test_each_stands_as_its_last_attempt_says(past: AskedHistory, named: dict[str, OutboundMessage]) -> None:
    lines = {line.message_id: line for line in asyncio.run(past.messages(MessageWish(NOW), 50))}
    slow = lines[named["slow"].message_id]
    assert slow.delivery is not None
    assert (stand_of(slow, NOW), slow.delivery.attempt, slow.message) == (Stand.DELIVERED, 2, named["slow"].model_copy(update={"body": ""}))
    assert stand_of(lines[named["first"].message_id], NOW) is Stand.WAITING
    assert stand_of(lines[named["forgotten"].message_id], NOW) is Stand.EXPIRED


def test_they_come_in_parts(past: AskedHistory, named: dict[str, OutboundMessage]) -> None:
    wish, seen = MessageWish(NOW), []
    while part := asyncio.run(past.messages(wish, 2)):
        seen += [line.message_id for line in part]
        wish = MessageWish(NOW, before=place_of(part[-1]))
    assert seen == [each.message_id for each in sorted(named.values(), key=lambda each: each.at, reverse=True)]


def test_one_with_its_body_and_all_attempts(past: AskedHistory, named: dict[str, OutboundMessage]) -> None:
    for partner_id in ("", "vector"):
        found = asyncio.run(past.message(named["parked"].message_id, partner_id))
        assert found is not None
        line, attempts = found
        assert line.message == named["parked"]
        assert [each.outcome for each in attempts] == [Outcome.RETRY, Outcome.PARKED]
        assert line.delivery == attempts[-1]
    assert asyncio.run(past.message("none")) is None
    untried = asyncio.run(past.message(named["second"].message_id))
    assert untried is not None
    assert (untried[0].delivery, untried[1]) == (None, [])


def test_counts(past: AskedHistory, named: dict[str, OutboundMessage]) -> None:
    counts = asyncio.run(past.message_counts(NOW - DAY, NOW))
    assert counts == [
        MessageCount("dead", MEASURED, owed=1, waiting=1),
        MessageCount("vector", WRONG, owed=1, refused=1),
        MessageCount("vector", "Heartbeat", owed=1, delivered=1, p50_ms=2000, p99_ms=2000),
        MessageCount("vector", MEASURED, owed=5, waiting=2, parked=1, delivered=2, p50_ms=300_000, p99_ms=300_000),
    ]
    assert len(named) == 9
