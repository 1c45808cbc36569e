"""The running flow and a repair say the same of the same readings; together they say of late ones what is true."""

import random
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.repairing import Wanted
from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.repair import reached
from schemas.clock import FrozenClock
from schemas.telemetry import QuarterHour
from schemas.units import from_ms
from tests.rules.archived import ListedHistory, asset_row, repaired, repairer
from tests.rules.metering import START, Meter, differences
from tests.rules.reference_quarter_hours import Reading
from tests.rules.test_quarter_hours_dense import arriving, dense, metered
from tests.rules.test_quarter_hours_stream import fed, stream
from tests.rules.test_repair import CONFIG, END, rows_in, truth

CLOCK = FrozenClock(from_ms(START) + timedelta(days=10))
law = settings(max_examples=15, deadline=None, derandomize=True)
ALL = Wanted({f"asset-{n}": [(START - 3_600_000, END)] for n in range(3)})


def written(meter: Meter) -> list[QuarterHour]:
    return [asset_row(*place, content, revision=meter.revisions[place]) for place, content in meter.rows.items()]


def hull(spans: list[tuple[int, int]]) -> tuple[int, int]:
    return min(first for first, _ in spans), max(until for _, until in spans)


@law
@given(st.integers(0, 2**32), st.sampled_from([0, 60]))
def test_what_the_running_flow_wrote_a_repair_leaves_alone(seed: int, disorder_s: int) -> None:
    # Without long gaps: fallen values may confirm each other when the first one's quarter has just left the horizon.
    readings = stream(seed, disorder_s, gaps=False)
    history = ListedHistory(readings, written(fed(readings, random.Random(seed), shards=2)))
    assert repaired(history, CONFIG, CLOCK, ALL) == []


@law
@given(st.integers(0, 2**32), st.booleans())
def test_that_holds_for_dense_readings_too_also_where_seconds_have_several(seed: int, crowded: bool) -> None:
    rng = random.Random(seed)
    readings = dense(seed, wrong=0.01, resets=0.002)
    if crowded:
        more = [Reading(r.asset, r.at + rng.randrange(1, 1000), -5000.0, partition=r.partition) for r in readings if rng.random() < 0.2]
        readings = sorted([*readings, *more], key=lambda reading: reading.at)
    readings = arriving(readings, rng, 0 if crowded else 60)
    history = ListedHistory(readings, written(metered(readings, rng)))
    assert repaired(history, CONFIG, CLOCK, ALL) == []


@law
@given(st.integers(0, 2**32), st.sampled_from([1800, 6000, 20_000]))
def test_whatever_comes_however_late_is_true_once_it_is_repaired(seed: int, disorder_s: int) -> None:
    readings = stream(seed, disorder_s, conflicts=False)
    meter = fed(readings, random.Random(seed))
    history = ListedHistory(readings, written(meter))
    machine = repairer(history, CONFIG, CLOCK)
    asked: dict[str, list[tuple[int, int]]] = {}
    for late in (readings[offset] for offset in meter.late):
        asked.setdefault(late.asset, []).append(reached(late.at, MeterTiming()))
    spans = machine.beyond(asked, dict.fromkeys(asked, END))
    # Rows are never taken back.
    want = rows_in(history) | truth(readings)
    repaired(history, CONFIG, CLOCK, Wanted({asset: [hull(found)] for asset, found in spans.items()}))
    inside = {place for place in want if any(low <= place[2] < high for low, high in spans.get(place[0], []))}
    found = rows_in(history)
    assert differences({place: found[place] for place in inside}, {place: want[place] for place in inside}) == []
    # A reading within the horizon of its own quarter may come too late for the one beside it, and is not handed over for that.
    repaired(history, CONFIG, CLOCK, ALL)
    assert differences(rows_in(history), want) == []
