"""OSCP's words become W and neutral types (semantics 3.2, 3.4)."""

import json

import pytest

from schemas.capacity import LimitType
from schemas.oscp.translate import capacity_forecast
from schemas.oscp.v20 import UpdateGroupCapacityForecast
from schemas.topology import Scope
from schemas.units import Phase
from tests.builders import T0
from tests.schemas.golden import oscp_example


def translated(*, phases: int = 3, kind: str = "CONSUMPTION", **changes: object):
    plain = json.loads(oscp_example("UpdateGroupCapacityForecast"))
    plain["type"] = kind
    plain["forecasted_blocks"] = [{**plain["forecasted_blocks"][0], **changes}]
    message = UpdateGroupCapacityForecast.model_validate(plain)
    scope = Scope(id="mg-1", nominal_voltage_v=230, phases=phases)
    return capacity_forecast(message, scope=scope, cause="request-1", received_at=T0, body_digest="d")


@pytest.mark.parametrize(
    ("capacity", "unit", "phase", "phases", "watts"),
    [
        (500, "W", "ALL", 3, 500),
        (40, "KW", "ALL", 3, 40_000),
        (10, "A", "ALL", 3, 6_900),
        (10, "A", "ALL", 1, 2_300),
        (10, "A", "TWO", 3, 2_300),
        (10, "A", "UNKNOWN", 3, 6_900),
        (250, "WH", "ALL", 3, 1_000),
        (0.25, "KWH", "ALL", 3, 1_000),
        (0, "KW", "ALL", 3, 0),
    ],
)
def test_units(capacity: float, unit: str, phase: str, phases: int, watts: float):
    (block,) = translated(phases=phases, capacity=capacity, unit=unit, phase=phase).blocks
    assert block.limit_w == pytest.approx(watts)
    assert (block.received_capacity, block.received_unit, block.received_phase) == (capacity, unit, phase)
    assert block.phase is (Phase.ALL if phase == "UNKNOWN" else Phase(phase))


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        ("CONSUMPTION", LimitType.IMPORT),
        ("GENERATION", LimitType.EXPORT),
        ("FALLBACK_CONSUMPTION", LimitType.FALLBACK_IMPORT),
        ("FALLBACK_GENERATION", LimitType.FALLBACK_EXPORT),
        ("OPTIMUM", LimitType.OPTIMUM),
    ],
)
def test_types(kind: str, type_: LimitType):
    forecast = translated(kind=kind)
    assert forecast.type is type_
    assert (forecast.cause, forecast.source_id, forecast.scope_id, forecast.received_at) == ("request-1", "VEC-0001", "mg-1", T0)
