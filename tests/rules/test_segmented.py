"""Segments become one message, once, whatever their order, their references and what dies in between (semantics 6.8)."""

import json
import pickle
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records import Out, Tick
from pipelines.rules import segmented
from pipelines.rules.envelopes import EnvelopeRule
from pipelines.rules.scope_items import GroupTerms, ScopeTerms, Spoken
from pipelines.rules.segmented import MOST_HELD, MOST_SEEN, MOST_SETS, PATIENCE, SETTLE, SegmentRule, Segments
from schemas.connection import Event, InboundMessage, Severity
from schemas.facts import derived_id, digest
from schemas.oscp.translate import capacity_forecast
from schemas.oscp.v20 import MOST_ENTRIES, Action, UpdateGroupCapacityForecast
from schemas.topics import EVENTS, INBOUND
from schemas.units import rfc3339
from tests.builders import T0, configuration
from tests.schemas.strategies import law

QUARTER = timedelta(minutes=15)
STYLES = ("first", "previous")


def block(number: int) -> dict[str, Any]:
    start = T0 + number * QUARTER
    times = {"start_time": rfc3339(start), "end_time": rfc3339(start + QUARTER)}
    return {"capacity": 10 + number, "phase": "ALL", "unit": "KW", **times}


def segment(
    index: int,
    count: int,
    *,
    name: str = "m",
    request_id: str | None = None,
    correlation: str | None = None,
    at: datetime = T0,
    blocks: Sequence[int] | None = None,
    **more: Any,
) -> InboundMessage:
    """Segment `index` of message `name`; by itself a valid forecast of the blocks with the numbers given."""
    body = {"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": [block(n) for n in blocks or [index]], **more}
    text = json.dumps(body, ensure_ascii=False)
    request_id = request_id or f"{name}{index}"
    return InboundMessage(
        event_id=derived_id("inbound", request_id, index, text, at),
        at=at,
        partner_id="vector",
        action=Action.UPDATE_GROUP_CAPACITY_FORECAST,
        method="POST",
        request_id=request_id,
        correlation_id=correlation,
        received_at=at,
        group_id=body["group_id"],
        body=text,
        body_digest=digest(text),
        credential_digest=f"digest of the token of {request_id}",
        segment_index=index,
        segment_count=count,
    )


def message(count: int, style: str | None, name: str = "m", answers: str | None = None, **more: Any) -> list[InboundMessage]:
    """The segments of a message in order; later ones refer to the first, to the previous, or (None) to nothing."""

    def correlation(index: int) -> str | None:
        return answers if index == 1 else {"first": f"{name}1", "previous": f"{name}{index - 1}", None: None}[style]

    return [segment(index, count, name=name, correlation=correlation(index), **more) for index in range(1, count + 1)]


class Joiner:
    """The rule with a clock; `outs` is everything said so far."""

    def __init__(self, at: datetime = T0, started_at: datetime = T0 - timedelta(hours=1)) -> None:
        self.now, self.rule = at, SegmentRule(started_at)
        self.state: Segments = self.rule.start("vector")
        self.outs: list[Out] = []

    def restart(self) -> None:
        self.state = pickle.loads(pickle.dumps(self.state))

    def feed(self, *items: InboundMessage | Tick) -> "Joiner":
        for item in items:
            if isinstance(item, InboundMessage):
                self.now = max(self.now, item.received_at)
            self.outs += self.rule.step(self.state, item, self.now)
        return self

    def until(self, instant: datetime) -> "Joiner":
        while (due := self.rule.due(self.state)) is not None and due <= instant:
            self.now = max(due, self.now)
            self.feed(Tick())
        self.now = max(instant, self.now)
        return self

    @property
    def whole(self) -> list[InboundMessage]:
        return [out.value for out in self.outs if isinstance(out.value, InboundMessage)]

    @property
    def events(self) -> list[Event]:
        return [out.value for out in self.outs if isinstance(out.value, Event)]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def numbers(found: InboundMessage) -> list[int]:
    return [entry["capacity"] - 10 for entry in json.loads(found.body)["forecasted_blocks"]]


