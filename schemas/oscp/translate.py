"""The one seam between OSCP and neutral terms: forecasts become `CapacityForecast` (semantics 3.2, 3.4)."""

from datetime import datetime

from schemas.capacity import CapacityBlock, CapacityForecast, LimitType
from schemas.facts import made
from schemas.oscp.v20 import CapacityUnit, ForecastedBlock, ForecastType, UpdateGroupCapacityForecast
from schemas.oscp.v20 import Phase as WirePhase
from schemas.topology import Scope
from schemas.units import W_PER_KW, Phase, mean_w

LIMIT_TYPES: dict[ForecastType, LimitType] = {
    ForecastType.CONSUMPTION: LimitType.IMPORT,
    ForecastType.GENERATION: LimitType.EXPORT,
    ForecastType.FALLBACK_CONSUMPTION: LimitType.FALLBACK_IMPORT,
    ForecastType.FALLBACK_GENERATION: LimitType.FALLBACK_EXPORT,
    ForecastType.OPTIMUM: LimitType.OPTIMUM,
}


_PHASES: dict[WirePhase, Phase] = {phase: Phase.ALL if phase is WirePhase.UNKNOWN else Phase(phase.value) for phase in WirePhase}


def phase_of(phase: WirePhase) -> Phase:
    """UNKNOWN counts as ALL (semantics 3.2)."""
    return _PHASES[phase]


def limit_w(block: ForecastedBlock, nominal_voltage_v: float, phases: int) -> float:
    """The block's capacity as mean power in W (semantics 3.2); amperes are per phase."""
    match block.unit:
        case CapacityUnit.W:
            return block.capacity
        case CapacityUnit.KW:
            return block.capacity * W_PER_KW
        case CapacityUnit.A:
            return block.capacity * nominal_voltage_v * (phases if phase_of(block.phase) is Phase.ALL else 1)
        case CapacityUnit.WH:
            return mean_w(block.capacity, block.end_time - block.start_time)
        case CapacityUnit.KWH:
            return mean_w(block.capacity * W_PER_KW, block.end_time - block.start_time)


def capacity_forecast(
    message: UpdateGroupCapacityForecast, *, scope: Scope, cause: str, received_at: datetime, body_digest: str
) -> CapacityForecast:
    """The forecast in neutral terms for the scope its group is bound to. `cause` is its X-Request-ID."""
    blocks = [
        made(
            CapacityBlock,
            start=block.start_time,
            end=block.end_time,
            limit_w=limit_w(block, scope.nominal_voltage_v, scope.phases),
            phase=phase_of(block.phase),
            received_capacity=block.capacity,
            received_unit=block.unit.value,
            received_phase=block.phase.value,
        )
        for block in message.forecasted_blocks
    ]
    return CapacityForecast(
        cause=cause,
        source_id=message.group_id,
        scope_id=scope.id,
        type=LIMIT_TYPES[message.type],
        received_at=received_at,
        body_digest=body_digest,
        blocks=blocks,
    )
