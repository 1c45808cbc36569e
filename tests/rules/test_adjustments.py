"""Wishes for another capacity: requested, delivered, answered or come to nothing (semantics 7.4)."""

import itertools
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest

from pipelines.records import Tick
from pipelines.rules.adjustments import AdjustmentRule, Asked, Item
from pipelines.rules.patience import Patience
from pipelines.rules.reporting_compliance import by_hand
from schemas.adjustment import Adjustment, AdjustmentState
from schemas.connection import Command, CommandKind, Event, InboundMessage
from schemas.facts import digest
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.units import rfc3339
from tests.builders import T0

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
S = AdjustmentState


def block(start: float, end: float, capacity: float = 50.0) -> dict[str, Any]:
    times = {"start_time": rfc3339(T0 + start * HOUR), "end_time": rfc3339(T0 + end * HOUR)}
    return {"capacity": capacity, "phase": "ALL", "unit": "KW", **times}


def asked(name: str = "c-1", start: float = 2, end: float = 4, type_: str = "CONSUMPTION", at: timedelta = timedelta()) -> Asked:
    payload = json.dumps({"type": type_, "forecasted_blocks": [block(start, end)]})
    command = Command(event_id=name, at=T0 + at, partner_id="vector", kind=CommandKind.ADJUST, by="ana", group_id="VEC-1", payload=payload)
    return Asked(command, "mg-1")


def message_id(wish: Asked) -> str:
    (message,) = by_hand(wish.command, wish.command.at)
    assert isinstance(message, OutboundMessage)
    return message.message_id


def delivery(wish: Asked, outcome: Outcome = Outcome.DELIVERED, at: timedelta = MINUTE, words: str = "") -> Delivery:
    return Delivery(
        event_id=f"d {wish.command.event_id} {outcome}", at=T0 + at, message_id=message_id(wish), partner_id="vector",
        action="AdjustGroupCapacityForecast", group_id="VEC-1", attempt=1, outcome=outcome, words=words, duration_ms=2000,
    )  # fmt: skip


def forecast(
    name: str, at: timedelta, start: float = 0, end: float = 24, correlation: str | None = None, type_: str = "CONSUMPTION"
) -> InboundMessage:
    body = json.dumps({"group_id": "VEC-1", "type": type_, "forecasted_blocks": [block(start, end)]})
    return InboundMessage(
        event_id=f"in {name}", at=T0 + at, partner_id="vector", action="UpdateGroupCapacityForecast", method="POST", request_id=name,
        correlation_id=correlation, received_at=T0 + at, group_id="VEC-1", body=body, body_digest=digest(body), credential_digest="x",
    )  # fmt: skip


def told(*items: Item | Tick, now: timedelta = 2 * MINUTE, rule: AdjustmentRule | None = None) -> list[Adjustment]:
    """The revisions told, with the state pickled between items."""
    rule = rule or AdjustmentRule()
    state, found = rule.start("VEC-1"), list[Adjustment]()
    for item in items:
        state = pickle.loads(pickle.dumps(state))
        found += [out.value for out in rule.step(state, item, T0 + now) if isinstance(out.value, Adjustment)]
    return found


def states(*items: Item | Tick, now: timedelta = 2 * MINUTE) -> list[AdjustmentState]:
    return [one.state for one in told(*items, now=now)]


def test_it_is_followed_until_a_forecast_that_names_it():
    wish = asked()
    first, second, third = told(wish, delivery(wish), forecast("f-2", 3 * MINUTE, correlation=message_id(wish)))
    assert [first.state, second.state, third.state] == [S.REQUESTED, S.DELIVERED, S.ANSWERED]
    assert (first.by, first.requested_at, first.start, first.until) == ("ana", T0, T0 + 2 * HOUR, T0 + 4 * HOUR)
    assert (second.delivered_at, third.answer, third.revision) == (T0 + MINUTE, "f-2", 3)
    assert first.message_id == message_id(wish)


@pytest.mark.parametrize(
    ("heard", "answers"),
    [
        (forecast("f", 3 * MINUTE), True),
        (forecast("f", 3 * MINUTE, type_="GENERATION"), False),
        (forecast("f", 3 * MINUTE, start=4, end=24), False),
        (forecast("f", timedelta(seconds=30)), False),
        (forecast("f", 3 * MINUTE, correlation="something else"), True),
        (forecast("f", MINUTE - timedelta(seconds=1)), True),
    ],
    ids=[
        "the first after it",
        "another type",
        "another time",
        "received before it was sent",
        "names what is no wish of ours",
        "overtakes the end of its exchange",
    ],
)
def test_a_forecast_that_names_nothing_answers_what_it_can_have_known(heard: InboundMessage, *, answers: bool):
    wish = asked()
    assert (states(wish, delivery(wish), heard)[-1] is S.ANSWERED) == answers


def test_the_answer_may_be_read_before_the_delivery():
    wish = asked()
    for named in (None, message_id(wish)):
        heard = forecast("f-2", 3 * MINUTE, correlation=named)
        assert told(wish, heard, delivery(wish))[-1].answer == "f-2"


