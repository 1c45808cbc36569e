"""Readings faster than one a minute: register values are thinned out and minutes summed, and no row may show it."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.quarter_minutes import in_order
from pipelines.rules.quarter_readings import no_readings
from tests.rules.metering import START, Meter, differences, roster
from tests.rules.reference_quarter_hours import MINUTE, QUARTER, Reading, Reference

law = settings(max_examples=12, deadline=None, derandomize=True)


def dense(seed: int, *, wrong: float = 0.0, resets: float = 0.0) -> list[Reading]:
    """Two assets for most of an hour at 2 to 30 s, registers rising; a share of them resets, or is plainly wrong."""
    rng = random.Random(seed)
    readings = []
    for asset in range(2):
        at, import_wh, export_wh = START + rng.randrange(QUARTER), rng.choice([0.0, 1e6, 7e7]), 500.0
        every = rng.choice([2, 5, 15, 30])
        for _ in range(rng.choice([200, 400]) * 5 // every + 10):
            at += 1000 * (every if rng.random() < 0.97 else rng.choice([61, 240, 1000]))
            import_wh, export_wh = import_wh + rng.choice([0.0, 1.4, 7.0]), export_wh + rng.choice([0.0, 0.2])
            if rng.random() < resets:
                import_wh = rng.choice([0.0, 2.0])
            value = import_wh if rng.random() >= wrong else max(0.0, import_wh + rng.choice([-1e6, -3.0, 0.5, 800.0]))
            both = rng.random() < 0.8
            readings.append(Reading(f"asset-{asset}", at, rng.uniform(-500, 3000), value, export_wh if both else None, partition=asset))
    return readings


def arriving(readings: list[Reading], rng: random.Random, disorder_s: int) -> list[Reading]:
    return sorted(readings, key=lambda reading: reading.at + rng.randrange(1000 * disorder_s + 1))


def metered(readings: list[Reading], rng: random.Random) -> Meter:
    meter = Meter(roster({"asset-0", "asset-1"}), files=True)
    first = 0
    while first < len(readings):
        size = rng.choice([1, 7, 50, 400])
        meter.poll(readings[first : first + size])
        first += size
        if rng.random() < 0.05:
            meter.restart()
    meter.close()
    return meter


def expected(readings: list[Reading]) -> Reference:
    reference = Reference()
    for reading in readings:
        reference.read(reading)
    return reference


@law
@given(st.integers(0, 2**32), st.sampled_from([0, 20, 60]))
def test_whatever_comes_within_the_lateness_is_exact(seed: int, disorder_s: int) -> None:
    rng = random.Random(seed)
    readings = arriving(dense(seed, wrong=0.02, resets=0.003), rng, disorder_s)
    assert differences(metered(readings, rng).rows, expected(readings).rows()) == []


@law
@given(st.integers(0, 2**32))
def test_true_registers_are_exact_however_late_they_come(seed: int) -> None:
    rng = random.Random(seed)
    readings = arriving(dense(seed), rng, 1800)
    meter, reference = metered(readings, rng), expected(readings)
    assert differences(meter.rows, reference.rows()) == []
    assert len(meter.late) == len(reference.late)


@law
@given(st.integers(0, 2**32))
def test_a_late_value_that_fits_nowhere_is_handed_to_a_repair(seed: int) -> None:
    rng = random.Random(seed)
    readings = dense(seed)
    odd = rng.randrange(len(readings) // 4, len(readings) // 2)
    spike = readings[odd]
    late = Reading(spike.asset, spike.at + 1000, None, (spike.imported or 0.0) + 50_000.0, partition=spike.partition)
    at = min(len(readings), odd + len(readings) // 4)
    meter = metered([*readings[:at], late, *readings[at:]], rng)
    plain = metered(readings, rng)
    quarter = late.at // QUARTER * QUARTER
    touched = {key for key, *_ in differences(meter.rows, plain.rows)}
    assert bool(meter.late) or touched  # never without a word
    assert touched <= {(late.asset, 0, quarter + step * QUARTER) for step in (-1, 0, 1)}


def test_state_does_not_grow_with_the_rate() -> None:
    kept = []
    for every in (5, 30):
        meter = Meter(roster({"a"}))
        steps = range(0, 3 * QUARTER, 1000 * every)
        meter.poll([Reading("a", START + step, 100.0, step / 1e4, step / 1e5) for step in steps])
        meter.close(0.5)
        kept.append(len(meter.shards[0].kept))
    assert kept[0] == kept[1] <= 6


def test_an_order_made_to_hurt_costs_no_more_than_a_sort() -> None:
    size = 200_000
    rows = no_readings(size)
    rows["at"] = START + np.arange(size)[::-1]
    order = in_order(rows, 1)
    assert (np.diff(rows["at"][order]) > 0).all()


class TestExpiry:
    def test_an_asset_not_heard_of_leaves_and_may_come_back(self) -> None:
        meter = Meter(roster({"a", "b"}, asset_expiry="PT4H"))
        meter.poll([Reading("a", START, 60.0, 5.0), Reading("b", START, 60.0, 7.0)])
        for minute in range(0, 8 * 60, 5):
            meter.poll([Reading("b", START + minute * MINUTE + 1, 60.0, 7.0 + minute)])
            if minute == 200:
                assert len(meter.shards[0].keys) == 2
        shard = meter.shards[0]
        assert (shard.keys.assets, list(shard.home), len(shard.slots.base_at)) == (["b"], ["b"], 1)
        assert set(shard.kept["key"].tolist()) == {0}
        meter.restart()
        back = START + 8 * 60 * MINUTE
        meter.poll([Reading("a", back, 60.0, 1.0), Reading("b", back + 1, 60.0, 900.0)])
        meter.close()
        assert meter.rows["a", 0, back]["samples"] == 1
        assert meter.revisions["b", 0, back] == 1


class TestStoredQuarters:
    def test_a_closed_quarter_is_stored_once_and_again_when_it_was_touched(self) -> None:
        meter = Meter(roster({"a", "b"}), files=True)
        assert meter.files == {}
        meter.poll([Reading("a", START, 60.0), Reading("b", START, 60.0, partition=1)])
        meter.poll([Reading("a", START + 17 * MINUTE, 60.0), Reading("b", START + 17 * MINUTE, 60.0, partition=1)])
        meter.restart()
        assert len(meter.files) == 1
        meter.restart()
        assert len(meter.files) == 1
        meter.poll([Reading("a", START + 5 * MINUTE, 90.0)])
        meter.restart()
        assert len(meter.files) == 2
        assert set(meter.shards[0].segments) == {(0, START), (1, START)}
        assert len(set(meter.shards[0].segments.values())) == 2
        meter.poll([Reading("a", START + 5 * MINUTE, 90.0)])  # the same again: nothing to store
        assert meter.revisions["a", 0, START] == 2
        meter.close()
        assert meter.rows["a", 0, START]["samples"] == 2