@pytest.mark.parametrize("style", [*STYLES, None])
def test_segments_become_one_message(style: str | None):
    parts = message(3, style, answers="adjust-7")
    parts = [each.model_copy(update={"received_at": T0 + timedelta(seconds=n)}) for n, each in enumerate(parts)]
    joiner = Joiner().feed(*parts)
    (found,) = joiner.whole
    assert numbers(found) == [1, 2, 3]
    assert (found.request_id, found.correlation_id) == ("m1", "adjust-7")
    assert (found.received_at, found.cause_id, found.is_segment) == (parts[2].received_at, parts[2].event_id, False)
    assert (found.segment_index, found.segment_count) == (None, None)
    assert found.body_digest == digest(found.body)
    assert found.credential_digest == parts[2].credential_digest
    UpdateGroupCapacityForecast.model_validate_json(found.body)
    assert {(out.topic, out.key) for out in joiner.outs} == {(INBOUND, "vector"), (EVENTS, "vector")}
    (event,) = joiner.events
    assert (event.kind, event.severity) == ("segments.joined", Severity.INFO)
    told = json.loads(event.data)
    assert (told["message"], told["segments"]) == (found.event_id, [each.event_id for each in parts])
    assert joiner.rule.due(joiner.state) is None


@law
@given(data=st.data())
def test_any_order_any_repeats_both_styles_and_a_restart_anywhere(data: st.DataObject):
    """Two messages of one group and type at once, each in its own style, all of it mixed."""
    ones = message(data.draw(st.integers(2, 5)), data.draw(st.sampled_from(STYLES)), "a")
    others = message(data.draw(st.integers(2, 5)), data.draw(st.sampled_from(STYLES)), "b")
    parts = [*ones, *others]
    repeats = data.draw(st.lists(st.sampled_from(parts), max_size=6))
    order = data.draw(st.permutations([*parts, *repeats]))
    restarts = data.draw(st.sets(st.integers(0, len(order) - 1)))
    joiner = Joiner()
    for number, part in enumerate(order):
        if number in restarts:
            joiner.restart()
        joiner.feed(part)
    assert {found.request_id: numbers(found) for found in joiner.whole} == {
        "a1": list(range(1, len(ones) + 1)),
        "b1": list(range(1, len(others) + 1)),
    }
    assert len(joiner.whole) == 2
    assert joiner.kinds == ["segments.joined"] * 2
    assert joiner.state.open == []
    undisturbed = Joiner().feed(*parts)
    assert {found.event_id: found for found in joiner.whole} == {found.event_id: found for found in undisturbed.whole}


@law
@given(data=st.data())
def test_segments_without_references_in_any_order_where_one_message_is_open(data: st.DataObject):
    parts = message(data.draw(st.integers(2, 6)), None)
    order = data.draw(st.permutations(parts))
    joiner = Joiner().feed(*order, *order)
    (found,) = joiner.whole
    assert numbers(found) == list(range(1, len(parts) + 1))
    assert joiner.kinds == ["segments.joined"]


@law
@given(cut=st.integers(0, 3), order=st.permutations(range(3)))
def test_what_is_read_again_after_a_kill_is_the_same_message(cut: int, order: list[int]):
    """State is of `cut` segments; everything behind them is read again, as the engine does."""
    parts = [message(3, "first")[number] for number in order]
    joiner = Joiner().feed(*parts[:cut])
    kept = pickle.dumps(joiner.state)
    joiner.feed(*parts[cut:])
    joiner.state = pickle.loads(kept)
    joiner.feed(*parts[cut:])
    assert len({found.model_dump_json() for found in joiner.whole}) == 1


def test_a_message_said_twice_changes_nothing_behind_it():
    """The duplicate rule of semantics 3.1 on the joined message: one revision of the envelope."""
    parts = message(3, "previous")
    again = Joiner().feed(*parts).whole + Joiner().feed(*parts).whole
    assert len(again) == 2
    rule, terms = EnvelopeRule(), ScopeTerms(None, (GroupTerms("VEC-0001", "vector", 3_600_000),))
    state, said = rule.start("mg-1"), []
    for found in again:
        forecast = capacity_forecast(
            UpdateGroupCapacityForecast.model_validate_json(found.body),
            scope=configuration().scopes[0],
            cause=found.request_id,
            received_at=found.received_at,
            body_digest=found.body_digest,
        )
        said.append(list(rule.step(state, Spoken(forecast, found.event_id, terms), T0)))
    assert [bool(each) for each in said] == [True, False]


