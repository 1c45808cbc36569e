"""The quarter-hour rule: what a set of readings amounts to (semantics 1.1 to 1.7). Pure arithmetic on columns.

Rows are a function of the readings alone: order of arrival, duplicates and the cut of polls do not show in them.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_power import PowerEnergy, power_energy
from pipelines.rules.quarter_readings import ESTIMATED, EXPORT, IMPORT, STORED, Flags, Floats, Ints, Table, in_order, position
from pipelines.rules.quarter_registers import HOUR_MS, Counted, counted, register_energy
from schemas.clock import Clock
from schemas.config import Timing
from schemas.intervals import MINUTES_PER_QUARTER, QUARTER_MS
from schemas.telemetry import Method

DEFAULT_MAX_W = 1_000_000.0
"""How much power a fallen register may stand for where an asset has no `max_w` (semantics 1.2)."""

METHODS = (Method.POWER, Method.REGISTER)

CONTENT = ("import_wh", "export_wh", "mean_w", "min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh", "coverage")
ROW = np.dtype(
    [
        ("key", np.int32), ("start", np.int64), *((name, np.float64) for name in CONTENT), ("last_minute_w", np.float64),
        ("samples", np.int32), ("left_out", np.int32), ("method", np.int8), ("estimated", np.bool_), ("reset", np.bool_),
    ],
    align=True,
)  # fmt: skip
"""One quarter of one key. NaN where a `QuarterHour` has None; `method` indexes `METHODS`; `left_out` counts register values left out."""


@dataclass(frozen=True, slots=True)
class MeterTiming:
    """The durations of semantics 1 in ms, allowances already widened by the clock.

    `horizon` is how long before the watermark a quarter may end and still be revised.
    """

    lateness: int = 60_000
    idle_after: int = 10_000
    register_wait: int = 120_000
    max_interpolation: int = 3_600_000
    max_hold: int = 300_000
    horizon: int = 3_600_000
    future: int = 120_000
    provisional_every: int = 60_000
    report_deadline: int = 300_000
    expiry: int = 604_800_000

    @classmethod
    def of(cls, timing: Timing, clock: Clock) -> "MeterTiming":
        """The configured durations; those for slow machinery at least the clock's floor (semantics, head)."""
        wait = clock.allowance(timing.register_wait)
        return cls(
            lateness=_ms(clock.allowance(timing.lateness)),
            idle_after=_ms(clock.allowance(timing.idle_after)),
            register_wait=_ms(wait),
            max_interpolation=_ms(timing.max_interpolation),
            max_hold=_ms(timing.max_hold),
            # A quarter must not leave before it can have been closed.
            expiry=_ms(timing.asset_expiry),
            horizon=_ms(max(timing.correction_horizon, timing.max_interpolation, wait)),
            future=_ms(clock.allowance(timing.future)),
            provisional_every=_ms(timing.provisional_every),
            report_deadline=_ms(clock.allowance(timing.report_deadline)),
        )


class Judged(NamedTuple):
    """A table in order, and which of its register values count."""

    readings: Table
    imported: Counted
    exported: Counted


def tolerant() -> np.errstate:
    """Absurd but finite values must not stop a batch: they overflow without a word."""
    return np.errstate(over="ignore", invalid="ignore")


def judged(readings: Table, max_w: Floats) -> Judged:
    """The distinct readings of a table in order of arrival, their registers judged. `max_w` is by key."""
    readings = in_order(readings).readings
    with tolerant():
        return Judged(readings, counted(readings, "import_wh", IMPORT, max_w), counted(readings, "export_wh", EXPORT, max_w))


def rows_of(known: Judged, key: NDArray[Any], start: Ints, timing: MeterTiming, until: int | None = None) -> NDArray[np.void]:
    """The rows (`ROW`) of the quarters (key, start), given in that order; quarters without energy have none.

    `known` is all that is known of these keys, at any instants. With `until`, an instant in ms, time ends there: the
    rows of quarters still running.
    """
    with tolerant():
        return _rows(known, key.astype(np.int32), start, timing, until)


