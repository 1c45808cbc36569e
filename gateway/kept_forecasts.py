"""The newest forecasts of each group as they were received: what an operator's wish or error is prefilled from (semantics 7.4).

Bodies are kept compressed, and read only when somebody looks. What of them holds is said here only for people to start from: what
limits is the envelope's business.
"""

import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from pydantic import ValidationError

from schemas.connection import InboundMessage
from schemas.oscp.v20 import CapacityUnit, ForecastedBlock, ForecastType, Phase, UpdateGroupCapacityForecast

KEEP_EACH = 6
"""Forecasts of one group and type: a day plan or two, and what was said in between."""
KEEP_BYTES = 64 * 1024 * 1024
_TYPE = re.compile(r'"type"\s*:\s*"([A-Z_]+)"')
_ENERGY = frozenset({CapacityUnit.WH, CapacityUnit.KWH})
Times = tuple[datetime, datetime]
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


def spoken(kept: Sequence[KeptForecast], start: datetime, end: datetime | None = None) -> list[Spoken]:
    """What these forecasts (oldest first) say about [start, end), the newest where several speak, by phase and time.

    Blocks that are cut keep their unit; energies are shared out by duration (semantics 3.1, 3.2).
    """
    found: list[Spoken] = []
    covered: dict[Phase, list[Times]] = {}
    for forecast in reversed(kept):
        said: dict[Phase, list[Times]] = {}
        for block in forecast.blocks():
            for first, last in _outside(block, covered.get(block.phase, [])):
                if (
                    part := _within(Spoken(forecast.request_id, block), max(first, start), last if end is None else min(last, end))
                ) is not None:
                    found.append(part)
            said.setdefault(block.phase, []).append((block.start_time, block.end_time))
        for phase, spans in said.items():
            covered[phase] = _joined([*covered.get(phase, []), *spans])
    return sorted(found, key=lambda one: (one.block.start_time, one.block.phase))


def _outside(block: ForecastedBlock, covered: Sequence[Times]) -> Iterator[Times]:
    """The parts of a block's time that none of `covered` (in order, without overlap) speaks of."""
    at = block.start_time
    for start, end in covered[bisect_right(covered, block.start_time, key=itemgetter(1)) :]:
        if start >= block.end_time:
            break
        if start > at:
            yield at, start
        at = max(at, end)
    if at < block.end_time:
        yield at, block.end_time


def _joined(spans: Iterable[Times]) -> list[Times]:
    found: list[Times] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _within(one: Spoken, first: datetime, last: datetime) -> Spoken | None:
    block = one.block
    if first >= last:
        return None
    if (first, last) == (block.start_time, block.end_time):
        return one
    share = (last - first) / (block.end_time - block.start_time)
    capacity = round(block.capacity * share, 6) if block.unit in _ENERGY else block.capacity
    return one._replace(block=block.model_copy(update={"start_time": first, "end_time": last, "capacity": capacity}))


def blocks_of(found: Sequence[Spoken]) -> list[ForecastedBlock]:
    """The blocks alone."""
    return [one.block for one in found]
