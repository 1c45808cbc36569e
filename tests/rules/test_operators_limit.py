"""Operators' own limits: they go the way forecasts go, combine by the lower limit, and can be lifted (semantics 3.3)."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.records import Out, Record
from pipelines.rules.scope_items import OPERATOR, Spoken
from pipelines.scope_news import ScopeNews
from pipelines.views import FixedView
from schemas.capacity import CapacityBlock, LimitType, PieceKind
from schemas.clock import FrozenClock
from schemas.connection import Command, CommandKind, Event, Severity, SubjectKind
from schemas.topics import COMMANDS, EVENTS
from schemas.units import Phase, from_ms
from tests.builders import T0, configuration
from tests.rules.scenes import ToldScope, at, block, forecast, group, limit, ms

SAID = PieceKind.OPERATOR
NEWS = ScopeNews(FixedView(configuration()), FrozenClock(T0))


def lifted(start: str, end: str) -> CapacityBlock:
    return block(start, end, 0).model_copy(update={"limit_w": None, "received_capacity": None})


def asked(*blocks: dict[str, Any], scope_id: str = "mg-1", **more: Any) -> str:
    return json.dumps({"scope_id": scope_id, "direction": "IMPORT", "blocks": blocks, **more})


def said(start: str, end: str, limit_w: float | None, **more: Any) -> dict[str, Any]:
    return {"start": at(start).isoformat(), "end": at(end).isoformat(), "limit_w": limit_w, **more}


def command(payload: str, *, scope_id: str = "mg-1", kind: CommandKind = CommandKind.ENVELOPE) -> Command:
    return Command(event_id="c1", at=at("10:05"), partner_id="", kind=kind, by="ada", payload=payload, scope_id=scope_id)


def news(one: Command) -> list[Any]:
    return list(NEWS.of_record(Record(COMMANDS.name, 0, 0, T0, "mg-1", one)))


def test_a_command_becomes_an_item_like_a_forecast():
    payload = asked(said("09:00", "12:00", 5000), said("12:00", "13:00", None, phase="TWO"), why="work on the pole")
    ((scope_id, item),) = news(command(payload))
    assert isinstance(item, Spoken)
    assert (scope_id, item.event_id, item.instant_ms) == ("mg-1", "c1", ms("10:05"))
    assert (item.forecast.source_id, item.forecast.cause, item.forecast.type) == (OPERATOR, "c1", LimitType.IMPORT)
    assert [(one.start, one.end, one.limit_w, one.phase) for one in item.forecast.blocks] == [
        (at("09:00"), at("12:00"), 5000, Phase.ALL), (at("12:00"), at("13:00"), None, Phase.TWO),
    ]  # fmt: skip
    ((_, exports),) = news(command(asked(said("09:00", "12:00", 5000), direction="EXPORT")))
    assert exports.forecast.type is LimitType.EXPORT


@pytest.mark.parametrize(
    ("payload", "scope_id", "words"),
    [
        ("not json", "mg-1", "it cannot be read"),
        (asked(), "mg-1", "blocks"),
        (asked(said("12:00", "12:00", 5)), "mg-1", "end must be after start"),
        (asked(said("11:00", "12:00", -1)), "mg-1", "blocks.0.limit_w"),
        (asked(said("11:00", "12:00", float("inf"))), "mg-1", "blocks.0.limit_w"),
        (asked(said("11:00", "12:00", 5), scope_id="mg-9"), "mg-9", "there is no scope mg-9"),
        (asked(said("11:00", "12:00", 5), scope_id="mg-9"), "mg-1", "its payload speaks of mg-9"),
        (asked(said("11:00", "12:00", 5), direction="BOTH"), "mg-1", "direction"),
    ],
)
def test_what_cannot_be_carried_out_is_told(payload: str, scope_id: str, words: str):
    (out,) = news(command(payload, scope_id=scope_id))
    assert isinstance(out, Out)
    assert (out.topic, out.key) == (EVENTS, scope_id)
    event = out.value
    assert isinstance(event, Event)
    assert (event.kind, event.severity, event.subject_kind, event.cause_id) == (
        "command.refused", Severity.WARNING, SubjectKind.SCOPE, "c1",
    )  # fmt: skip
    assert words in event.words
    assert "ada" in event.words


def test_other_commands_are_not_for_this_flow():
    assert news(command(asked(said("11:00", "12:00", 5)), kind=CommandKind.ADJUST)) == []


def test_an_operators_limit_holds_from_receipt_and_nothing_is_held_after_it():
    scope = ToldScope()
    scope.hears(forecast("o1", "10:05", block("09:00", "11:00", 40), source=OPERATOR))
    assert scope.envelopes[0].effective_at == at("10:05")
    assert scope.imports("10:04") is None
    assert scope.imports("10:05") == limit(40, "o1", SAID)
    assert scope.imports("11:00") is None


def test_the_lower_of_the_operator_and_the_forecast_holds():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("08:00", "10:30", 100), block("10:30", "20:00", 20)))
    scope.hears(forecast("o1", "10:00", block("10:00", "12:00", 40), source=OPERATOR))
    assert [scope.imports(when) for when in ("09:59", "10:00", "10:30", "12:00")] == [
        limit(100), limit(40, "o1", SAID), limit(20), limit(20),
    ]  # fmt: skip


def test_an_operators_limit_of_the_same_height_does_not_take_the_forecasts_name():
    # Else a breach of the forecast would not be told to the partner.
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("08:00", "20:00", 40)), forecast("o1", "10:00", block("10:00", "12:00", 40), source=OPERATOR))
    assert scope.imports("11:00") == limit(40, "f1")


def test_lifting_makes_a_hole_for_the_time_it_speaks_of():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("08:00", "20:00", 100)))
    scope.hears(forecast("o1", "09:00", block("10:00", "14:00", 40), source=OPERATOR))
    scope.hears(forecast("o2", "10:30", lifted("09:00", "12:00"), block("13:00", "15:00", 30), source=OPERATOR))
    assert scope.envelopes[-1].effective_at == at("10:30")
    assert [scope.imports(when) for when in ("10:29", "10:30", "12:00", "13:00", "14:30", "15:00")] == [
        limit(40, "o1", SAID), limit(100), limit(40, "o1", SAID), limit(30, "o2", SAID), limit(30, "o2", SAID), limit(100),
    ]  # fmt: skip


def test_lifting_what_nobody_said_changes_nothing():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("08:00", "20:00", 100)))
    assert scope.hears(forecast("o1", "09:00", lifted("09:00", "12:00"), source=OPERATOR)) == []


def test_a_limit_wins_over_a_lifting_of_the_same_message():
    scope = ToldScope()
    scope.hears(forecast("o1", "09:00", lifted("09:00", "12:00"), block("10:00", "11:00", 7), source=OPERATOR))
    assert [scope.imports(when) for when in ("09:30", "10:30", "11:30")] == [None, limit(7, "o1", SAID), None]
    assert "overlap" in scope.events[0].words


def test_an_operator_can_limit_a_scope_without_groups_and_while_the_partner_is_away():
    scope = ToldScope(group(safe_import_w=50_000.0, hold=timedelta(0)))
    scope.linked("09:00", away=True)
    scope.hears(forecast("o1", "10:00", block("10:00", "12:00", 40), source=OPERATOR))
    assert [scope.imports(when) for when in ("09:30", "11:00", "12:00")] == [
        limit(50, None, PieceKind.SAFE), limit(40, "o1", SAID), limit(50, None, PieceKind.SAFE),
    ]  # fmt: skip


# The law: whatever operators say and lift, what holds at t is the lower of the forecast and their newest word about t.

quarters = st.integers(0, 24)
spoken = st.lists(
    st.tuples(quarters, st.integers(1, 8), st.sampled_from([None, 10.0, 20.0, 30.0])), min_size=1, max_size=3
)  # start, length, kW


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), quarters, spoken), max_size=6))
def test_what_holds_is_the_lower_of_everyones_newest_word(story: list[tuple[bool, int, list[tuple[int, int, float | None]]]]):
    scope, told = ToldScope(group(keep=False, hold=timedelta(0))), []
    base, step = ms("08:00"), 900_000
    for number, (own, when, blocks) in enumerate(sorted(story, key=lambda one: one[1])):
        kept = [one for one in blocks if own or one[2] is not None]
        if not kept:
            continue
        message = [
            block("10:00", "11:00", kw or 0).model_copy(
                update={
                    "start": from_ms(base + start * step), "end": from_ms(base + (start + length) * step),
                    "limit_w": None if kw is None else kw * 1000,
                }
            )
            for start, length, kw in kept
        ]  # fmt: skip
        scope.hears(forecast(f"m{number}", from_ms(base + when * step).isoformat(), *message, source=OPERATOR if own else "VEC-0001"))
        told.append((own, when, kept))
    for n in range(34):
        newest: dict[bool, float | None] = {True: None, False: None}
        for own, when, blocks in told:
            about = [kw for start, length, kw in blocks if start <= n < start + length]
            if when <= n and about:
                newest[own] = min((kw for kw in about if kw is not None), default=None)
        known = [kw for kw in newest.values() if kw is not None]
        found = scope.imports(base + n * step)
        assert (found.watts / 1000 if found else None) == (min(known) if known else None), n
