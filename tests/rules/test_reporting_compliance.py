"""Which breaches the partner hears of, and how often (semantics 7.3)."""

import json
from datetime import timedelta
from typing import Any

import pytest

from pipelines.rules.reporting_compliance import Told, compliance_errors
from pipelines.rules.reporting_forecasts import Block, Forecasts, blocks_within, keep_forecast
from schemas.compliance import Verdict, VerdictKind
from schemas.config import ComplianceErrors
from schemas.intervals import QUARTER
from schemas.outbound import OutboundMessage
from schemas.units import Direction, Phase, to_ms
from tests.builders import T0
from tests.rules.test_reporting_breaches import forecast

EACH, ONCE = ComplianceErrors.EACH_QUARTER, ComplianceErrors.ONCE_PER_BREACH
WITHIN, BREACHED, UNKNOWN = VerdictKind.WITHIN, VerdictKind.BREACHED, VerdictKind.UNKNOWN
DAY = timedelta(days=1)


def verdict(number: float, kind: VerdictKind = BREACHED, *, phase: Phase = Phase.ALL, **changes: Any) -> Verdict:
    """Of the quarter that many quarters after T0."""
    quarter = T0 + number * QUARTER
    plain: dict[str, Any] = {
        "event_id": f"{quarter} {phase} {kind}", "at": quarter + QUARTER, "partner_id": "vector", "group_id": "VEC-0001",
        "scope_id": "mg-1", "quarter": quarter, "direction": Direction.IMPORT, "verdict": kind, "used_wh": 3000.0, "allowed_wh": 2500.0,
        "forecasts": ["f-1"], "reportable_forecasts": ["f-1"], "revision": 1, "phase": phase,
    }  # fmt: skip
    return Verdict.model_validate({**plain, **changes})


def errors(told: Told, policy: ComplianceErrors, *verdicts: Verdict) -> list[list[OutboundMessage]]:
    return [compliance_errors(told, each, policy, each.at) for each in verdicts]


def counts(policy: ComplianceErrors, *verdicts: Verdict) -> list[int]:
    return [len(found) for found in errors(Told(), policy, *verdicts)]


@pytest.mark.parametrize(("apart", "told"), [(9, [1, 1]), (8, [1, 0])])
def test_once_a_breach_means_the_breaches_that_are_told_of(apart: int, told: list[int]):
    """Eight quarters after the last of them, its two hours are over (semantics 5)."""
    assert counts(ONCE, verdict(0), verdict(apart)) == told


def test_breaches_are_told_apart_by_their_quarters_not_by_when_they_are_heard_of():
    """A repair brings yesterday's breach while today's is open: each is told once."""
    today, yesterday = [verdict(0), verdict(1)], [verdict(n - 96) for n in range(3)]
    assert counts(ONCE, *today, *yesterday, verdict(2), verdict(3, WITHIN), verdict(4)) == [1, 0, 1, 0, 0, 0, 0, 1]
    assert counts(ONCE, *yesterday, *today) == [1, 0, 0, 1, 0]


def test_a_breach_that_begins_against_an_operators_limit_is_told_when_it_comes_to_the_forecast():
    quarters = [verdict(0, reportable_forecasts=[]), verdict(1), verdict(2), verdict(3, WITHIN), verdict(4)]
    assert counts(ONCE, *quarters) == [0, 1, 0, 0, 1]
    assert counts(EACH, *quarters) == [0, 1, 1, 0, 1]
    assert counts(ComplianceErrors.NEVER, *quarters) == [0] * 5


def test_each_phase_has_a_breach_of_its_own_and_a_forecast_is_told_once_for_its_quarter():
    one = {"phase": Phase.ONE}
    assert counts(EACH, verdict(0), verdict(0, **one), verdict(1, **one), verdict(1)) == [1, 0, 1, 0]
    # another phase's being within ends nothing
    assert counts(ONCE, verdict(0), verdict(1, WITHIN, **one), verdict(1), verdict(2, WITHIN), verdict(2, **one), verdict(3)) == [
        1, 0, 0, 0, 1, 1,
    ]  # fmt: skip
    other = verdict(0, direction=Direction.EXPORT, **one)
    assert counts(EACH, verdict(0), other) == [1, 1]


