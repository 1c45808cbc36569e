"""The queue of a partner with very many groups costs no more for each message than that of one with a few."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from schemas.outbound import Outcome
from sinks.oscp.coming import ROOM, Coming
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.waiting import Now, Waiting
from tests.sinks.queue_parts import HOUR_MS, T, end, go, message, now, queue


def many(lanes: int, each: int = 1, **changes: Any) -> PartnerQueue:
    q = queue()
    for number in range(lanes * each):
        q.add(message(number, group=f"g{number % lanes}", **changes))
    return q


def turn(q: PartnerQueue, at: Now) -> list[Waiting]:
    """One turn of the loop that sends."""
    q.expire(at)
    chosen = list(iter(lambda: q.next(at), None))
    q.look_again(at)
    return chosen


def us_each(times: int, act: Callable[[int], object]) -> float:
    """Microseconds of this process for one of so many acts."""
    began = time.process_time()
    for number in range(times):
        act(number)
    return (time.process_time() - began) / times * 1e6


def test_ten_thousand_lanes_cost_no_more_for_each_message_than_ten() -> None:
    q = many(10_000)
    under_way = turn(q, now())

    def one(number: int) -> None:
        end(q, under_way.pop(), Outcome.DELIVERED, now(number / 1000), status=204)
        under_way.extend(turn(q, now(number / 1000)))

    assert us_each(9_000, one) < 300  # about 20 on an idle machine; it was 24,000 when all lanes were looked at
    assert len(q) == 1_000


def test_a_backlog_of_ten_thousand_lanes_waits_for_its_rate_at_no_cost() -> None:
    q = many(10_000, at_ms=T - HOUR_MS)
    assert len(turn(q, now(1.0))) == 1
    assert us_each(1_000, lambda _: turn(q, now(1.01))) < 300
    q.add(message(10_000, group="new"))
    assert [each.message_id for each in turn(q, now(1.02))] == ["m10000"]
    assert [each.message_id for each in turn(q, now(1.05))] == ["m1"]


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.HELD])
def test_ten_thousand_lanes_of_a_partner_that_takes_nothing_cost_nothing_until_it_is_probed(outcome: Outcome) -> None:
    q = many(10_000)
    for waiting in turn(q, now()):
        end(q, waiting, outcome, now(), status=401 if outcome is Outcome.HELD else 503)
    assert us_each(1_000, lambda _: turn(q, now(1.0))) < 300
    assert len(turn(q, now(400.0))) == 1


def test_a_partner_that_died_and_is_held_is_not_looked_through_until_it_is_probed() -> None:
    q = many(10_000)
    for waiting in [go(q, now()) for _ in range(5)]:
        end(q, waiting, Outcome.RETRY, now())
    end(q, go(q, now(30.0)), Outcome.HELD, now(30.0), status=None)
    assert q.breaker.allows(31.0)
    assert us_each(1_000, lambda _: turn(q, now(31.0))) < 300
    assert len(turn(q, now(330.0))) == 1


def test_a_parked_message_costs_nothing_until_it_expires() -> None:
    q = queue()
    for number in range(10_000):
        q.add(message(number, expires_ms=T + number), parked=True)
    assert us_each(1_000, lambda _: turn(q, now())) < 300
    assert q.look_again(now())[1] == T + 1
    assert len(q.expire(now(clock_ms=T + 9_000))) == 9_000


def test_one_among_a_weeks_messages_is_found_at_once() -> None:
    q = many(100, 2_000)
    assert us_each(100, lambda number: q.retry(f"m{1_000 * number}")) < 1_000
    assert us_each(100, lambda number: q.drop(f"m{1_000 * number + 500}", "ana")) < 1_000
    assert (len(q), q.find("m500"), q.find("nobody")) == (200_000 - 100, None, None)


def test_what_is_over_leaves_nothing_behind() -> None:
    q = queue()
    for number in range(3_000):
        q.add(message(number, group=f"g{number % 7}"))
        end(q, go(q, now()), Outcome.DELIVERED, now(), status=204)
    turns = q.lanes._turns
    assert len(q) == 0
    assert list(q.lanes.oldest()) == []
    assert max(len(heap) for heap in vars(turns).values() if isinstance(heap, Coming)) <= ROOM


def test_one_thing_retried_again_and_again_takes_no_more_room() -> None:
    q = many(10)
    turn(q, now())
    for number in range(5_000):
        assert q.retry(f"m{7 + number % 3}")
    assert max(len(heap) for heap in vars(q.lanes._turns).values() if isinstance(heap, Coming)) <= 2 * 10 + ROOM


def test_messages_that_came_in_another_order_than_the_topics_can_be_dropped() -> None:
    q = queue()
    for number in (3, 1, 2):
        q.add(message(number))
    assert q.drop("m1", "ana")[1] is not None
    assert q.drop("m3", "ana")[1] is not None
    assert go(q, now()).message_id == "m2"