def _rows(known: Judged, key: NDArray[np.int32], start: Ints, timing: MeterTiming, until: int | None) -> NDArray[np.void]:
    readings = known.readings
    power = power_energy(readings, key, start, timing.max_hold, until)
    own, quarter = _own(readings, key, start)
    stored, newest = np.full(len(key), np.nan), np.zeros(len(key), np.int64)
    some = (own["flags"] & STORED) != 0
    stored[quarter[some]] = own["stored_wh"][some]  # in order: the last one stays
    newest[quarter] = own["at"]
    estimated = np.bincount(quarter[(own["flags"] & ESTIMATED) != 0], minlength=len(key)) > 0
    inside = Inside(np.bincount(quarter, minlength=len(key)), estimated, stored, newest)
    return assembled(known, power, inside, key, start, timing, running=until is not None)


class Inside(NamedTuple):
    """What is known of the readings inside each quarter: their number, flags, last state of charge, newest instant (0: none)."""

    samples: Ints
    estimated: Flags
    stored_wh: Floats
    newest: Ints


def assembled(
    known: Judged, power: PowerEnergy, inside: Inside, key: NDArray[np.int32], start: Ints, timing: MeterTiming, *, running: bool
) -> NDArray[np.void]:
    """The rows (`ROW`) of quarters from what power, registers and the readings inside say of them; those without energy have none."""
    imported, exported = (register_energy(one, key, start, timing.max_interpolation) for one in (known.imported, known.exported))
    by_register = ~np.isnan(imported.wh) | ~np.isnan(exported.wh)

    rows = np.zeros(len(key), ROW)
    rows["key"], rows["start"], rows["method"] = key, start, by_register
    rows["import_wh"] = np.where(np.isnan(imported.wh), power.import_wh, imported.wh)
    rows["export_wh"] = np.where(np.isnan(exported.wh), power.export_wh, exported.wh)
    net = rows["import_wh"] - rows["export_wh"]
    rows["mean_w"] = np.where((power.inside > 0) & ~np.isnan(power.mean_w), power.mean_w, net * (HOUR_MS / QUARTER_MS))
    rows["min_w"], rows["max_w"] = power.min_w, power.max_w
    rows["import_register_wh"], rows["export_register_wh"] = imported.register_wh, exported.register_wh
    of_registers = np.fmin(*(np.where(np.isnan(one.wh), np.nan, one.coverage) for one in (imported, exported)))
    rows["coverage"] = np.where(by_register, of_registers, power.covered / MINUTES_PER_QUARTER)
    rows["reset"] = imported.reset | exported.reset
    rows["samples"], rows["estimated"], rows["stored_wh"] = inside.samples, inside.estimated, inside.stored_wh
    for one in (known.imported, known.exported):
        if len(one.left_out):
            rows["left_out"] += np.bincount(_own(known.readings[one.left_out], key, start)[1], minlength=len(key)).astype(np.int32)

    rows["last_minute_w"] = power.last_minute_w
    if running:
        _project(rows, power.inside, inside.newest)
    return rows[by_register | ((power.inside > 0) & ((power.covered > 0) | (not running)))]


def _own(readings: Table, key: NDArray[np.int32], start: Ints) -> tuple[Table, Ints]:
    """The readings inside one of the quarters, and for each the quarter's index."""
    quarter = np.searchsorted(position(key, start), position(readings["key"], readings["at"]), side="right") - 1
    own = np.flatnonzero(quarter >= 0)
    which = quarter[own]
    own = own[(readings["key"][own] == key[which]) & (readings["at"][own] < start[which] + QUARTER_MS)]
    return readings[own], quarter[own]


def _project(rows: NDArray[np.void], inside: Ints, newest: Ints) -> None:
    """Without power, `last_minute_w` of a running quarter is the mean since its start (semantics 5, at risk)."""
    elapsed = newest - rows["start"]
    mean = (rows["import_wh"] - rows["export_wh"]) * HOUR_MS / np.maximum(elapsed, 1)
    rows["last_minute_w"] = np.where(inside > 0, rows["last_minute_w"], np.where(elapsed > 0, mean, np.nan))


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
