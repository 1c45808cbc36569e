"""The forecasts that compliance errors quote (semantics 7.3): their blocks, for as long as a quarter may be judged by them."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from schemas.connection import InboundMessage
from schemas.intervals import QUARTER, QUARTER_MS, overlap
from schemas.oscp.v20 import CapacityUnit, ForecastedBlock, UpdateGroupCapacityForecast
from schemas.units import Phase, from_ms, to_ms

_ENERGY = frozenset({CapacityUnit.WH.value, CapacityUnit.KWH.value})


class Block(NamedTuple):
    """A forecasted block as received, of a forecast of some type."""

    start_ms: int
    end_ms: int
    capacity: float
    unit: str
    phase: str
    type: str = ""


Forecasts = dict[tuple[str, str, str], tuple[Block, ...]]
"""Blocks by (partner, request id, group)."""


def keep_forecast(forecasts: Forecasts, message: InboundMessage) -> None:
    """Keep a forecast's blocks under its request id; what is no forecast (the gateway lets none pass) is left alone, and so is a
    repeated one."""
    try:
        forecast = UpdateGroupCapacityForecast.model_validate_json(message.body)
    except ValidationError:
        return
    blocks = tuple(
        Block(to_ms(b.start_time), to_ms(b.end_time), b.capacity, b.unit.value, b.phase.value, forecast.type.value)
        for b in forecast.forecasted_blocks
    )
    key = message.partner_id, message.request_id, forecast.group_id
    known = forecasts.get(key)
    if known is None:
        _overtake(forecasts, key, blocks, to_ms(message.received_at))
    if known is None or not set(known) <= set(blocks):
        forecasts[key] = blocks


def _overtake(forecasts: Forecasts, newest: tuple[str, str, str], blocks: tuple[Block, ...], received_ms: int) -> None:
    """Let go of earlier forecasts' blocks that this one replaces (semantics 3.1) from the next quarter on: they were never in force.

    Of hourly forecasts of two days that is nearly all there is. One block of each stays: that the forecast is known.
    """
    since = -(-received_ms // QUARTER_MS) * QUARTER_MS
    spans = _spans(blocks)
    for key, known in forecasts.items():
        if (key[0], key[2]) != (newest[0], newest[2]) or key == newest:
            continue
        left = tuple(one for one in known if one.start_ms < since or not _inside(one, spans.get((one.type, one.phase), ())))
        if len(left) < len(known):
            forecasts[key] = left or (max(known, key=lambda one: one.end_ms),)


def _spans(blocks: Iterable[Block]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """The stretches of time the blocks cover, by type and phase."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for block in sorted(blocks):
        spans = found.setdefault((block.type, block.phase), [])
        if spans and block.start_ms <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], block.end_ms))
        else:
            spans.append((block.start_ms, block.end_ms))
    return found


def _inside(block: Block, spans: Iterable[tuple[int, int]]) -> bool:
    return any(start <= block.start_ms and block.end_ms <= end for start, end in spans)


def blocks_within(blocks: Iterable[Block], quarter: datetime, phase: Phase = Phase.ALL) -> list[ForecastedBlock]:
    """The part of the blocks inside the quarter, in their own unit; an energy is shared out by duration.

    About a single phase only the blocks for it are asked.
    """
    parts = []
    for block in blocks:
        start, end = from_ms(block.start_ms), from_ms(block.end_ms)
        inside = overlap(start, end, quarter, quarter + QUARTER)
        if not inside or (phase is not Phase.ALL and block.phase != phase.value):
            continue
        share = inside / (end - start) if block.unit in _ENERGY else 1.0
        part = {"capacity": round(block.capacity * share, 6) if share < 1 else block.capacity, "phase": block.phase, "unit": block.unit}
        times = {"start_time": max(start, quarter), "end_time": min(end, quarter + QUARTER)}
        parts.append(ForecastedBlock.model_validate({**part, **times}))
    return parts
