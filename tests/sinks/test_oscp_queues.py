"""Which message of a partner goes next, and when (semantics 8.2 to 8.6)."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.outbound import FINAL_OUTCOMES, Outcome
from sinks.oscp.breaker import Breaker, BreakerState
from sinks.oscp.queues import PARK_AFTER
from sinks.oscp.waiting import Waiting
from tests.sinks.queue_parts import HOUR_MS, MEASUREMENTS, T, end, go, judged, message, now, queue


def test_the_breaker_opens_after_five_failures_and_lets_one_probe_through() -> None:
    breaker = Breaker(pause_s=30)
    assert [breaker.failed(float(n)) for n in range(5)] == [False, False, False, False, True]
    assert not breaker.allows(33.9)
    assert breaker.allows(34.0)
    breaker.started()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.allows(1000.0)
    assert not breaker.failed(40.0)
    assert not breaker.allows(69.0)
    assert breaker.allows(70.0)
    breaker.started()
    assert breaker.succeeded()
    assert breaker.allows(70.0)
    assert not breaker.succeeded()


def test_a_lane_keeps_its_order_and_others_do_not_wait_for_it() -> None:
    q = queue()
    for number, group in enumerate(["g1", "g1", "g2"]):
        q.add(message(number, group=group))
    first, other = go(q, now()), go(q, now())
    assert (first.message_id, other.message_id) == ("m0", "m2")
    assert q.next(now()) is None
    end(q, first, Outcome.RETRY, now())
    assert q.next(now(0.9)) is None
    assert go(q, now(1.0)).message_id == "m0"
    assert first.attempts == 2


def test_back_off_doubles_up_to_five_minutes() -> None:
    q = queue(breaker_s=0.0)
    q.add(message(0))
    waits, wall = [], 0.0
    for _ in range(11):
        waiting = go(q, now(wall))
        end(q, waiting, Outcome.RETRY, now(wall))
        waits.append(waiting.due - wall)
        wall = waiting.due
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_retry_after_holds_the_partner_but_not_its_heartbeats() -> None:
    q = queue()
    q.add(message(0))
    q.add(message(1, group="g2"))
    end(q, go(q, now()), Outcome.RETRY, now(), status=429, retry_after_s=60.0)
    assert q.next(now(59.9)) is None
    q.add(message(2, group=None, action="Heartbeat"))
    assert go(q, now(1.0)).action == "Heartbeat"
    assert go(q, now(60.0)).message_id == "m0"


def test_heartbeats_then_registrations_overtake_a_backlog() -> None:
    q = queue()
    q.add(message(0))
    q.add(message(1, group=None, action="Register", at_ms=T + 1))
    q.add(message(2, group=None, action="Heartbeat", at_ms=T + 2))
    assert [go(q, now()).action for _ in range(3)] == ["Heartbeat", "Register", MEASUREMENTS]


def test_the_breaker_holds_everything_but_heartbeats_until_a_probe_succeeds() -> None:
    q = queue()
    for number in range(7):
        q.add(message(number, group=f"g{number}"))
    under_way = [go(q, now()) for _ in range(5)]
    notices = [notice for waiting in under_way for notice in q.settle(waiting, judged(Outcome.RETRY), now()).notices]
    for waiting in under_way:
        q.free(waiting, Outcome.RETRY)
    assert [notice.kind for notice in notices] == ["dispatch.breaker-opened"]
    assert q.next(now(29.9)) is None
    q.add(message(9, group=None, action="Heartbeat"))
    beat = go(q, now(2.0))
    end(q, beat, Outcome.RETRY, now(2.0))
    assert go(q, now(3.0)) is beat
    end(q, beat, Outcome.DELIVERED, now(3.0))
    probe = go(q, now(30.0))
    assert q.next(now(30.0)) is None
    settled = q.settle(probe, judged(Outcome.DELIVERED, status=204), now(31.0))
    q.free(probe, settled.outcome)
    assert [notice.kind for notice in settled.notices] == ["dispatch.breaker-closed"]
    assert len([go(q, now(31.0)) for _ in range(6)]) == 6


def test_one_message_the_partner_chokes_on_does_not_keep_the_breaker_open_for_all() -> None:
    q = queue()
    q.add(message(0, group="g0"))
    for number in range(5):  # it fails alone until the breaker opens
        end(q, go(q, now(100.0 * number)), Outcome.RETRY, now(100.0 * number))
    assert q.breaker.state is BreakerState.OPEN
    q.add(message(1, group="g1", at_ms=T + 1))
    probe = go(q, now(1000.0))
    assert probe.message_id == "m1"
    end(q, probe, Outcome.DELIVERED, now(1000.0), status=204)
    assert q.breaker.state is BreakerState.CLOSED


def test_a_hold_is_probed_and_mends_by_itself() -> None:
    q = queue()
    for number in range(3):
        q.add(message(number, group=f"g{number}"))
    first, second = go(q, now()), go(q, now())
    held = q.settle(first, judged(Outcome.HELD, status=401), now())
    q.free(first, held.outcome)
    assert [(notice.kind, notice.alarm) for notice in held.notices] == [("dispatch.held", True)]
    assert q.settle(second, judged(Outcome.HELD, status=401), now()).notices == ()
    q.free(second, Outcome.HELD)
    assert q.next(now(299.0)) is None
    probe = go(q, now(300.0))
    assert q.next(now(300.0)) is None
    assert end(q, probe, Outcome.HELD, now(300.0), status=401) is Outcome.HELD
    assert q.next(now(599.0)) is None
    mended = q.settle(go(q, now(600.0)), judged(Outcome.DELIVERED, status=204), now(600.0))
    assert [notice.kind for notice in mended.notices] == ["dispatch.resumed"]
    assert q.hold is None


def test_a_change_of_the_connection_ends_a_hold_at_once() -> None:
    q = queue()
    q.add(message(0))
    end(q, go(q, now()), Outcome.HELD, now(), status=None)
    assert q.next(now(1.0)) is None
    q.release()
    mended = q.settle(go(q, now(1.0)), judged(Outcome.DELIVERED, status=204), now(1.0))
    assert [notice.kind for notice in mended.notices] == ["dispatch.resumed"]


def test_a_new_registration_is_not_held_since_it_is_what_mends() -> None:
    q = queue()
    q.add(message(0))
    end(q, go(q, now()), Outcome.HELD, now(), status=403)
    q.add(message(1, group=None, action="Register"))
    new = go(q, now(1.0))
    assert new.message_id == "m1"
    end(q, new, Outcome.HELD, now(1.0), status=403)
    assert q.next(now(2.0)) is None


def test_states_that_stop_what_we_send_let_only_some_actions_go() -> None:
    q = queue()
    q.add(message(0))
    q.add(message(1, group=None, action="Heartbeat"))
    q.only = frozenset({"Register"})
    assert q.next(now()) is None
    q.add(message(2, group=None, action="Register"))
    assert go(q, now()).action == "Register"


def test_a_message_that_alone_fails_is_parked_and_the_next_goes() -> None:
    q = queue(breaker_s=0.0)
    q.add(message(0))
    q.add(message(1))
    wall = 0.0
    outcomes, others = [], []
    for number in range(PARK_AFTER):
        waiting = go(q, now(wall))
        assert waiting.message_id == "m0"
        outcomes.append(end(q, waiting, Outcome.RETRY, now(wall)))
        q.add(message(100 + number, group="g2"))
        others.append(go(q, now(wall)))
        end(q, others[-1], Outcome.DELIVERED, now(wall))
        wall += 301
    assert outcomes == [Outcome.RETRY] * (PARK_AFTER - 1) + [Outcome.PARKED]
    assert list(q.parked) == ["m0"]
    assert others[-1].message_id == "m1"


def test_without_others_delivered_nothing_is_parked() -> None:
    q = queue(breaker_s=0.0)
    q.add(message(0))
    outcomes = {end(q, go(q, now(n * 301.0)), Outcome.RETRY, now(n * 301.0)) for n in range(PARK_AFTER * 2)}
    assert outcomes == {Outcome.RETRY}


def test_a_parked_message_goes_again_in_its_place_when_asked() -> None:
    q = queue()
    q.add(message(0), parked=True)
    q.add(message(1))
    assert not q.retry("unknown")
    assert q.retry("m0")
    assert go(q, now()).message_id == "m0"


def test_an_operator_can_drop_what_waits_and_what_is_under_way() -> None:
    q = queue()
    q.add(message(0), parked=True)
    q.add(message(1))
    q.add(message(2))
    under_way = go(q, now())
    assert q.drop("m0", "ana")[1] is not None
    assert q.drop("m2", "ana")[1] is not None
    assert q.drop("m1", "ana") == (True, None)
    assert q.drop("m7", "ana") == (False, None)
    assert end(q, under_way, Outcome.RETRY, now()) is Outcome.DROPPED
    assert len(q) == 0


def test_expired_messages_leave_the_queue() -> None:
    q = queue()
    for number in range(3):
        q.add(message(number, expires_ms=T + number * HOUR_MS))
    q.add(message(3, expires_ms=T), parked=True)
    assert [waiting.message_id for waiting in q.expire(now(clock_ms=T + HOUR_MS))] == ["m3", "m0", "m1"]
    assert go(q, now()).message_id == "m2"
    assert q.expire(now(clock_ms=T + 99 * HOUR_MS)) == []


def test_not_before_and_the_next_look() -> None:
    q = queue()
    q.add(message(0, not_before_ms=T + 1000))
    assert q.next(now()) is None
    assert q.look_again(now()) == (None, T + 1000)
    assert go(q, now(clock_ms=T + 1000)).message_id == "m0"
    assert q.look_again(now()) == (None, None)


def test_a_backlog_drains_oldest_first_at_a_limited_rate_and_new_messages_pass() -> None:
    q = queue(max_rate=10.0)
    for number in range(3):
        q.add(message(number, group=f"g{number}", at_ms=T - HOUR_MS - number))
    q.add(message(9, group="new", at_ms=T - 1000))
    assert [go(q, now()).message_id, go(q, now()).message_id] == ["m2", "m9"]
    assert q.next(now(0.05)) is None
    assert go(q, now(0.1)).message_id == "m1"
    assert q.look_again(now(0.1))[0] == pytest.approx(0.2)


def test_so_many_are_under_way_at_once() -> None:
    q = queue(under_way=2)
    for number in range(3):
        q.add(message(number, group=f"g{number}"))
    first = go(q, now())
    go(q, now())
    assert q.next(now()) is None
    end(q, first, Outcome.DELIVERED, now())
    assert go(q, now()).message_id == "m2"


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "go", "end", "wait", "release"]), st.integers(0, 3), st.sampled_from(list(Outcome)[:4])), max_size=120
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_lanes_keep_their_order_and_nothing_is_lost(steps: list[tuple[str, int, Outcome]]) -> None:
    q = queue(under_way=3)
    owed: dict[str, Waiting] = {}
    sent: dict[str, list[int]] = defaultdict(list)
    under_way: list[Waiting] = []
    wall = 0.0
    for what, number, outcome in steps:
        match what:
            case "add":
                added = message(len(owed), group=f"g{number}")
                owed[added.message_id] = added
                q.add(added)
            case "go":
                if (waiting := q.next(now(wall))) is not None:
                    assert all(waiting.group_id != other.group_id for other in under_way)
                    under_way.append(waiting)
            case "end" if under_way:
                waiting = under_way.pop(number % len(under_way))
                if end(q, waiting, outcome, now(wall)) in FINAL_OUTCOMES:
                    sent[str(waiting.group_id)].append(waiting.offset)
            case "wait":
                wall += 10.0 ** (number - 1)
            case "release":
                q.release()
    for waiting in under_way:
        end(q, waiting, Outcome.RETRY, now(wall))
    while len(q) > len(q.parked):
        q.release()
        wall += 301
        waiting = go(q, now(wall))
        end(q, waiting, Outcome.DELIVERED, now(wall))
        sent[str(waiting.group_id)].append(waiting.offset)
    assert all(offsets == sorted(offsets) for offsets in sent.values())
    assert sum(map(len, sent.values())) + len(q.parked) == len(owed)
    assert q.busy == 0
