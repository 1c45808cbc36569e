"""The forecasts an operator's wish is prefilled from: bounded, newest first where several speak."""

import json
import time
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.kept_forecasts import KEEP_EACH, KeptForecasts, spoken
from schemas.connection import InboundMessage
from schemas.facts import digest
from schemas.units import rfc3339
from tests.builders import T0

HOUR = timedelta(hours=1)


def forecast(
    name: str, *blocks: tuple[int, int, float], minute: int = 0, type_: str = "CONSUMPTION", group: str = "VEC-1", **more: Any
) -> InboundMessage:
    told = [
        {
            "capacity": capacity, "phase": more.get("phase", "ALL"), "unit": more.get("unit", "KW"),
            "start_time": rfc3339(T0 + start * HOUR), "end_time": rfc3339(T0 + end * HOUR),
        }
        for start, end, capacity in blocks
    ]  # fmt: skip
    body = more.get("body") or json.dumps({"group_id": group, "type": type_, "forecasted_blocks": told})
    at = T0 + timedelta(minutes=minute)
    return InboundMessage(
        event_id=f"in {name}", at=at, partner_id="vector", action="UpdateGroupCapacityForecast", method="POST", request_id=name,
        received_at=at, group_id=group, body=body, body_digest=digest(body), credential_digest="x",
    )  # fmt: skip


def kept(*messages: InboundMessage) -> KeptForecasts:
    found = KeptForecasts({})
    for message in messages:
        found.take(message)
    return found


def said(found: KeptForecasts, start: int = 0, end: int | None = None) -> list[tuple[str, float, float, float]]:
    until = None if end is None else T0 + end * HOUR
    parts = spoken(found.of("VEC-1", "CONSUMPTION"), T0 + start * HOUR, until)
    return [(one.request_id, (one.block.start_time - T0) / HOUR, (one.block.end_time - T0) / HOUR, one.block.capacity) for one in parts]


def test_the_newest_speaks_where_it_speaks():
    found = kept(forecast("plan", (0, 6, 100), (6, 12, 80)), forecast("emergency", (4, 8, 20), minute=5))
    assert said(found) == [("plan", 0, 4, 100), ("emergency", 4, 8, 20), ("plan", 8, 12, 80)]
    assert said(found, 5, 9) == [("emergency", 5, 8, 20), ("plan", 8, 9, 80)]
    assert said(found, 12) == []


def test_energy_is_shared_out_and_phases_stand_apart():
    found = kept(forecast("plan", (0, 4, 100), unit="KWH"), forecast("one", (0, 2, 10), minute=1, phase="ONE", unit="A"))
    assert said(found, 3) == [("plan", 3, 4, 25)]
    assert {one[0] for one in said(found, 1)} == {"plan", "one"}


def test_it_keeps_the_newest_of_each_group_and_type_and_each_once():
    messages = [forecast(f"f-{number}", (0, 1, number), minute=number) for number in range(KEEP_EACH + 3)]
    found = kept(*messages, messages[-1], forecast("export", (0, 1, 5), type_="GENERATION"))
    assert [one.request_id for one in found.of("VEC-1", "CONSUMPTION")] == [f"f-{number}" for number in range(3, KEEP_EACH + 3)]
    assert len(found.of("VEC-1", "GENERATION")) == 1
    assert found.size == sum(len(one.packed) for each in found.kept.values() for one in each)


def test_a_copy_stands_still_and_a_forecast_is_found_by_its_id():
    found = kept(forecast("one", (0, 1, 1)))
    still = found.copy()
    found.take(forecast("two", (0, 1, 2), minute=1))
    assert len(still.of("VEC-1", "CONSUMPTION")) == 1
    named = found.named("VEC-1", "two")
    assert named is not None
    assert (named[0], named[1].request_id) == ("CONSUMPTION", "two")
    assert found.named("VEC-2", "two") is None


def test_what_is_no_forecast_is_left_alone():
    odd = json.dumps({"note": '"type": "x"', "type": "GENERATION", "group_id": "VEC-1", "forecasted_blocks": []})
    found = kept(forecast("broken", body="{}"), forecast("empty", body=odd))
    assert list(found.kept) == [("VEC-1", "GENERATION")]
    assert spoken(found.of("VEC-1", "GENERATION"), T0) == []
    nested = forecast("nested", (0, 1, 7))
    two = nested.model_copy(update={"body": nested.body[:-1] + ', "extra": {"type": "GENERATION"}}'})
    assert list(kept(two).kept) == [("VEC-1", "CONSUMPTION")]


@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(0, 9)), min_size=1, max_size=3), max_size=5))
def test_at_each_hour_the_newest_forecast_that_speaks_is_the_one_shown(told: list[list[tuple[int, int, int]]]):
    """Blocks of one message do not overlap here: what then counts is the envelope's business."""
    plain: dict[int, tuple[str, float]] = {}
    messages = []
    for number, blocks in enumerate(told):
        free: set[int] = set()
        chosen = []
        for start, length, capacity in blocks:
            hours = set(range(start, start + length))
            if not hours & free:
                free |= hours
                chosen.append((start, start + length, float(capacity)))
                plain |= dict.fromkeys(hours, (f"f-{number}", float(capacity)))
        messages.append(forecast(f"f-{number}", *chosen, minute=number))
    shown = {hour: (name, capacity) for name, start, end, capacity in said(kept(*messages)) for hour in range(int(start), int(end))}
    assert shown == plain


def test_thousands_of_blocks_are_no_burden():
    hours = [(number, number + 1, 1.0) for number in range(6000)]
    found = kept(*(forecast(f"f-{number}", *hours, minute=number) for number in range(KEEP_EACH)))
    began = time.perf_counter()
    assert len(spoken(found.of("VEC-1", "CONSUMPTION"), T0)) == 6000
    assert time.perf_counter() - began < 5  # a minute where each block is held against every other
