"""Quarters of assets computed again from all readings the history has (semantics 1.10). Pure: columns in, contents out.

The arithmetic is the plain one over a table of readings (`quarter_hours`); here is what it is given, and for which quarters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_hours import DEFAULT_MAX_W, METHODS, MeterTiming, judged, rows_of
from pipelines.rules.quarter_readings import BITS, ESTIMATED, EXPORT, IMPORT, VALUES, Flags, Floats, Ints, Table, no_readings, position
from pipelines.rules.quarter_registers import CONFIRMING
from pipelines.rules.quarter_rejects import GOOD, REASONS, verdicts
from schemas.intervals import QUARTER_MS
from schemas.units import Phase

Span = tuple[int, int]
"""Quarters from one start to another (ms), the latter not among them."""
Place = tuple[str, str, int]
"""An asset, a phase and a quarter's start."""
Content = dict[str, Any]
"""What a row says: the fields of a `QuarterHour` but its name, revision and origin."""

REGISTERS_BEFORE = 16
"""So many register readings before the stretch that energy is taken from say which values in it count (1.2)."""
REGISTERS_AFTER = CONFIRMING + 1
"""So many behind it may confirm fallen ones; and no more may be judged otherwise for a reading that came late."""
PHASES = tuple(Phase)
_NUMBERS = ("import_wh", "export_wh", "mean_w", "min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh")
_SECOND_MS = 1_000


def reach_ms(timing: MeterTiming) -> int:
    """How far from a quarter a reading may lie that its energy is taken from: before it, and for registers behind it."""
    return max(timing.max_interpolation, timing.max_hold)


def open_from_ms(now: int, timing: MeterTiming, margin: int, lag: int = 0) -> int:
    """Quarters that end later than this belong to the running flow, which may still revise them.

    `lag` is how far event time is known to be behind the clock beyond the lateness.
    """
    return now - timing.lateness - timing.horizon - margin - lag