def test_what_stays_incomplete_is_dropped_with_words():
    one, _, three = message(3, "first")
    joiner = Joiner().feed(one, three).until(T0 + PATIENCE)
    assert joiner.outs == []
    joiner.until(T0 + PATIENCE + SETTLE)
    (event,) = joiner.events
    assert (event.kind, event.severity) == ("segments.dropped", Severity.WARNING)
    assert event.words == (
        "UpdateGroupCapacityForecast m1 for group VEC-0001 (CONSUMPTION), sent in 3 segments, was dropped and changes nothing: "
        "segment 2 did not come within 10 minutes of the first"
    )
    assert json.loads(event.data)["missing"] == [2]
    assert (joiner.state.open, joiner.rule.due(joiner.state)) == ([], None)


def test_what_was_dropped_can_be_sent_again():
    parts = message(3, "first")
    joiner = Joiner().feed(*parts[:2]).until(T0 + 2 * PATIENCE)
    later = [each.model_copy(update={"received_at": joiner.now, "event_id": f"again {n}"}) for n, each in enumerate(parts)]
    joiner.feed(*later)
    assert joiner.kinds == ["segments.dropped", "segments.joined"]


@pytest.mark.parametrize("seconds", [-1, 1])
def test_what_counts_is_when_segments_were_received_not_when_they_are_read(seconds: int):
    """A lifecycle that was away for an hour says what one that was there would have said."""
    one, two = message(2, "first")
    two = two.model_copy(update={"received_at": T0 + PATIENCE + timedelta(seconds=seconds)})
    away = Joiner(at=T0 + timedelta(hours=1)).feed(one, two)
    away.until(away.now + SETTLE)
    there = Joiner().feed(one).until(two.received_at).feed(two)
    assert away.whole == there.whole
    assert len(there.whole) == (1 if seconds < 0 else 0)


def test_after_a_start_nothing_is_dropped_before_what_came_meanwhile_is_read():
    one, two = message(2, "first")
    joiner = Joiner().feed(one)
    joiner.rule = SegmentRule(T0 + timedelta(hours=1))
    joiner.restart()
    assert joiner.rule.due(joiner.state) == T0 + timedelta(hours=1) + SETTLE
    joiner.until(T0 + timedelta(hours=1)).feed(two.model_copy(update={"received_at": T0 + timedelta(minutes=9)}))
    joiner.until(joiner.now + SETTLE)
    assert [numbers(found) for found in joiner.whole] == [[1, 2]]


def test_without_its_state_it_says_nothing_old_that_was_said_before():
    """The topic is read from its beginning: segments, and behind them what was made of them."""
    first = Joiner().feed(*message(2, "first", "a"), *message(2, "previous", "b"))
    lost = Joiner(at=T0 + timedelta(days=30), started_at=T0 + timedelta(days=30))
    lost.feed(*message(2, "first", "a"), first.whole[0], *message(2, "previous", "b"))
    lost.until(lost.now + timedelta(hours=1))
    assert lost.whole == first.whole[1:]


def test_what_is_old_goes_first():
    late = message(2, "first", "a")
    joiner = Joiner(at=T0 + timedelta(minutes=5)).feed(*late)
    now = joiner.now
    joiner.feed(*(each.model_copy(update={"received_at": now}) for each in message(2, "first", "b")))
    joiner.until(now + SETTLE)
    assert [found.request_id for found in joiner.whole] == ["a1", "b1"]


def test_other_keys_do_not_mix():
    generation = {"type": "GENERATION"}
    parts = [segment(1, 2, name="a"), segment(2, 2, name="b", correlation="a1", **generation), segment(2, 3, name="c", correlation="a1")]
    assert Joiner().feed(*parts, segment(2, 2, name="d", correlation="a1", group_id="VEC-0002")).outs == []


def test_a_segment_without_reference_waits_where_two_messages_lack_it():
    joiner = Joiner().feed(segment(1, 2, name="a"), segment(1, 2, name="b"), segment(2, 2, name="c"))
    assert joiner.outs == []
    assert len(joiner.state.open) == 3


def test_one_request_id_for_all_segments_is_odd_but_understood():
    joiner = Joiner().feed(*(segment(index, 3, request_id="same") for index in (1, 2, 3)))
    (found,) = joiner.whole
    assert (found.request_id, numbers(found)) == ("same", [1, 2, 3])
    assert joiner.kinds == ["request-id.reused", "request-id.reused", "segments.joined"]


