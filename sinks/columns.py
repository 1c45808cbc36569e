"""Telemetry payloads to columns: a poll's messages at once, no Python object a reading (engine.md 1 and 3).

Both records of the topic, in every schema version ever released, mixed with anything else a topic may hold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import Undecodable
from schemas.telemetry import Measurement, MeasurementBatch, Quality
from schemas.topics import TELEMETRY
from schemas.units import Phase, to_ms
from sinks.codec import HEADER_LENGTH, MARKER, WRITERS, decode
from sinks.column_blocks import Layout, array_body, layout_of, read_block
from sinks.known_ids import KnownIds

POWER, IMPORT, EXPORT, STORED = 1, 2, 4, 8
"""Bits of `Readings.present`."""
VALUES = {"power_w": POWER, "import_wh": IMPORT, "export_wh": EXPORT, "stored_wh": STORED}
PHASES = tuple(Phase)
QUALITIES = tuple(Quality)

_NOBODY = KnownIds([])
_HEAD, _DATUM = itemgetter(slice(HEADER_LENGTH)), itemgetter(slice(HEADER_LENGTH, None))
_ONE_BY_ONE = 8
"""A block that cannot be proved is halved until it has no more messages than this."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings as columns, in the order of their payloads (and within a batch in its own order).

    `asset` indexes `ids`; `measured_at` is ms since 1970 UTC; powers are W, registers Wh. `present` says by bits
    which values a reading has: an absent one is NaN too, so that a NaN that was *sent* can be told from it.
    `phase` and `quality` index `PHASES` and `QUALITIES`. `payload` is the index of the message it came in.
    `broken` has the index of each payload that is no telemetry, with the reason.
    """

    ids: list[str]
    asset: NDArray[np.int32]
    measured_at: NDArray[np.int64]
    power_w: NDArray[np.float64]
    import_wh: NDArray[np.float64]
    export_wh: NDArray[np.float64]
    stored_wh: NDArray[np.float64]
    present: NDArray[np.uint8]
    phase: NDArray[np.int8]
    quality: NDArray[np.int8]
    payload: NDArray[np.int32]
    broken: list[tuple[int, str]]

    def __len__(self) -> int:
        return len(self.asset)


class _Part(NamedTuple):
    names: pl.Series
    columns: dict[str, NDArray[Any]]


_LAYOUTS: dict[bytes, Layout] = {
    MARKER + print_: layout
    for print_, writer in WRITERS.items()
    if writer.record in {record.__name__ for record in TELEMETRY.records} and (layout := layout_of(writer)) is not None
}


def decode_readings(payloads: Sequence[bytes], known: KnownIds | None = None) -> Readings:
    """The readings of `derms.telemetry` payloads. Does not block and raises for no content whatever.

    A payload is either whole in the columns or named in `broken`; one that is broken touches no other. With `known`
    the ids of the result begin with those, whether they occur or not: what is configured is found fastest that way.
    """
    broken: list[tuple[int, str]] = []
    parts = [part for layout, members in _by_writer(payloads) for part in _decoded(layout, payloads, members, broken)]
    return _joined(parts, sorted(broken), known or _NOBODY)


def _by_writer(payloads: Sequence[bytes]) -> Iterator[tuple[Layout | None, NDArray[np.int64]]]:
    heads = list(map(_HEAD, payloads))
    kinds = set(heads)
    if len(kinds) == 1:
        yield _LAYOUTS.get(heads[0]), np.arange(len(heads))
        return
    members: dict[bytes, list[int]] = {head if head in _LAYOUTS else b"": [] for head in kinds}
    for index, head in enumerate(heads):
        members[head if head in _LAYOUTS else b""].append(index)
    for head, indexes in members.items():
        yield _LAYOUTS.get(head), np.array(indexes)


def _decoded(
    layout: Layout | None, payloads: Sequence[bytes], members: NDArray[np.int64], broken: list[tuple[int, str]]
) -> Iterator[_Part]:
    """The members as blocks; what cannot be proved is halved, and at last read one by one."""
    if layout is not None and (part := _block(layout, payloads, members)) is not None:
        yield part
    elif layout is None or len(members) <= _ONE_BY_ONE:
        yield _one_by_one(payloads, members, broken)
    else:
        half = len(members) // 2
        yield from _decoded(layout, payloads, members[:half], broken)
        yield from _decoded(layout, payloads, members[half:], broken)


def _block(layout: Layout, payloads: Sequence[bytes], members: NDArray[np.int64]) -> _Part | None:
    chosen = payloads if len(members) == len(payloads) else [payloads[index] for index in members.tolist()]
    if layout.batched:
        arrays = [array_body(payload, HEADER_LENGTH) for payload in chosen]
        known = [array for array in arrays if array is not None]
        if len(known) < len(arrays) or max(count for count, _ in known) > 1 << 31:
            return None
        bodies, counts = [body for _, body in known], np.array([count for count, _ in known], dtype=np.int64)
    else:
        bodies, counts = list(map(_DATUM, chosen)), np.ones(len(members), np.int64)
    frame = read_block(layout, bodies, counts)
    return None if frame is None else _columns(layout, frame, np.repeat(members, counts).astype(np.int32))


def _columns(layout: Layout, frame: pl.DataFrame, payload: NDArray[np.int32]) -> _Part:
    size = frame.height
    symbols = {name: detail for name, kind, detail in layout.fields if kind == "enum"}
    columns: dict[str, NDArray[Any]] = {"measured_at": frame["measured_at"].to_numpy(), "payload": payload}
    present = np.zeros(size, np.uint8)
    for name, bit in VALUES.items():
        if name in frame.columns:
            columns[name] = frame[name].to_numpy()
            present |= frame[name].is_not_null().to_numpy() * np.uint8(bit)
        else:  # a version from before the field
            columns[name] = np.full(size, np.nan)
    for name, order in (("phase", PHASES), ("quality", QUALITIES)):
        codes = np.array([order.index(symbol) for symbol in symbols.get(name, order)], np.int8)
        columns[name] = codes[frame[name].to_numpy() if name in symbols else np.zeros(size, np.int32)]
    return _Part(frame["asset_id"], {**columns, "present": present})


def _one_by_one(payloads: Sequence[bytes], members: NDArray[np.int64], broken: list[tuple[int, str]]) -> _Part:
    found: list[tuple[int, Measurement]] = []
    for index in members.tolist():
        try:
            value = decode(payloads[index], TELEMETRY)
        except Undecodable as error:
            broken.append((index, str(error)))
            continue
        if isinstance(value, MeasurementBatch):
            found += [(index, measurement) for measurement in value.measurements]
        elif isinstance(value, Measurement):
            found.append((index, value))
    readings = [m for _, m in found]
    columns: dict[str, NDArray[Any]] = {
        "measured_at": np.array([to_ms(m.measured_at) for m in readings], np.int64),
        "payload": np.array([index for index, _ in found], np.int32),
        "phase": np.array([PHASES.index(m.phase) for m in readings], np.int8),
        "quality": np.array([QUALITIES.index(m.quality) for m in readings], np.int8),
        "present": np.array([sum(bit for name, bit in VALUES.items() if getattr(m, name) is not None) for m in readings], np.uint8),
    }
    for name in VALUES:
        columns[name] = np.array([getattr(m, name) for m in readings], np.float64)  # None becomes NaN
    return _Part(pl.Series([m.asset_id for m in readings], dtype=pl.String), columns)


def _joined(parts: list[_Part], broken: list[tuple[int, str]], known: KnownIds) -> Readings:
    parts = parts or [_one_by_one((), np.zeros(0, np.int64), broken)]
    names = parts[0].names if len(parts) == 1 else pl.concat([part.names for part in parts])
    columns = {name: _concatenated([part.columns[name] for part in parts]) for name in parts[0].columns}
    columns["asset"], ids = _indexed(names, known)
    if len(parts) > 1:  # back into the order in which they came
        order = np.argsort(columns["payload"], kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
    return Readings(ids=ids, broken=broken, **columns)


def _indexed(names: pl.Series, known: KnownIds) -> tuple[NDArray[np.int32], list[str]]:
    """Each name's place among the known ids and, behind them, the others that occur."""
    asset = known.find(names)
    others = np.flatnonzero(asset < 0)
    if not len(others):
        return asset, known.ids
    strange = names.gather(others).to_list()
    behind = list(dict.fromkeys(strange))
    rank = dict(zip(behind, range(len(known.ids), len(known.ids) + len(behind)), strict=True))
    asset[others] = [rank[name] for name in strange]
    return asset, [*known.ids, *behind]


def _concatenated(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