def reached(at: int, timing: MeterTiming) -> Span:
    """The quarters whose energy a reading may have a part in."""
    reach = reach_ms(timing)
    return max(0, (at - reach) // QUARTER_MS * QUARTER_MS), ((at + reach) // QUARTER_MS + 1) * QUARTER_MS


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of some assets, none of them BAD, one an identity, in any order. `asset` indexes `ids`, `phase` the phases.

    `values` are power, import, export and stored, NaN where absent; `present` has their bits.
    """

    ids: list[str]
    asset: NDArray[np.int32]
    phase: NDArray[np.int8]
    at: Ints
    values: tuple[Floats, ...]
    present: NDArray[np.uint8]
    estimated: Flags


@dataclass(slots=True)
class Recomputed:
    """The quarters' contents; how many readings the history has of each quarter, used or not; which were left out, and why."""

    contents: dict[Place, Content] = field(default_factory=dict)
    archived: Counter[Place] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def recompute(
    columns: Columns, spans: Mapping[str, Span], limits: Mapping[str, float | None], timing: MeterTiming, latest: int
) -> Recomputed:
    """What the quarters of `spans` amount to, by all there is in `columns`.

    Those must reach `reach_ms` beyond the spans, and registers further (`REGISTERS_BEFORE`, `REGISTERS_AFTER`). `limits`
    has each asset's `max_w`; an asset without a span or unknown there is left out. `latest` (ms) is as in `verdicts`.
    """
    found = Recomputed()
    known = np.array([name in spans and name in limits for name in columns.ids], np.bool_)[columns.asset]
    max_w = np.array([_nan(limits.get(name)) for name in columns.ids], np.float64)
    values = dict(zip(BITS, columns.values, strict=True))
    bad = np.zeros(len(known), np.bool_)
    reasons = verdicts(columns.at, columns.present, values, known, max_w[columns.asset], bad, latest)
    for reason, count in zip(*np.unique(reasons[(reasons != GOOD) & known], return_counts=True), strict=True):
        found.left_out[REASONS[reason]] += int(count)

    pairs, key = np.unique(columns.asset.astype(np.int64) * len(PHASES) + columns.phase, return_inverse=True)
    names = [(columns.ids[pair // len(PHASES)], PHASES[pair % len(PHASES)].value) for pair in pairs.tolist()]
    _count(found, names, key, columns.at, known)

    table = _table(columns, key.astype(np.int32), np.flatnonzero(reasons == GOOD))
    keys, starts = _quarters(names, table, spans)
    if not len(keys):
        return found
    of_key = max_w[pairs // len(PHASES)]
    rows = rows_of(judged(table, np.where(np.isnan(of_key), DEFAULT_MAX_W, of_key)), keys, starts, timing)
    for row in rows:
        asset, phase = names[row["key"]]
        found.contents[asset, phase, int(row["start"])] = _content(row)
    return found


def _count(found: Recomputed, names: list[tuple[str, str]], key: Ints, at: Ints, known: Flags) -> None:
    both, counts = np.unique(position(key[known], at[known] // QUARTER_MS * QUARTER_MS), return_counts=True)
    low = int(position(np.ones(1, np.int64), np.zeros(1, np.int64))[0])
    for where, count in zip(both.tolist(), counts.tolist(), strict=True):
        found.archived[*names[where // low], where % low] = count


def _table(columns: Columns, key: NDArray[np.int32], rows: Ints) -> Table:
    """The rows as a table in order, thinned to the earliest instant in each second (1.6)."""
    rows = rows[np.argsort(position(key[rows], columns.at[rows]), kind="stable")]
    second = position(key[rows], columns.at[rows] // _SECOND_MS)
    rows = rows[np.concatenate((np.ones(min(1, len(rows)), np.bool_), second[1:] != second[:-1]))]
    table, present = no_readings(len(rows)), columns.present[rows]
    table["key"], table["at"] = key[rows], columns.at[rows]
    table["flags"] = present | columns.estimated[rows] * np.uint8(ESTIMATED)
    for name, bit, column in zip(VALUES, BITS, columns.values, strict=True):
        table[name] = np.where(present & bit, column[rows], 0.0)
    return table


def _quarters(names: list[tuple[str, str]], table: Table, spans: Mapping[str, Span]) -> tuple[NDArray[np.int32], Ints]:
    """Key and start of each quarter to compute, in order: those of the spans of the keys that have readings."""
    keys = [int(key) for key in np.unique(table["key"])]
    starts = [np.arange(*spans[names[key][0]], QUARTER_MS, dtype=np.int64) for key in keys]
    sizes = [len(each) for each in starts]
    return np.repeat(np.array(keys, np.int32), sizes), np.concatenate(starts) if starts else np.zeros(0, np.int64)


def _content(row: Any) -> Content:
    content: Content = {name: _some(float(row[name])) for name in _NUMBERS}
    imported, exported = content["import_wh"], content["export_wh"]
    return content | {
        "net_wh": imported - exported,
        "samples": int(row["samples"]),
        "coverage": float(row["coverage"]),
        "method": METHODS[row["method"]],
        "missing_members": 0,
        "estimated": bool(row["estimated"]),
        "reset": bool(row["reset"]),
    }


def register_assets(columns: Columns) -> list[str]:
    """The assets that have a register reading among these."""
    some = np.unique(columns.asset[(columns.present & (IMPORT | EXPORT)) != 0])
    return [columns.ids[asset] for asset in some.tolist()]


def by_asset(instants: Mapping[tuple[str, str], Sequence[int]]) -> dict[str, list[int]]:
    """The instants of each asset, whatever the phase."""
    found: dict[str, list[int]] = {}
    for (asset, _), some in instants.items():
        found.setdefault(asset, []).extend(some)
    return found


def joined(parts: list[Columns]) -> Columns:
    """Several columns as one; a reading that is in two of them is in the result once."""
    ids = list(dict.fromkeys(name for part in parts for name in part.ids))
    place = {name: index for index, name in enumerate(ids)}
    asset = np.concatenate([np.array([place[name] for name in part.ids], np.int32)[part.asset] for part in parts])
    phase, at = (np.concatenate([getattr(part, name) for part in parts]) for name in ("phase", "at"))
    _, rows = np.unique(position(asset.astype(np.int64) * len(PHASES) + phase, at), return_index=True)
    return Columns(
        ids, asset[rows], phase[rows], at[rows],
        tuple(np.concatenate([part.values[column] for part in parts])[rows] for column in range(len(VALUES))),
        np.concatenate([part.present for part in parts])[rows],
        np.concatenate([part.estimated for part in parts])[rows],
    )  # fmt: skip


def _some(value: float) -> float | None:
    return None if isnan(value) else value


def _nan(value: float | None) -> float:
    return np.nan if value is None else value
