"""Telemetry payloads to columns: a poll's messages at once, no Python object a reading (engine.md 1 and 3).

Both records of the topic, in every schema version ever released, mixed with anything else a topic may hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import Undecodable
from schemas.facts import Value
from schemas.telemetry import Measurement, MeasurementBatch, Quality
from schemas.topics import TELEMETRY
from schemas.units import Phase, to_ms
from sinks import column_layouts
from sinks.codec import HEADER_LENGTH, MARKER, WRITERS, decode
from sinks.column_kernel import Columns, walk
from sinks.column_layouts import Layout, layout_of, table_of
from sinks.known_ids import Ids, KnownIds, joined
from sinks.payloads import Payloads

POWER, IMPORT, EXPORT, STORED = 1, 2, 4, 8
"""Bits of `Readings.present`."""
VALUES = dict(zip(column_layouts.VALUES, (POWER, IMPORT, EXPORT, STORED), strict=True))
PHASES = tuple(Phase)
QUALITIES = tuple(Quality)

_NOBODY = KnownIds([])
_BYTES_A_READING = 48
"""A guess of what a reading takes, so that there are columns enough at once."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings as columns, in the order of their payloads (and within a batch in its own order).

    `asset` indexes `ids`; `measured_at` is ms since 1970 UTC; powers are W, registers Wh. `present` says by bits
    which values a reading has: an absent one is NaN too, so that a NaN that was *sent* can be told from it.
    `phase` and `quality` index `PHASES` and `QUALITIES`. `payload` is the index of the message it came in.
    `broken` has the index of each payload that is no telemetry, with the reason.
    """

    ids: Sequence[str]
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


_RECORDS = frozenset(record.__name__ for record in TELEMETRY.records)
_LAYOUTS: dict[bytes, Layout] = {
    print_: layout for print_, writer in WRITERS.items() if writer.record in _RECORDS and (layout := layout_of(writer)) is not None
}
_TABLE = table_of(_LAYOUTS)
_HEADS = frozenset(MARKER + print_ for print_, writer in WRITERS.items() if writer.record in _RECORDS)


def decode_readings(payloads: Sequence[bytes], known: KnownIds | None = None) -> Readings:
    """The readings of `derms.telemetry` payloads. Does not block and raises for no content whatever.

    A payload is either whole in the columns or named in `broken`; one that is broken touches no other. With `known`
    the ids of the result begin with those, whether they occur or not: what is configured is found fastest that way.
    """
    known = known or _NOBODY
    raw, sizes = _bytes(payloads)
    columns, rows, refused = _walked(raw, sizes)
    asset = np.empty(rows, np.int32)
    others = known.find(raw, columns.id_at, columns.id_size, asset)
    power, imported, exported, stored = columns.values[:, :rows].view(np.float64)
    readings = Readings(
        ids=Ids(known.ids, others) if known.ids and others else others or known.ids,
        asset=asset,
        measured_at=columns.measured_at[:rows],
        power_w=power,
        import_wh=imported,
        export_wh=exported,
        stored_wh=stored,
        present=columns.present[:rows],
        phase=columns.enums[0, :rows],
        quality=columns.enums[1, :rows],
        payload=columns.payload[:rows],
        broken=[],
    )
    return _slowly(readings, payloads, refused, known) if refused else readings


def _bytes(payloads: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Them one behind the other, and the size of each."""
    if isinstance(payloads, Payloads):
        return np.frombuffer(payloads.raw, np.uint8), np.frombuffer(payloads.sizes, np.int64)
    return joined(payloads), np.fromiter(map(len, payloads), np.int64, len(payloads))


def _walked(raw: NDArray[np.uint8], sizes: NDArray[np.int64]) -> tuple[Columns, int, list[int]]:
    """What the compiled walk reads, how many rows of it, and the payloads it does not take."""
    columns = _columns(len(sizes) + len(raw) // _BYTES_A_READING)
    refusals = np.empty(len(sizes), np.int32)
    index = at = rows = refused = 0
    while True:
        index, at, rows, refused = walk(_TABLE, raw, sizes, index, at, rows, refused, columns, refusals)
        if index == len(sizes):
            return columns, rows, refusals[:refused].tolist()
        arrays: tuple[NDArray[Any], ...] = columns
        columns = Columns._make(np.concatenate((array, np.empty_like(array)), axis=-1) for array in arrays)


def _columns(room: int) -> Columns:
    return Columns(
        id_at=np.empty(room, np.int64),
        id_size=np.empty(room, np.int32),
        measured_at=np.empty(room, np.int64),
        values=np.empty((len(VALUES), room), np.uint64),
        present=np.empty(room, np.uint8),
        enums=np.empty((len(column_layouts.ENUMS), room), np.int8),
        payload=np.empty(room, np.int32),
    )


def _slowly(readings: Readings, payloads: Sequence[bytes], refused: list[int], known: KnownIds) -> Readings:
    """The readings, and those of the payloads the walk refused that can be read one by one; else why they cannot."""
    found: list[tuple[int, Measurement]] = []
    by_head: dict[bytes, str] = {}
    for index in refused:
        head = payloads[index][:HEADER_LENGTH]
        reason = by_head.get(head)
        if reason is None:
            try:
                found += [(index, one) for one in _measurements(decode(payloads[index], TELEMETRY))]
                continue
            except Undecodable as error:
                reason = str(error)
            if head not in _HEADS:  # then it is the same for all that begin like this
                by_head[head] = reason
        readings.broken.append((index, reason))
    return _with(readings, found, known) if found else readings


def _measurements(value: Value) -> Sequence[Measurement]:
    match value:
        case Measurement():
            return [value]
        case MeasurementBatch():
            return value.measurements
    return []


def _with(readings: Readings, found: list[tuple[int, Measurement]], known: KnownIds) -> Readings:
    """The readings and some more, each of a payload, in the order of these."""
    ids = list(readings.ids)
    others = {name: place for place, name in enumerate(ids[len(known.ids) :], len(known.ids))}
    for _, one in found:
        if one.asset_id not in known.places and one.asset_id not in others:
            others[one.asset_id] = len(ids)
            ids.append(one.asset_id)
    order = np.argsort(np.concatenate((readings.payload, np.array([index for index, _ in found], np.int32))), kind="stable")

    def column(name: str, more: list[Any]) -> NDArray[Any]:
        fast = getattr(readings, name)
        return np.concatenate((fast, np.array(more, fast.dtype)))[order]

    values = {name: column(name, [getattr(one, name) for _, one in found]) for name in VALUES}  # None becomes NaN
    return Readings(
        ids=ids,
        asset=column("asset", [known.places.get(one.asset_id, others.get(one.asset_id)) for _, one in found]),
        measured_at=column("measured_at", [to_ms(one.measured_at) for _, one in found]),
        present=column("present", [sum(bit for name, bit in VALUES.items() if getattr(one, name) is not None) for _, one in found]),
        phase=column("phase", [PHASES.index(one.phase) for _, one in found]),
        quality=column("quality", [QUALITIES.index(one.quality) for _, one in found]),
        payload=column("payload", [index for index, _ in found]),
        broken=readings.broken,
        **values,
    )
