"""Semantics 1.1 to 1.7: the vectors, the recording's truth, and each rule by itself."""

import csv
import gzip
import json
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.units import to_ms
from tests.rules.metering import START, Meter, minutes, roster, whole
from tests.rules.reference_quarter_hours import QUARTER, Reading, quarter_row

DATA = Path(__file__).parents[1] / "data"
VECTORS = json.loads((DATA / "quarter_hours.json").read_text())["cases"]


def vector_readings(case: dict[str, Any]) -> list[Reading]:
    return [
        Reading(
            r["asset_id"], to_ms(datetime.fromisoformat(r["measured_at"])), r.get("power_w"), r.get("import_wh"), r.get("export_wh"),
            r.get("stored_wh"), ("ALL", "ONE", "TWO", "THREE").index(r.get("phase", "ALL")), r.get("quality", "GOOD"),
        )
        for r in case["readings"]
    ]  # fmt: skip


def as_vector(row: dict[str, Any] | None) -> dict[str, Any]:
    assert row is not None
    return row | {"net_wh": row["import_wh"] - row["export_wh"]}


def check(case: dict[str, Any], rows: dict[tuple[str, int, int], dict[str, Any]]) -> None:
    want = {
        (w["asset_id"], ("ALL", "ONE", "TWO", "THREE").index(w["phase"]), to_ms(datetime.fromisoformat(w["start"]))): w
        for w in case["rows"]
    }
    assert rows.keys() == want.keys()
    for key, row in want.items():
        got = as_vector(rows[key])
        for name in row.keys() - {"asset_id", "phase", "start"}:
            assert got[name] == (pytest.approx(row[name], rel=1e-6) if isinstance(row[name], float) else row[name]), (key, name)


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_vectors(case: dict[str, Any]) -> None:
    check(case, whole(vector_readings(case)))


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_vectors_through_shards_that_close_and_restart(case: dict[str, Any]) -> None:
    meter = Meter(roster({"a"}, correction_horizon="P1D"), shards=2)
    readings = vector_readings(case)
    meter.poll(readings)
    meter.restart()
    meter.close()
    assert not meter.late
    check(case, meter.rows)


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_the_slow_reference_knows_the_vectors_too(case: dict[str, Any]) -> None:
    readings = {r.at: r for r in reversed(vector_readings(case)) if r.quality != "BAD"}
    ordered = [readings[at] for at in sorted(readings)]
    starts = {at // QUARTER * QUARTER - back for at in readings for back in range(0, 5 * QUARTER, QUARTER)}
    rows = {("a", 0, start): row for start in starts if (row := quarter_row(ordered, start)) is not None}
    check(case, rows)


class TestRecording:
    """Three days of a house with its gaps, and a PV roof, in the order and pace in which they were recorded."""

    @staticmethod
    def readings() -> Iterator[Reading]:
        with gzip.open(DATA / "recording" / "readings.csv.gz", "rt") as file:
            for line in csv.DictReader(file):
                numbers = [float(line[name]) if line[name] else None for name in ("power_w", "import_wh", "export_wh")]
                yield Reading(line["asset_id"], to_ms(datetime.fromisoformat(line["measured_at"])), *numbers)

    def test_the_truth(self) -> None:
        meter = Meter(roster({"house-main", "house-kitchen", "house-laundry", "house-waterheat-ac", "serf-east-pv"}), shards=4)
        readings = list(self.readings())
        for first in range(0, len(readings), 500):
            poll = readings[first : first + 500]
            meter.poll(poll, poll[-1].at + 1000)
        meter.close()
        with (DATA / "recording" / "truth.csv").open() as file:
            truth = list(csv.DictReader(file))
        assert len(truth) == len(meter.rows) == 1231
        for line in truth:
            row = meter.rows[line["asset_id"], 0, to_ms(datetime.fromisoformat(line["start"]))]
            for name in ("import_wh", "export_wh"):
                assert row[name] == pytest.approx(float(line[name]), rel=1e-6, abs=1e-6), line
            assert row["coverage"] == pytest.approx(float(line["coverage"]), abs=1e-4)
            assert (row["samples"], row["method"]) == (int(line["samples"]), line["method"])


def at(minute: float, **values: Any) -> Reading:
    return Reading("a", START + minutes(minute), **values)


def row(readings: list[Reading], quarter: int = 0, **options: Any) -> dict[str, Any] | None:
    return whole(readings, **options).get(("a", 0, START + quarter * QUARTER))


class TestRegisters:
    def test_a_lone_value_makes_no_row(self) -> None:
        assert whole([at(3, imported=5.0)]) == {}

    def test_a_lone_state_of_charge_makes_no_row(self) -> None:
        assert whole([at(3, stored=5.0), at(4, stored=6.0)]) == {}

    def test_a_direction_without_register_energy_comes_from_power(self) -> None:
        found = row([at(0, imported=0.0, power=600.0), at(5, imported=40.0, power=-600.0)])
        assert found is not None
        assert (found["import_wh"], found["method"]) == (40.0, "REGISTER")
        assert found["export_wh"] == pytest.approx(5 * 600 / 60)
        assert found["export_register_wh"] is None

    def test_coverage_is_the_lower_of_two_registers(self) -> None:
        found = row([at(0, imported=0.0, exported=0.0), at(5, exported=1.0), at(10, imported=10.0)])
        assert found is not None
        assert found["coverage"] == pytest.approx(5 / 15)

    @pytest.mark.parametrize(("gap", "bridged"), [(60, True), (60.001, False)])
    def test_an_hour_is_bridged_and_no_more(self, gap: float, bridged: bool) -> None:
        rows = whole([at(0, imported=0.0), at(gap, imported=60.0)])
        assert (rows.keys() == {("a", 0, START + n * QUARTER) for n in range(4)}) is bridged
        assert bool(rows) is bridged

    def test_a_gap_that_has_energy_and_no_reading(self) -> None:
        found = row([at(-10, imported=0.0), at(20, imported=30.0)])
        assert found is not None
        assert (found["import_wh"], found["samples"], found["coverage"], found["min_w"]) == (15.0, 0, 0.0, None)

    def test_a_reset_within_reach_counts_from_zero(self) -> None:
        found = row([at(0, imported=900.0), at(5, imported=100.0), at(15, imported=130.0)], max_w=1200)
        assert found is not None
        assert (found["import_wh"], found["reset"], found["import_register_wh"]) == (130.0, True, 130.0)

    def test_a_reset_beyond_reach_is_left_out(self) -> None:
        found = row([at(0, imported=900.0), at(5, imported=100.0), at(15, imported=930.0)], max_w=1199)
        assert found is not None
        assert (found["import_wh"], found["reset"], found["left_out"], found["samples"]) == (30.0, False, 1, 2)

    def test_a_reset_at_the_end_belongs_to_the_quarter_before(self) -> None:
        readings = [at(0, imported=900.0), at(15, imported=10.0), at(20, imported=20.0)]
        first, second = row(readings), row(readings, 1)
        assert first is not None
        assert second is not None
        assert (first["reset"], second["reset"]) == (True, False)
        assert (first["import_wh"], first["import_register_wh"]) == (10.0, 10.0)

    def test_across_a_reset_at_the_boundary_the_last_value_is_shown(self) -> None:
        found = row([at(0, imported=900.0), at(10, imported=960.0), at(20, imported=40.0)])
        assert found is not None
        assert (found["import_wh"], found["import_register_wh"], found["reset"]) == (80.0, 960.0, False)

    def test_three_that_do_not_rise_confirm_nothing(self) -> None:
        values = [5e6, 4e6, 4e6 + 1, 3e6, 3e6, 2e6]
        found = row([at(n, imported=value) for n, value in enumerate(values)])
        assert found is None

    def test_negative_values_are_left_out(self) -> None:
        found = row([at(0, imported=1.0), at(5, imported=-1.0), at(10, imported=3.0)])
        assert found is not None
        assert (found["import_wh"], found["left_out"], found["reset"]) == (2.0, 1, False)

    def test_energy_is_conserved_across_quarters_and_gaps(self) -> None:
        values = [(0, 0.0), (7, 11.0), (18, 40.0), (61, 90.0), (118, 91.0), (119, 170.5), (178, 300.0), (180, 301.0)]
        rows = whole([at(minute, imported=value) for minute, value in values])
        assert math.fsum(one["import_wh"] for one in rows.values()) == pytest.approx(301.0, rel=1e-12)


class TestPower:
    def test_held_minutes_alone_make_no_row(self) -> None:
        assert whole([at(14.9, power=60.0)]).keys() == {("a", 0, START)}

    def test_power_is_held_over_the_boundary(self) -> None:
        found = row([at(-1, power=600.0), at(5, power=0.0)])
        assert found is not None
        assert found["import_wh"] == pytest.approx(4 * 600 / 60)
        assert found["coverage"] == pytest.approx((4 + 5) / 15)

    @pytest.mark.parametrize(("second", "covered"), [(0, 5), (0.001, 6), (59.999, 6)])
    def test_a_minute_is_held_if_it_begins_less_than_five_after_the_reading(self, second: float, covered: int) -> None:
        found = row([at(second / 60, power=60.0)])
        assert found is not None
        assert found["coverage"] == covered / 15

    def test_phases_are_apart(self) -> None:
        rows = whole([Reading("a", START, power=60.0, phase=1), Reading("a", START, power=120.0, phase=2)])
        assert {key[1]: found["max_w"] for key, found in rows.items()} == {1: 60.0, 2: 120.0}

    def test_a_state_of_charge_is_the_last_in_the_quarter(self) -> None:
        found = row([at(3, stored=2.0), at(1, stored=1.0), at(2, power=1.0), at(15, stored=9.0)])
        assert found is not None
        assert found["stored_wh"] == 2.0
        assert found["samples"] == 3

    def test_absurd_numbers_do_not_stop_the_rule(self) -> None:
        found = row([at(0, power=1.7e308, imported=0.0), at(0.5, power=1.7e308, imported=1.7e308), at(1, power=-1.7e308)])
        assert found is not None
        assert found["max_w"] == 1.7e308