def test_words_and_blocks_are_of_the_phase():
    told = Told()
    parts = [Block(to_ms(T0), to_ms(T0 + QUARTER), float(n), "A", phase) for n, phase in enumerate(("ALL", "ONE", "TWO"))]
    told.forecasts["vector", "f-1", "VEC-0001"] = tuple(parts)
    ((message,),) = errors(told, EACH, verdict(0, phase=Phase.ONE))
    body = json.loads(message.body)
    assert body["message"].startswith("Group VEC-0001: import on phase one of 3.000 kWh")
    assert [(block["phase"], block["capacity"]) for block in body["forecasted_blocks"]] == [("ONE", 1.0)]
    assert [block.capacity for block in blocks_within(parts, T0)] == [0.0, 1.0, 2.0]


def test_a_correction_after_the_error_was_told_tells_nothing_again():
    told = Told()
    story = [verdict(0), verdict(0, WITHIN, revision=2), verdict(0, revision=3, used_wh=9000.0), verdict(0, UNKNOWN, revision=4)]
    assert [len(found) for found in errors(told, EACH, *story, verdict(0, revision=5))] == [1, 0, 0, 0, 0]
    assert [len(found) for found in errors(told, ONCE, verdict(0, revision=6))] == [0]


def test_what_is_forgotten_is_not_told_again():
    told = Told()
    assert [len(found) for found in errors(told, EACH, verdict(0))] == [1]
    told.prune("other", T0 + 2 * DAY)
    assert [len(found) for found in errors(told, EACH, verdict(0, revision=2, used_wh=4000.0))] == [0]
    told.prune("vector", T0 + DAY)
    assert told.errors == {}
    again = verdict(0, revision=3, used_wh=5000.0, at=T0 + 8 * DAY)
    assert [len(found) for found in errors(told, EACH, again)] == [0]
    assert [len(found) for found in errors(told, EACH, verdict(96 * 3))] == [1]


def test_blocks_that_a_later_forecast_replaces_are_not_kept_but_of_the_quarter_it_came_in() -> None:
    """A partner that sends two days ahead every hour would else fill memory with what was never in force."""
    forecasts: Forecasts = {}
    hours = [(60 * n, 60 * n + 60, float(n), "KW") for n in range(48)]
    first = forecast("f-1", *hours)
    second = forecast("f-2", *hours[2:], (48 * 60, 49 * 60, 48.0, "KW")).model_copy(update={"received_at": T0 + timedelta(minutes=130)})
    for message in (first, second, first):
        keep_forecast(forecasts, message)
    left = {request_id: [block.capacity for block in blocks] for (_, request_id, _), blocks in forecasts.items()}
    assert left == {"f-1": [0.0, 1.0, 2.0], "f-2": [float(n) for n in range(2, 49)]}
    quarter = T0 + timedelta(minutes=120)
    assert [blocks_within(blocks, quarter)[0].capacity for blocks in forecasts.values()] == [2.0, 2.0]
    third = forecast("f-3", *hours, (48 * 60, 49 * 60, 48.0, "KW")).model_copy(update={"received_at": T0 - timedelta(days=1)})
    keep_forecast(forecasts, third)
    assert [len(blocks) for blocks in forecasts.values()] == [1, 1, 49]  # that they are known is still


def test_only_blocks_of_the_same_kind_wholly_covered_are_replaced() -> None:
    forecasts: Forecasts = {}
    first = forecast("f-1", (0, 60, 1.0, "KW"), (60, 120, 2.0, "KW"))
    keep_forecast(forecasts, first)
    other = first.model_copy(update={"request_id": "f-2", "body": first.body.replace('"CONSUMPTION"', '"GENERATION"')})
    partly = forecast("f-3", (0, 59, 9.0, "KW"), (61, 200, 9.0, "KW"))
    for message in (other, partly, forecast("f-4", (60, 120, 2.0, "KW"), partner="wel")):
        keep_forecast(forecasts, message)
    assert [len(blocks) for blocks in forecasts.values()] == [2, 2, 2, 1]
