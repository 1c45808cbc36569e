"""Quarters computed again from the history: as if everything had come in time (semantics 1.10)."""

import random
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.repairing import Wanted
from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.repair import reached
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.telemetry import QuarterHour
from schemas.units import from_ms, to_ms
from tests.rules.archived import ListedHistory, asset_row, content_of, repaired, repairer
from tests.rules.metering import START, differences
from tests.rules.reference_quarter_hours import QUARTER, Reading, quarter_row
from tests.rules.test_quarter_hours_stream import stream

law = settings(max_examples=60, deadline=None, derandomize=True)
CLOCK = FrozenClock(from_ms(START) + timedelta(days=10))
END = START + 10 * 86_400_000
HOUR = 3_600_000
Rows = dict[tuple[str, int, int], dict[str, Any]]


def configured(*assets: str, **timing: Any) -> Configuration:
    items = [{"id": asset, "scope_id": "s", "category": "CONSUMPTION"} for asset in assets]
    return Configuration.model_validate({"scopes": [{"id": "s"}], "assets": items, "timing": timing})


CONFIG = configured(*(f"asset-{n}" for n in range(3)))


def truth(readings: list[Reading]) -> Rows:
    """All rows of a set of readings, by the slow reference."""
    by_key: dict[tuple[str, int], list[Reading]] = {}
    for reading in sorted(ListedHistory(readings).kept.values(), key=lambda reading: reading.at):
        by_key.setdefault((reading.asset, reading.phase), []).append(reading)
    rows: Rows = {}
    for (asset, phase), found in by_key.items():
        quarters = {reading.at // QUARTER * QUARTER for reading in found}
        for start in {quarter - back for quarter in quarters for back in range(0, HOUR + 1, QUARTER)}:
            if (row := quarter_row(found, start)) is not None:
                rows[asset, phase, start] = row
    return rows


def rows_in(history: ListedHistory) -> Rows:
    phases = {"ALL": 0, "ONE": 1, "TWO": 2, "THREE": 3}
    return {(row.id, phases[row.phase.value], to_ms(row.start)): content_of(row) for row in history.last.values()}


def written(rows: Rows) -> list[QuarterHour]:
    return [asset_row(asset, phase, start, content) for (asset, phase, start), content in rows.items()]


@law
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_late_readings_and_a_repair_give_the_rows_they_would_have_given_in_time(seed: int, share: int) -> None:
    readings = stream(seed, 0, conflicts=False)
    rng = random.Random(seed)
    late = {(r.asset, r.phase, r.at) for r in readings if rng.random() < share / 20}
    in_time = [r for r in readings if (r.asset, r.phase, r.at) not in late]
    history = ListedHistory(in_time, written(truth(in_time)))
    before = dict(history.last)
    history.add(readings)
    machine = repairer(history, CONFIG, CLOCK)
    asked: dict[str, list[tuple[int, int]]] = {}
    for asset, _, at in late:
        asked.setdefault(asset, []).append(reached(at, MeterTiming()))
    spans = machine.beyond(asked, dict.fromkeys(asked, END))
    joined = {asset: [(min(first for first, _ in found), max(until for _, until in found))] for asset, found in spans.items()}
    rows = repaired(history, CONFIG, CLOCK, Wanted(joined))
    want = truth(readings)
    # A row is never taken back: what a late reading made doubtful stays as it was known.
    want |= {place: content for place, content in rows_in(history).items() if place not in want}
    assert differences(rows_in(history), want) == []
    for row in rows:
        old = before.get((row.level, row.id, row.phase.value, to_ms(row.start)))
        beside = old is not None and row.revision == old.revision  # another phase of its quarter
        assert row.revision == (1 if old is None or beside else 2)
        assert not beside or (old is not None and content_of(row) == content_of(old))
    assert repaired(history, CONFIG, CLOCK, Wanted(joined)) == []
