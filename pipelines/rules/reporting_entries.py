"""Quarter-hour rows as OSCP measurement entries: values, units, rounding, times (semantics 7.1).

Entries are plain dicts with the wire's names rather than wire models: a quarter's end brings 100,000 of
them, and a model each would cost more than everything else. Tests read them back through the models.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from schemas.config import Measurements, ReportDirection, Style
from schemas.intervals import QUARTER_MS
from schemas.telemetry import QuarterHour
from schemas.topology import Asset, Category
from schemas.units import W_PER_KW, Phase, from_ms, rfc3339, to_ms

MAX_ENTRIES = 1000
"""More entries than this go in further messages."""

Entry = dict[str, Any]
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Row(NamedTuple):
    """What reporting needs of a `QuarterHour`; small, because a quarter's end brings many at once. Energies in Wh."""

    level: str
    id: str
    phase: str
    start_ms: int
    import_wh: float
    export_wh: float
    import_register_wh: float | None
    export_register_wh: float | None
    stored_wh: float | None
    method: str
    missing_members: int
    revision: int
    at_ms: int
    event_id: str


def row_of(quarter: QuarterHour) -> Row:
    """The part of a final row that reporting needs."""
    return Row(
        quarter.level.value, quarter.id, quarter.phase.value, to_ms(quarter.start), quarter.import_wh, quarter.export_wh,
        quarter.import_register_wh, quarter.export_register_wh, quarter.stored_wh, quarter.method.value,
        quarter.missing_members, quarter.revision, to_ms(quarter.at), quarter.event_id,
    )  # fmt: skip


def _sum(values: list[float | None], *, all_of: bool) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and (len(known) == len(values) or not all_of) else None


def whole(rows: Iterable[Row]) -> Row | None:
    """The asset's row for phase ALL, else the sum of its phases' rows (as semantics 2 does for a meter); None without rows."""
    by_phase = {row.phase: row for row in rows}
    if not by_phase or Phase.ALL.value in by_phase:
        return by_phase.get(Phase.ALL.value)
    parts = [by_phase[phase] for phase in sorted(by_phase)]
    return parts[0]._replace(
        phase=Phase.ALL.value,
        import_wh=sum(part.import_wh for part in parts),
        export_wh=sum(part.export_wh for part in parts),
        import_register_wh=_sum([part.import_register_wh for part in parts], all_of=True),
        export_register_wh=_sum([part.export_register_wh for part in parts], all_of=True),
        stored_wh=_sum([part.stored_wh for part in parts], all_of=False),
    )


def value_wh(row: Row, direction: ReportDirection, style: Style) -> float | None:
    """What is reported for a direction, in Wh: the quarter's energy, or the register at its end; None where there is none."""
    intermittent = style is Style.INTERMITTENT
    imported, exported = (row.import_wh, row.export_wh) if intermittent else (row.import_register_wh, row.export_register_wh)
    if direction is ReportDirection.IMPORT:
        return imported
    if direction is ReportDirection.EXPORT:
        return exported
    return None if imported is None or exported is None else imported - exported


def in_unit(wh: float, unit: str) -> float:
    """Wh in the reported unit: 3 decimals in WH, 6 in KWH; never minus zero."""
    return (round(wh, 3) if unit == "WH" else round(wh / W_PER_KW, 6)) + 0.0


@lru_cache(256)
def _wire_time(ms: int) -> str:
    """The same few instants stand in all entries of a quarter's end."""
    return rfc3339(from_ms(ms))


def _energy(row: Row, direction: ReportDirection, style: Style, unit: str) -> Entry | None:
    wh = value_wh(row, direction, style)
    if wh is None:
        return None
    entry: Entry = {
        "value": in_unit(wh, unit),
        "phase": "ALL",
        "unit": unit,
        "direction": direction.value,
        "measure_time": _wire_time(row.start_ms + QUARTER_MS),
    }
    if style is Style.INTERMITTENT:
        entry["initial_measure_time"] = _wire_time(row.start_ms)
    return entry


def asset_entries(asset: Asset, row: Row, style: Style, wanted: Measurements) -> Iterator[tuple[str, Entry]]:
    """The asset's entries, one for each configured direction, each with the key under which changes are noticed.

    A STORAGE asset's first entry carries its state of charge (WH, at the quarter's end) where known.
    """
    stored = row.stored_wh if asset.category is Category.STORAGE else None
    for direction in wanted.directions[asset.category.value]:
        energy = _energy(row, direction, style, wanted.unit)
        if energy is None:
            continue
        entry: Entry = {"asset_id": asset.id, "asset_category": asset.category.value, "energy_measurement": energy}
        if stored is not None:
            entry["instantaneous_measurement"] = {
                "value": in_unit(stored, "WH"), "phase": "ALL", "unit": "WH", "measure_time": energy["measure_time"],
            }  # fmt: skip
            stored = None
        yield f"{asset.id}\x1f{direction.value}", entry


def group_entries(row: Row, style: Style, wanted: Measurements) -> Iterator[tuple[str, Entry]]:
    """The group's entries, one for each configured direction."""
    for direction in wanted.directions["group"]:
        if (energy := _energy(row, direction, style, wanted.unit)) is not None:
            yield f"\x1f{direction.value}", energy


_MARK = struct.Struct("<IQ")
Marks = dict[int, int]
"""What entries said when they were told last: fingerprints of their texts, by those of their keys."""


def marks_of(told: bytes) -> Marks:
    """The marks kept as `told`."""
    return dict(_MARK.iter_unpack(told))


def kept(marks: Marks) -> bytes:
    """The marks as bytes: of 100,000 entries in nine quarters a tenth of what keys and numbers take."""
    return b"".join(_MARK.pack(*each) for each in marks.items())


def news(marks: Marks, key: str, text: str) -> bool:
    """Whether the entry differs from what was told under its key; from now on it is told.

    Where two keys have the same fingerprint their entries are told once more than need be, since the texts differ.
    """
    known, mark = zlib.crc32(key.encode()), int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    if marks.get(known) == mark:
        return False
    marks[known] = mark
    return True


def text_of(entry: Entry | str) -> str:
    """The JSON text of an entry, the same for the same entry on every run."""
    return _ENCODER.encode(entry)


def bodies(group_id: str, entries: list[str]) -> Iterator[str]:
    """Entries, as text, in message bodies of at most `MAX_ENTRIES`; no entries, no body."""
    for first in range(0, len(entries), MAX_ENTRIES):
        yield f'{{"group_id":{text_of(group_id)},"measurements":[{",".join(entries[first : first + MAX_ENTRIES])}]}}'
