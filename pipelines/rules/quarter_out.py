"""What a shard found beside rows, as values for topics: late readings, and what a person may want to read (semantics 1)."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import numpy as np

from pipelines.records import Out
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_readings import ESTIMATED, EXPORT, IMPORT, POWER, STORED
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.quarter_state import Step
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.intervals import QUARTER_MS
from schemas.telemetry import LateMeasurement, Measurement, Quality
from schemas.topics import EVENTS, LATE_TELEMETRY
from schemas.units import Phase, from_ms, rfc3339

PHASES = tuple(Phase)
_FLAGS = {"power_w": POWER, "import_wh": IMPORT, "export_wh": EXPORT, "stored_wh": STORED}


def late_readings(keys: Keys, found: Step, now: datetime) -> Iterator[Out]:
    """The readings that came after their quarter's correction horizon (1.10)."""
    for readings, offsets, watermarks in found.late:
        for reading, offset, watermark in zip(readings, offsets.tolist(), watermarks.tolist(), strict=True):
            key = reading["key"]
            partition = int(keys.home[key])
            asset_id, phase = keys.assets[keys.asset[key]], PHASES[keys.phase[key]]
            at, flags = int(reading["at"]), int(reading["flags"])
            late = LateMeasurement(
                event_id=derived_id("late", partition, offset, asset_id, phase, at),
                at=now,
                measurement=Measurement(
                    asset_id=asset_id,
                    measured_at=from_ms(at),
                    phase=phase,
                    quality=Quality.ESTIMATED if flags & ESTIMATED else Quality.GOOD,
                    **{name: float(reading[name]) for name, flag in _FLAGS.items() if flags & flag},
                ),
                watermark=from_ms(watermark),
                partition=partition,
                offset=offset,
            )
            yield Out(LATE_TELEMETRY, asset_id, late)


def oddities(keys: Keys, found: Step, roster: Roster, now: datetime) -> Iterator[Out]:
    """Registers that fell or were reset, and readings of one identity that differ (1.2, 1.6)."""
    told: list[tuple[str, Severity, int, int, int, str]] = []
    for rows in found.rows:
        for row in rows[(rows["left_out"] > 0) | rows["reset"]]:
            key, start, count = int(row["key"]), int(row["start"]), int(row["left_out"])
            if count:
                told.append(("register_fell", Severity.WARNING, key, start, count, f"register fell: {count} values were left out"))
            if row["reset"]:
                told.append(("register_reset", Severity.INFO, key, start, 1, "a register began anew"))
    for of_keys, instants in found.conflicts:
        pairs, counts = np.unique(
            np.stack((of_keys.astype(np.int64), instants // QUARTER_MS * QUARTER_MS), axis=1), axis=0, return_counts=True
        )
        for (key, start), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            words = f"{count} readings differ from the first of their instant and do not count"
            told.append(("conflicting_readings", Severity.WARNING, key, start, count, words))
    for kind, severity, key, start, count, words in told:
        asset_id, phase = keys.assets[keys.asset[key]], PHASES[keys.phase[key]]
        where = f"{asset_id}, quarter hour from {rfc3339(from_ms(start))}"
        yield _event(kind, asset_id, (phase, start, count), roster, now, severity, f"{where}: {words}")


def strays(found: Iterable[tuple[str, int, int]], roster: Roster, now: datetime) -> Iterator[Out]:
    """Assets that speak on a second partition, where one asset must always be on one (contract 4)."""
    for asset_id, home, other in found:
        words = f"{asset_id} is on partition {home} of the telemetry topic, and now on {other} as well: its producers key it differently"
        yield _event("asset_on_second_partition", asset_id, (home, other), roster, now, Severity.WARNING, words)


def _event(kind: str, asset_id: str, of: tuple[object, ...], roster: Roster, now: datetime, severity: Severity, words: str) -> Out:
    event = Event(
        event_id=derived_id(kind, asset_id, *of),
        at=now,
        subject_kind=SubjectKind.ASSET,
        subject_id=asset_id,
        kind=kind,
        severity=severity,
        words=words,
    )
    return Out(EVENTS, roster.scope_of(asset_id) or asset_id, event)
