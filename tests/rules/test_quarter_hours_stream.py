"""The columnar rule against the slow reference: disorder, duplicates, resets, gaps, two phases, polls and restarts anywhere."""

import random
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.quarter_parts import Silence
from tests.rules.metering import START, Meter, differences, minutes, roster
from tests.rules.reference_quarter_hours import MINUTE, QUARTER, Reading, Reference

law = settings(max_examples=30, deadline=None, derandomize=True)

KINDS = {"power": (1.0, 0.0, 0.0), "register": (0.0, 1.0, 0.6), "both": (0.9, 0.9, 0.5), "import": (0.3, 1.0, 0.0)}
STEPS = [1, 5, 20, 60, 60, 60, 300, 900]
GAPS = [1200, 2400, 3600, 4000, 8000]


def stream(seed: int, disorder_s: int, *, conflicts: bool = True, gaps: bool = True) -> list[Reading]:
    """Some hours of up to three assets on two partitions, in an order of arrival that is off by at most `disorder_s`."""
    rng = random.Random(seed)
    arrivals: list[tuple[int, Reading]] = []
    for asset in range(rng.choice([1, 2, 3])):
        power, imported, exported = KINDS[rng.choice(list(KINDS))]
        at, import_wh, export_wh = START + rng.randrange(QUARTER), rng.choice([0.0, 100.0, 5e6]), rng.choice([0.0, 1000.0])
        for _ in range(rng.choice([3, 30, 70])):
            at += 1000 * rng.choice(STEPS if rng.random() < 0.96 or not gaps else GAPS)
            if rng.random() < 0.1:
                at = -(-at // QUARTER) * QUARTER
            if rng.random() < 0.3:
                at += rng.randrange(1000)
            import_wh, export_wh = import_wh + rng.choice([0, 1.5, 10, 100]), export_wh + rng.choice([0, 0, 0.1, 7])
            if rng.random() < 0.06:
                import_wh = rng.choice([0.0, 5.0, max(0.0, import_wh - rng.choice([0.5, 1000, 4e5]))])
            reading = Reading(
                f"asset-{asset}",
                at,
                rng.choice([0.0, 100.0, rng.uniform(-3000, 3000)]) if rng.random() < power else None,
                (import_wh if rng.random() > 0.05 else import_wh - rng.choice([1, 10, 1e6])) if rng.random() < imported else None,
                export_wh if rng.random() < exported else None,
                rng.uniform(0, 1000) if rng.random() < 0.2 else None,
                int(gaps and rng.random() < 0.15),
                rng.choice(["GOOD"] * 20 + ["BAD", "ESTIMATED"]),
                partition=asset % 2,
            )
            if (reading.power, reading.imported, reading.exported, reading.stored) == (None,) * 4:
                continue
            for again in range(rng.choice([1] * 20 + [2, 3])):
                other = conflicts and again and rng.random() < 0.3
                arrivals.append((at + rng.randrange(disorder_s * 1000 + 1), replace(reading, power=-1.0) if other else reading))
    return [reading for _, reading in sorted(arrivals, key=lambda arrival: arrival[0])]


def fed(readings: list[Reading], cuts: random.Random | None = None, *, restart: bool = False, shards: int = 1) -> Meter:
    """A meter that took these in, in polls cut anywhere, and through snapshots anywhere."""
    meter = Meter(roster({f"asset-{n}" for n in range(3)}), shards, files=bool(len(readings) % 2))
    first = 0
    while first < len(readings):
        size = cuts.choice([1, 1, 3, 20, 200]) if cuts else len(readings)
        meter.poll(readings[first : first + size])
        first += size
        if restart and cuts and cuts.random() < 0.3:
            meter.restart()
    meter.close()
    return meter


@law
@given(st.integers(0, 2**32), st.sampled_from([0, 60, 60, 1800, 6000]), st.booleans(), st.sampled_from([1, 3]))
def test_it_equals_the_reference(seed: int, disorder_s: int, restart: bool, shards: int) -> None:
    readings = stream(seed, disorder_s)
    reference = Reference()
    for reading in readings:
        reference.read(reading)
    meter = fed(readings, random.Random(seed), restart=restart, shards=shards)
    assert differences(meter.rows, reference.rows()) == []
    assert len(meter.late) == len(reference.late)
    assert meter.conflicts == reference.conflicts


@law
@given(st.integers(0, 2**32), st.sampled_from([0, 60, 6000]))
def test_cutting_polls_elsewhere_and_restarting_changes_no_bit(seed: int, disorder_s: int) -> None:
    readings = stream(seed, disorder_s)
    plain = fed(readings)
    for way in (1, 2):
        other = fed(readings, random.Random(seed + way), restart=way == 2, shards=way)
        assert other.rows == plain.rows
        assert sorted(other.late) == sorted(plain.late)


@law
@given(st.integers(0, 2**32), st.sampled_from([0, 60, 6000]))
def test_a_busy_shard_that_puts_off_closing_says_the_same(seed: int, disorder_s: int) -> None:
    readings = stream(seed, disorder_s)
    with patch.multiple("pipelines.rules.quarter_closing", MANY_KEYS=0, MANY_READINGS=0):
        busy = fed(readings, random.Random(seed), restart=True)
    assert busy.rows == fed(readings).rows


@law
@given(st.integers(0, 2**32))
def test_order_within_the_lateness_changes_no_bit(seed: int) -> None:
    # Without long gaps: fallen values hours apart may confirm each other just when the quarter of the first leaves the horizon.
    readings = stream(seed, 0, conflicts=False, gaps=False)
    rng = random.Random(seed)
    shuffled = sorted(readings, key=lambda reading: reading.at + rng.randrange(MINUTE))
    assert fed(shuffled, rng).rows == fed(readings).rows


@law
@given(st.integers(0, 2**32))
def test_repeated_readings_change_nothing(seed: int) -> None:
    readings = stream(seed, 0, conflicts=False)
    rng = random.Random(seed)
    doubled = [reading for reading in readings for _ in range(rng.choice([1, 2, 3]))]
    again = fed(doubled, rng)
    assert again.rows == fed(readings).rows
    assert again.conflicts == 0


@law
@given(st.integers(0, 2**32))
def test_energy_of_a_rising_register_is_conserved(seed: int) -> None:
    rng = random.Random(seed)
    at, value, readings = START, 0.0, []
    for _ in range(40):
        at, value = at + rng.randrange(1, 60 * MINUTE), value + rng.uniform(0, 50)
        readings.append(Reading("asset-0", at, imported=value))
    rows = fed(readings, rng).rows
    assert sum(row["import_wh"] for row in rows.values()) == pytest.approx(readings[-1].imported - readings[0].imported, rel=1e-9)


def at(minute: float, asset: str = "a", **values: Any) -> Reading:
    return Reading(asset, START + minutes(minute), **values)


class TestRevisions:
    def test_a_late_reading_within_the_horizon_makes_a_revision(self) -> None:
        meter = Meter(roster({"a"}))
        meter.poll([at(0, power=60.0), at(17, power=60.0)])
        assert meter.revisions == {("a", 0, START): 1}
        meter.poll([at(10, power=120.0)])
        assert meter.revisions == {("a", 0, START): 2}
        assert meter.rows["a", 0, START]["samples"] == 2
        meter.poll([at(10, power=120.0), at(0, power=60.0)])
        assert meter.revisions == {("a", 0, START): 2}

    @pytest.mark.parametrize(("newest", "late"), [(15 + 60 + 1, False), (15 + 60 + 1.001, True)])
    def test_the_horizon_counts_from_the_end_of_the_quarter(self, newest: float, late: bool) -> None:
        meter = Meter(roster({"a", "b"}))
        meter.poll([at(0, power=60.0), at(newest, "b", power=0.0)])
        meter.poll([at(14, power=60.0)])
        assert bool(meter.late) is late
        assert meter.revisions["a", 0, START] == (1 if late else 2)

    def test_a_later_register_value_revises_the_quarters_it_bridges(self) -> None:
        meter = Meter(roster({"a", "b"}))
        meter.poll([at(0, imported=0.0), at(10, imported=10.0), at(47, "b", power=0.0)])
        assert meter.rows.keys() == {("a", 0, START)}
        assert meter.rows["a", 0, START]["import_wh"] == 10.0
        meter.poll([at(40, imported=40.0), at(48, "b", power=0.0)])
        assert {key[2]: row["import_wh"] for key, row in meter.rows.items() if key[0] == "a"} == pytest.approx(
            {START: 15.0, START + QUARTER: 15.0, START + 2 * QUARTER: 10.0}
        )
        assert meter.revisions["a", 0, START] == 2

    def test_a_value_that_comes_out_of_order_right_after_the_end_is_not_missed(self) -> None:
        meter = Meter(roster({"a"}))
        meter.poll([at(14, imported=14.0), at(15.5, imported=20.0), at(16, imported=20.0)])
        meter.poll([at(15.1, imported=14.2)])
        assert meter.rows["a", 0, START]["import_register_wh"] == pytest.approx(14.0 + 0.2 / 1.1)


class TestClosing:
    def test_a_row_is_written_when_the_watermark_passes_the_end(self) -> None:
        meter = Meter(roster({"a"}))
        meter.poll([at(0, power=60.0), at(15.999, power=60.0)])
        assert meter.rows == {}
        meter.poll([at(16, power=60.0)])
        assert meter.rows.keys() == {("a", 0, START)}

    def test_the_clock_holds_the_watermark_back(self) -> None:
        meter = Meter(roster({"a"}))
        meter.poll([at(0, power=60.0), at(16.5, power=60.0)], now=START + minutes(15.9))
        assert meter.rows == {}
        meter.poll([], now=START + minutes(17))
        assert meter.rows == {}
        meter.poll([], now=START + minutes(16), silences=(Silence(0, START + minutes(16), START + minutes(16)),))
        assert meter.rows.keys() == {("a", 0, START)}

    def test_partitions_do_not_close_each_other(self) -> None:
        meter = Meter(roster({"a", "b"}))
        meter.poll([at(0, power=60.0), Reading("b", START, 60.0, partition=1), at(40, power=1.0)])
        assert meter.rows.keys() == {("a", 0, START)}
        meter.poll([Reading("b", START + minutes(1), 60.0, partition=1)])
        meter.close()
        assert meter.rows["b", 0, START]["samples"] == 2
        assert meter.revisions["b", 0, START] == 1

    def test_registers_are_waited_for_two_minutes_of_event_time(self) -> None:
        meter = Meter(roster({"a", "b"}))
        meter.poll([at(0, imported=0.0), at(14, imported=14.0), at(17.999, "b", power=0.0)])
        assert meter.rows.keys() == {("b", 0, START)} - {("b", 0, START)}
        meter.poll([at(18, "b", power=0.0)])
        assert meter.rows["a", 0, START]["import_wh"] == 14.0

    def test_the_first_value_after_the_end_is_enough(self) -> None:
        meter = Meter(roster({"a", "b"}))
        meter.poll([at(0, imported=0.0), at(14, imported=14.0), at(16, "b", power=0.0)])
        assert ("a", 0, START) not in meter.rows
        meter.poll([at(15, imported=15.0)])
        assert meter.rows["a", 0, START]["import_wh"] == 15.0
        assert meter.revisions["a", 0, START] == 1

    def test_a_value_at_the_end_serves_both_quarters_without_a_revision(self) -> None:
        meter = Meter(roster({"a"}))
        for quarter in range(8):
            meter.poll([at(15 * quarter, imported=10.0 * quarter, power=1.0), at(15 * quarter + 1, power=1.0)])
        assert set(meter.revisions.values()) == {1}
        assert [row["import_wh"] for row in meter.rows.values()] == [10.0] * 7

    def test_an_asset_that_speaks_on_a_second_partition_stays_where_it_was(self) -> None:
        meter = Meter(roster({"a"}))
        meter.poll([at(0, power=60.0)])
        meter.poll([Reading("a", START + minutes(1), 120.0, partition=1)])
        meter.close()
        assert meter.rows["a", 0, START]["samples"] == 2
        assert meter.shards[0].stray == {("a", 1)}

    def test_a_first_reading_long_ago_costs_nothing(self) -> None:
        meter = Meter(roster({"a", "b"}))
        meter.poll([Reading("a", 5 * QUARTER, 60.0), at(0, "b", power=60.0)])
        meter.poll([at(60, "b", power=60.0)])
        assert meter.rows.keys() == {("a", 0, 5 * QUARTER), ("b", 0, START)}


def test_what_is_behind_the_horizon_leaves_the_state() -> None:
    meter = Meter(roster({"a"}))
    for quarter in range(30):
        meter.poll([at(15 * quarter + minute, power=1.0, imported=float(15 * quarter + minute)) for minute in range(15)])
    shard, timing = meter.shards[0], MeterTiming()
    assert len(shard.slots.starts) <= timing.horizon // QUARTER + 2
    assert shard.slots.used <= timing.horizon // QUARTER + 2
    assert len(shard.kept) <= 15 * (timing.horizon // QUARTER + 2)
    assert shard.buffer.size <= 15