def test_any_order_of_topics_ends_the_same():
    """Command, delivery and forecasts come by three topics: the command first, the others in any order."""
    wish = asked()
    rest: list[Item] = [delivery(wish), forecast("early", timedelta(seconds=20)), forecast("f-2", 3 * MINUTE), forecast("f-3", 4 * MINUTE)]
    for order in itertools.permutations(rest):
        if order.index(rest[2]) < order.index(rest[3]):
            last = told(wish, *order)[-1]
            assert (last.state, last.answer) == (S.ANSWERED, "f-2")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(Outcome.REFUSED, S.REFUSED), (Outcome.EXPIRED, S.EXPIRED), (Outcome.DROPPED, S.EXPIRED), (Outcome.RETRY, None), (Outcome.HELD, None)],
)
def test_what_becomes_of_the_message_becomes_of_the_wish(outcome: Outcome, state: AdjustmentState | None):
    wish = asked()
    found = told(wish, delivery(wish, outcome, words="no such group"))
    assert [one.state for one in found[1:]] == ([] if state is None else [state])
    assert state is None or found[-1].words == "no such group"


def test_unanswered_it_expires_with_the_time_it_was_about():
    wish, rule = asked(), AdjustmentRule()
    state = rule.start("VEC-1")
    list(rule.step(state, wish, T0))
    assert rule.due(state) == T0 + 4 * HOUR
    assert not list(rule.step(state, Tick(), T0 + 3 * HOUR))
    outs = [out.value for out in rule.step(state, Tick(), T0 + 4 * HOUR)]
    assert [type(one) for one in outs] == [Adjustment, Event]
    assert rule.due(state) is None
    late = [out.value for out in rule.step(state, forecast("f-9", 5 * HOUR, correlation=message_id(wish)), T0 + 5 * HOUR)]
    assert isinstance(late[0], Adjustment)
    assert (late[0].state, late[0].revision) == (S.ANSWERED, 3)


def test_after_a_restart_it_is_not_given_up_before_its_answer_is_read():
    now = T0 + 30 * HOUR
    rule = AdjustmentRule(Patience(now, 5 * timedelta(seconds=1)))
    state, wish = rule.start("VEC-1"), asked()
    list(rule.step(state, wish, now))
    assert rule.due(state) == now + timedelta(seconds=5)
    assert not list(rule.step(state, Tick(), now))
    (answered, _) = rule.step(state, forecast("f-2", HOUR, correlation=message_id(wish)), now)
    assert isinstance(answered.value, Adjustment)
    assert answered.value.state is S.ANSWERED


def test_said_again_it_says_nothing_and_ids_follow_from_what_is_said():
    wish = asked()
    items = [wish, delivery(wish), forecast("f-2", 3 * MINUTE)]
    once, twice = told(*items), told(*[item for item in items for _ in range(2)])
    assert once == twice
    assert [one.event_id for one in told(*items, now=9 * HOUR)] == [one.event_id for one in once]


def test_an_attempt_whose_answer_was_lost_counts_as_sent():
    wish = asked()
    lost, taken = delivery(wish, Outcome.RETRY, at=timedelta(seconds=30)), delivery(wish, at=5 * MINUTE)
    assert states(wish, lost, forecast("f", MINUTE), taken, now=6 * MINUTE)[-1] is S.ANSWERED


def test_a_forecast_that_names_another_wish_is_not_the_answer_to_this_one():
    one, other = asked("c-1"), asked("c-2")
    found = told(one, other, delivery(one), delivery(other), forecast("f", 3 * MINUTE, correlation=message_id(other).upper()))
    assert [(each.adjustment_id, each.state) for each in found[4:]] == [("c-2", S.ANSWERED)]


def test_several_wishes_are_followed_apart():
    one, other = asked("c-1"), asked("c-2", 6, 8)
    found = told(one, other, delivery(one), delivery(other), forecast("f-2", 3 * MINUTE, 6, 8))
    assert [(each.adjustment_id, each.state) for each in found[4:]] == [("c-2", S.ANSWERED)]


def test_what_cannot_be_sent_is_no_wish():
    wrong = asked()._replace(command=asked().command.model_copy(update={"payload": "{}"}))
    assert told(wrong) == []


def test_memory_is_bounded():
    rule = AdjustmentRule()
    state, wish = rule.start("VEC-1"), asked()
    for number in range(40):
        list(rule.step(state, forecast(f"before {number}", timedelta(seconds=number)), T0))
    assert state.heard == []
    list(rule.step(state, wish, T0))
    for number in range(40):
        list(rule.step(state, forecast(f"f-{number}", timedelta(seconds=number), type_="GENERATION"), T0))
    assert len(state.heard) == 16
    list(rule.step(state, Tick(), T0 + 5 * HOUR))
    list(rule.step(state, Tick(), T0 + timedelta(days=8)))
    assert (state.heard, state.wishes) == ([], {})
