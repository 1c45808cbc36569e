"""What an operator is about to say, before it is said: checked, and as the exact message it will become (semantics 7.4). Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel

from gateway.api_body import Problem
from gateway.kept_forecasts import blocks_of, spoken
from gateway.picture import Picture
from gateway.problems import FieldError
from pipelines.rules.reporting_compliance import by_hand
from schemas.config import Configuration
from schemas.connection import Command, CommandKind, ConnectionState, Event
from schemas.intervals import overlap
from schemas.oscp.translate import limit_w
from schemas.oscp.v20 import AdjustGroupCapacityForecast, ForecastedBlock, ForecastType, GroupCapacityComplianceError
from schemas.topology import Circuit, Scope
from schemas.units import W_PER_KW, Instant, rfc3339

IMPORTS = frozenset({ForecastType.CONSUMPTION, ForecastType.FALLBACK_CONSUMPTION})
SHOWN = 5
"""So many warnings of a kind are said at most."""


class Draft(BaseModel):
    """A message as it will be sent if just this is asked for under `command_id` (with other contents it is another message).

    `body` is its exact JSON text, `message_id` its X-Request-ID, `correlation_id` its X-Correlation-ID. `warnings` are no reasons to
    refuse it, but to think.
    """

    command_id: str
    partner_id: str
    group_id: str
    action: str
    message_id: str
    correlation_id: str | None
    body: str
    expires_at: Instant
    warnings: list[str]


def draft_of(command: Command, asked_under: str, config: Configuration, picture: Picture) -> Draft:
    """The draft of a command of kind ADJUST or COMPLIANCE_ERROR, asked under that id. Raises Problem 400 with the fields that are
    wrong, 404 for an unknown group."""
    group_id = command.group_id or ""
    group = config.group(command.partner_id, group_id)
    if group is None:
        raise Problem(404, "Unknown group", f"partner {command.partner_id!r} has no group {group_id!r}")
    said = by_hand(command, command.at)[0]
    if isinstance(said, Event):
        raise Problem(400, "Invalid request", said.words)
    if command.kind is CommandKind.ADJUST:
        warnings = _of_adjusting(command, said.body, config.scope(group.scope_id), config, picture)
    else:
        warnings = _of_error(command, said.body, said.correlation_id or "", picture)
    return Draft(
        command_id=asked_under,
        partner_id=command.partner_id,
        group_id=group_id,
        action=said.action,
        message_id=said.message_id,
        correlation_id=said.correlation_id,
        body=said.body,
        expires_at=said.expires_at,
        warnings=[*warnings, *_of_connection(command.partner_id, picture)],
    )


def _of_adjusting(command: Command, body: str, scope: Scope | None, config: Configuration, picture: Picture) -> list[str]:
    wish = AdjustGroupCapacityForecast.model_validate_json(body)
    now, blocks = command.at, wish.forecasted_blocks
    past = [index for index, block in enumerate(blocks) if block.end_time <= now]
    if len(past) == len(blocks):
        raise _refused(past, blocks, "is over: ask about a time that is still to come")
    warnings = [f"forecasted_blocks[{index}] is over already" for index in past[:SHOWN]] + _overlaps(blocks)
    circuit = config.circuit(scope.circuit_id) if scope is not None and scope.circuit_id else None
    if scope is not None and circuit is not None:
        warnings += _above_rating(wish.type, blocks, scope, circuit)
    kept = picture.forecasts.of(wish.group_id, wish.type.value)
    if not kept:
        warnings.append(f"no forecast of type {wish.type.value} is known for {wish.group_id}: there may be nothing to adjust")
    elif _same(blocks, blocks_of(spoken(kept, min(block.start_time for block in blocks), max(block.end_time for block in blocks)))):
        warnings.append("this is what the partner's forecasts say already")
    return warnings


def _of_error(command: Command, body: str, forecast_id: str, picture: Picture) -> list[str]:
    named = picture.forecasts.named(command.group_id or "", forecast_id)
    if named is None:
        return [f"forecast {forecast_id} is not among the last ones known here; the partner has to know it"]
    blocks = GroupCapacityComplianceError.model_validate_json(body).forecasted_blocks or []
    theirs = named[1].blocks()
    first, last = min((one.start_time for one in theirs), default=command.at), max((one.end_time for one in theirs), default=command.at)
    foreign = [index for index, block in enumerate(blocks) if not overlap(block.start_time, block.end_time, first, last)]
    words = [f"forecasted_blocks[{index}] is about a time of which forecast {forecast_id} does not speak" for index in foreign]
    return words[:SHOWN] + _overlaps(blocks)


def _of_connection(partner_id: str, picture: Picture) -> list[str]:
    connection = picture.connections.get(partner_id)
    if connection is None:
        return ["nothing has passed between us and the partner yet: it is sent once they are connected, if that is in time"]
    if connection.state is ConnectionState.ONLINE:
        return []
    return [f"the connection is {connection.state.value}: it is sent once the partner is online again, if that is in time"]


def _above_rating(type_: ForecastType, blocks: Iterable[ForecastedBlock], scope: Scope, circuit: Circuit) -> list[str]:
    if type_ is ForecastType.OPTIMUM:
        return []
    rated_kw = circuit.rated_import_kw if type_ in IMPORTS else circuit.rated_export_kw
    most_kw = max(limit_w(block, scope.nominal_voltage_v, scope.phases) for block in blocks) / W_PER_KW
    return [f"{most_kw:g} kW is more than the circuit is rated for ({rated_kw:g} kW)"] if most_kw > rated_kw else []


def _overlaps(blocks: Sequence[ForecastedBlock]) -> list[str]:
    """Blocks of one phase that speak of the same time as one before them; the first few."""
    found: list[str] = []
    reaching: dict[str, tuple[datetime, int]] = {}
    for index, block in sorted(enumerate(blocks), key=lambda pair: pair[1].start_time):
        until, other = reaching.get(block.phase.value, (block.start_time, index))
        if block.start_time < until:
            found.append(f"forecasted_blocks[{other}] and [{index}] speak of the same time; where they do, the lower one counts")
        reaching[block.phase.value] = max((until, other), (block.end_time, index))
    return found[:SHOWN]


def _same(one: Sequence[ForecastedBlock], other: Sequence[ForecastedBlock]) -> bool:
    def plain(block: ForecastedBlock) -> tuple[datetime, datetime, float, str, str]:
        return block.start_time, block.end_time, block.capacity, block.unit.value, block.phase.value

    return sorted(map(plain, one)) == sorted(map(plain, other))


def _refused(wrong: Iterable[int], blocks: Sequence[ForecastedBlock], why: str) -> Problem:
    errors = [FieldError(path=f"forecasted_blocks[{index}]", message=f"ended at {rfc3339(blocks[index].end_time)}") for index in wrong]
    return Problem(400, "Invalid request", f"all of forecasted_blocks {why}", errors[:20])