def test_the_same_id_with_another_body_counts_and_is_told():
    joiner = Joiner().feed(segment(1, 2, blocks=[7]), segment(1, 2, blocks=[1]), segment(2, 2, correlation="m1"))
    assert [numbers(found) for found in joiner.whole] == [[1, 2]]
    assert joiner.kinds == ["request-id.reused", "segments.replaced", "segments.joined"]
    assert all(event.severity is Severity.WARNING for event in joiner.events[:2])


def test_a_segment_sent_again_under_another_id_is_the_same_segment():
    one, two, three = message(3, "previous")
    again = segment(2, 3, request_id="other", correlation="m1")
    joiner = Joiner().feed(one, two, again, segment(3, 3, correlation="other"), again, three)
    assert [numbers(found) for found in joiner.whole] == [[1, 2, 3]]
    assert joiner.kinds == ["segments.joined"]
    joiner.feed(segment(3, 3, request_id="and another", correlation="m2")).until(T0 + timedelta(hours=1))
    assert joiner.kinds == ["segments.joined"]


def test_the_same_message_under_new_ids_is_a_new_message():
    joiner = Joiner()
    for name in ("a", "b"):
        joiner.feed(*message(2, "first", name))
    assert [found.request_id for found in joiner.whole] == ["a1", "b1"]


def test_unfinished_messages_are_bounded_in_number():
    joiner = Joiner()
    for number in range(MOST_SETS + 3):
        joiner.feed(segment(1, 2, name=f"m{number}-", at=T0 + timedelta(seconds=number)))
    assert len(joiner.state.open) == MOST_SETS
    assert joiner.kinds == ["segments.dropped"] * 3
    assert "no more unfinished messages" in joiner.events[0].words
    assert json.loads(joiner.events[0].data)["missing"] == [2]


def test_unfinished_messages_are_bounded_in_bytes():
    joiner = Joiner()
    for number in range(9):
        joiner.feed(segment(1, 2, name=f"m{number}-", at=T0 + timedelta(seconds=number), filler="x" * (MOST_HELD // 8)))
    assert len(joiner.state.open) == 7
    assert joiner.kinds == ["segments.dropped"] * 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segmented, "MOST_SEEN", 10)
    joiner = Joiner()
    for number in range(20):
        joiner.feed(*message(2, "first", f"m{number}-"))
    assert len(joiner.state.seen) == 10 < MOST_SEEN
    assert len(joiner.whole) == 20
    assert len(joiner.state.closed) <= MOST_SETS
    assert not any(part.body for each in joiner.state.closed for part in each.parts.values())


def test_a_message_with_more_than_can_be_taken_is_told_and_no_crash():
    half = list(range(MOST_ENTRIES // 2))
    joiner = Joiner().feed(segment(1, 2, blocks=half), segment(2, 2, blocks=[*half, 7], correlation="m1"))
    assert joiner.whole == []
    (event,) = joiner.events
    assert (event.kind, event.severity) == ("segments.too-large", Severity.WARNING)
    fits = Joiner().feed(segment(1, 2, blocks=half), segment(2, 2, blocks=half, correlation="m1"))
    assert len(fits.whole) == 1


def test_a_message_larger_than_the_topic_takes_is_told_and_no_crash():
    filler = "é" * (INBOUND.max_bytes // 2)
    joiner = Joiner().feed(segment(1, 2, filler=filler), segment(2, 2, correlation="m1"))
    assert joiner.kinds == ["segments.too-large"]
    assert joiner.state.open == []


@pytest.mark.parametrize("body", ["{", "[]", '{"group_id":"g"}'])
def test_what_cannot_be_read_is_an_alarm(body: str):
    joiner = Joiner().feed(segment(1, 2).model_copy(update={"body": body}))
    (event,) = joiner.events
    assert (event.kind, event.severity) == ("message.unreadable", Severity.ALARM)


def test_a_repeat_after_a_week_is_a_new_message():
    parts = message(2, "first")
    joiner = Joiner().feed(*parts)
    later = [each.model_copy(update={"received_at": T0 + timedelta(days=8)}) for each in parts]
    joiner.feed(*later)
    assert len(joiner.whole) == 2
