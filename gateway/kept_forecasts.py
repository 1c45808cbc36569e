"""The newest forecasts of each group as they were received: what an operator's wish or error is prefilled from (semantics 7.4).

Bodies are kept compressed, and read only when somebody looks. What of them holds is said here only for people to start from: what
limits is the envelope's business.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from schemas.connection import InboundMessage
from schemas.oscp.v20 import CapacityUnit, ForecastedBlock, ForecastType, UpdateGroupCapacityForecast

KEEP_EACH = 6
"""Forecasts of one group and type: a day plan or two, and what was said in between."""
KEEP_BYTES = 64 * 1024 * 1024
_TYPE = re.compile(r'"type"\s*:\s*"([A-Z_]+)"')
_ENERGY = frozenset({CapacityUnit.WH, CapacityUnit.KWH})
Key = tuple[str, str]
"""A group and the forecast's type."""


@dataclass(frozen=True, slots=True)
class KeptForecast:
    """A forecast; `packed` is its body, compressed."""

    request_id: str
    partner_id: str
    group_id: str
    received_at: datetime
    packed: bytes

    def blocks(self) -> list[ForecastedBlock]:
        """Its blocks; none for what never should have been taken as a forecast."""
        try:
            return UpdateGroupCapacityForecast.model_validate_json(zlib.decompress(self.packed)).forecasted_blocks
        except ValidationError:
            return []


class Spoken(NamedTuple):
    """A block, or the part of one, that no later forecast replaced, and the forecast it is from."""

    request_id: str
    block: ForecastedBlock


@dataclass(slots=True)
class KeptForecasts:
    """By group and type, oldest first; the groups not heard of for longest go when there are too many. Nothing inside is changed in
    place, so that a copy stands still."""

    kept: dict[Key, tuple[KeptForecast, ...]]
    size: int = 0

    def copy(self) -> "KeptForecasts":
        """The same, which later forecasts do not change."""
        return KeptForecasts(dict(self.kept), self.size)

    def take(self, message: InboundMessage) -> None:
        """Keep a whole forecast; nothing changes if it is kept already."""
        if message.group_id is None or message.is_segment or (type_ := _type_of(message.body)) is None:
            return
        key = (message.group_id, type_)
        known = self.kept.pop(key, ())
        if all(one.request_id != message.request_id or one.received_at != message.received_at for one in known):
            packed = zlib.compress(message.body.encode(), 1)
            one = KeptForecast(message.request_id, message.partner_id, message.group_id, message.received_at, packed)
            known = (*known, one)
            self.size += len(packed)
        gone, known = known[:-KEEP_EACH], known[-KEEP_EACH:]
        self.kept[key] = known
        self.size -= sum(len(each.packed) for each in gone)
        while self.size > KEEP_BYTES and len(self.kept) > 1:
            self.size -= sum(len(each.packed) for each in self.kept.pop(next(iter(self.kept))))

    def of(self, group_id: str, type_: str) -> tuple[KeptForecast, ...]:
        """The forecasts of one group and type, oldest first."""
        return self.kept.get((group_id, type_), ())

    def named(self, group_id: str, request_id: str) -> tuple[str, KeptForecast] | None:
        """The forecast of a group under an X-Request-ID and its type; the newest, if the id was used again."""
        for (group, type_), kept in self.kept.items():
            found = next((one for one in reversed(kept) if group == group_id and one.request_id == request_id), None)
            if found is not None:
                return type_, found
        return None


def _type_of(body: str) -> str | None:
    """The forecast's type without reading all of it, as nearly always; None for what is no forecast."""
    found: set[str] = set(_TYPE.findall(body))
    only = found.pop() if len(found) == 1 else ""
    if only in ForecastType.__members__:
        return only
    try:
        return UpdateGroupCapacityForecast.model_validate_json(body).type.value
    except ValidationError:
        return None


def spoken(kept: Iterable[KeptForecast], start: datetime, end: datetime | None = None) -> list[Spoken]:
    """What these forecasts (oldest first) say about [start, end), the newest where several speak, by phase and time.

    Blocks that are cut keep their unit; energies are shared out by duration (semantics 3.1, 3.2).
    """
    found: list[Spoken] = []
    for forecast in kept:
        newer = [Spoken(forecast.request_id, block) for block in forecast.blocks()]
        for one in newer:
            found = [part for older in found for part in _outside(older, one.block)]
        found += newer
    cut = (_within(one, start, end) for one in found)
    return sorted((one for one in cut if one is not None), key=lambda one: (one.block.start_time, one.block.phase))


def _outside(older: Spoken, block: ForecastedBlock) -> list[Spoken]:
    """The parts of an older block that `block` leaves alone."""
    old = older.block
    if old.phase is not block.phase or old.end_time <= block.start_time or old.start_time >= block.end_time:
        return [older]
    before, after = _within(older, old.start_time, block.start_time), _within(older, block.end_time, old.end_time)
    return [part for part in (before, after) if part is not None]


def _within(one: Spoken, start: datetime, end: datetime | None) -> Spoken | None:
    block = one.block
    first, last = max(block.start_time, start), block.end_time if end is None else min(block.end_time, end)
    if first >= last:
        return None
    share = (last - first) / (block.end_time - block.start_time)
    capacity = round(block.capacity * share, 6) if share < 1 and block.unit in _ENERGY else block.capacity
    return one._replace(block=block.model_copy(update={"start_time": first, "end_time": last, "capacity": capacity}))


def blocks_of(found: Sequence[Spoken]) -> list[ForecastedBlock]:
    """The blocks alone."""
    return [one.block for one in found]
