"""Payloads to columns: the same readings as one by one, and broken ones alone fall out."""

import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.telemetry import LateMeasurement, Measurement, MeasurementBatch, Quality
from schemas.units import Phase, from_ms, to_ms
from sinks import columns
from sinks.codec import HEADER_LENGTH, WRITERS, Writer, encode
from sinks.column_layouts import layout_of
from sinks.columns import PHASES, QUALITIES, VALUES, Readings, decode_readings
from sinks.known_ids import KnownIds
from tests.builders import T0
from tests.sinks.writers import (
    EARLIER,
    INSTANT,
    NESTED,
    array,
    head_of,
    item,
    known_writers,
    varint,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MEASUREMENTS = st.builds(
    Measurement,
    asset_id=st.text(max_size=80),
    measured_at=st.integers(-(2**40), 2**45).map(from_ms),
    power_w=FINITE,
    import_wh=st.none() | FINITE,
    export_wh=st.none() | FINITE,
    stored_wh=st.none() | st.just(-0.0) | FINITE,
    phase=st.sampled_from(Phase),
    quality=st.sampled_from(Quality),
)
GARBAGE = st.binary(max_size=40) | MEASUREMENTS.map(lambda m: encode(m) + b"\0") | MEASUREMENTS.map(lambda m: encode(m)[:-1])


@pytest.fixture(scope="module", autouse=True)
def _earlier_writers() -> Iterator[None]:
    with known_writers():
        yield


def measurements(readings: Readings) -> list[tuple[int, Measurement]]:
    """Columns as (payload, measurement)."""
    found = []
    for row in range(len(readings)):
        values = {name: float(getattr(readings, name)[row]) for name, bit in VALUES.items() if readings.present[row] & bit}
        absent = [name for name, bit in VALUES.items() if not readings.present[row] & bit]
        assert all(math.isnan(getattr(readings, name)[row]) for name in absent)
        measurement = Measurement(
            asset_id=readings.ids[readings.asset[row]],
            measured_at=from_ms(int(readings.measured_at[row])),
            phase=PHASES[readings.phase[row]],
            quality=QUALITIES[readings.quality[row]],
            **values,
        )
        found.append((int(readings.payload[row]), measurement))
    return found


def one(name: str = "a", **values: Any) -> Measurement:
    return Measurement(asset_id=name, measured_at=T0, **{"power_w": 1.0, **values})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(MEASUREMENTS | st.lists(MEASUREMENTS, max_size=4).map(lambda ms: MeasurementBatch(measurements=ms)) | GARBAGE, max_size=30))
def test_mixed_payloads_come_out_as_one_by_one(values: list[Any]) -> None:
    expected, broken = [], []
    for index, value in enumerate(values):
        match value:
            case Measurement():
                expected.append((index, value))
            case MeasurementBatch():
                expected += [(index, measurement) for measurement in value.measurements]
            case _:
                broken.append(index)
    readings = decode_readings([value if isinstance(value, bytes) else encode(value) for value in values])
    assert measurements(readings) == expected
    assert [index for index, _ in readings.broken] == broken
    assert len(set(readings.ids)) == len(readings.ids)
    known = KnownIds({measurement.asset_id for _, measurement in expected[::2]} | {"never"})
    again = decode_readings([value if isinstance(value, bytes) else encode(value) for value in values], known)
    assert measurements(again) == expected
    assert again.ids[: len(known.ids)] == known.ids
    assert len(set(again.ids)) == len(again.ids)


def test_no_payloads_give_no_readings() -> None:
    readings = decode_readings([])
    assert (len(readings), readings.ids, readings.broken) == (0, [], [])
    assert readings.measured_at.dtype == np.int64
    assert readings.present.dtype == np.uint8


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: raw[:-1], "does not fit its schema"),
        (lambda raw: raw + b"\0", "left over"),
        (lambda raw: b"", "0 bytes are too few"),
        (lambda raw: b"\x00\x01" + raw[2:], "not C3 01"),
        (lambda raw: raw[:2] + b"12345678" + raw[10:], "unknown schema fingerprint"),
        (lambda raw: raw[:10] + varint(10**12) + raw[11:], "does not fit its schema"),
        (lambda raw: raw[:10] + varint(-5) + raw[11:], "does not fit its schema"),
        (lambda raw: raw.replace(b"\x02" + np.float64(1).tobytes(), b"\x08" + np.float64(1).tobytes()), "does not fit its schema"),
        (lambda raw: raw[:-1] + b"\x40", "does not fit its schema"),
        (lambda raw: raw[:11] + b"\xff" + raw[12:], "does not fit its schema"),
    ],
)
def test_a_broken_payload_falls_out_alone(damage: Any, words: str) -> None:
    good = [encode(one(f"asset-{n}", import_wh=float(n))) for n in range(50)]
    readings = decode_readings([*good[:20], damage(encode(one())), *good[20:]])
    assert [(index, words in reason) for index, reason in readings.broken] == [(20, True)]
    assert [m.asset_id for _, m in measurements(readings)] == [f"asset-{n}" for n in range(50)]


def test_two_broken_neighbours_that_make_up_for_each_other_are_both_found() -> None:
    good = encode(one("asset"))
    payloads = [good + b"\x0a", good[:HEADER_LENGTH] + good[HEADER_LENGTH + 1 :], good]
    readings = decode_readings(payloads)
    assert [index for index, _ in readings.broken] == [0, 1]
    assert len(readings) == 1


def test_absent_and_nan_are_told_apart() -> None:
    readings = decode_readings([encode(one(power_w=math.nan)), encode(one(power_w=None, import_wh=math.inf))])
    assert readings.present.tolist() == [columns.POWER, columns.IMPORT]
    assert np.isnan(readings.power_w).all()
    assert readings.import_wh[1] == math.inf


def test_a_value_of_another_topic_is_broken() -> None:
    late = LateMeasurement(event_id="e", at=T0, measurement=one(), watermark=T0, partition=0, offset=0)
    assert "does not belong" in decode_readings([encode(late)]).broken[0][1]


class TestBatches:
    """Arrays in every form Avro allows."""

    ITEMS = [encode(one(f"a{n}"))[HEADER_LENGTH:] for n in range(3)]
    HEAD = encode(MeasurementBatch(measurements=[]))[:HEADER_LENGTH]

    @pytest.mark.parametrize("blocks", [[3], [-3], [1, 2], [-1, -2], [2, -1], [1, 1, 1]])
    def test_blocks(self, blocks: list[int]) -> None:
        items, forms = list(self.ITEMS), list[tuple[list[bytes], bool]]()
        for count in blocks:
            forms.append((items[: abs(count)], count < 0))
            del items[: abs(count)]
        assert [m.asset_id for _, m in measurements(decode_readings([self.HEAD + array(forms)]))] == ["a0", "a1", "a2"]

    @pytest.mark.parametrize("count", [2, 4, 10**9, -(10**9), 2**62, -(2**63)])
    def test_a_lying_count_is_not_believed(self, count: int) -> None:
        good = encode(MeasurementBatch(measurements=[one("good")]))
        readings = decode_readings([good, self.HEAD + varint(count) + b"".join(self.ITEMS) + b"\0", good])
        assert [index for index, _ in readings.broken] == [1]
        assert len(readings) == 2

    def test_large_batches(self) -> None:
        random.seed(7)
        batch = [one(f"asset-{random.randrange(50)}", power_w=random.random(), phase=random.choice(PHASES)) for _ in range(1000)]
        found = measurements(decode_readings([encode(MeasurementBatch(measurements=batch))] * 2))
        assert [m for _, m in found] == batch * 2

    def test_readings_of_few_bytes_need_more_rows_than_were_guessed(self) -> None:
        tiny = [one("", power_w=None, import_wh=float(n)) for n in range(3000)]
        payloads = [encode(MeasurementBatch(measurements=tiny[n : n + 1000])) for n in range(0, 3000, 1000)]
        assert len(payloads) + len(b"".join(payloads)) // columns._BYTES_A_READING < 3000
        assert [m for _, m in measurements(decode_readings([encode(one()), *payloads]))] == [one(), *tiny]


def test_a_version_before_a_field_and_with_another_order_of_symbols_is_read() -> None:
    payloads = []
    for imported, quality in ((None, "GOOD"), (5.0, "BAD")):
        datum = {"asset_id": "old", "measured_at": to_ms(T0), "power_w": 2.0, "import_wh": imported, "quality": quality}
        payloads.append(head_of(EARLIER) + item(EARLIER, datum))
    readings = decode_readings([payloads[0], encode(one("new")), payloads[1]])
    assert readings.broken == []
    assert [m.model_dump(exclude={"asset_id", "measured_at"}, exclude_defaults=True) for _, m in measurements(readings)] == [
        {"power_w": 2.0}, {"power_w": 1.0}, {"power_w": 2.0, "import_wh": 5.0, "quality": Quality.BAD},
    ]  # fmt: skip
    assert [m.asset_id for _, m in measurements(readings)] == ["old", "new", "old"]


def test_a_writer_that_is_not_flat_is_read_one_by_one_and_its_readings_keep_their_places() -> None:
    old = head_of(NESTED) + item(NESTED, {"asset_id": "old", "measured_at": to_ms(T0), "power_w": 2, "tags": []})
    known = KnownIds(["never", "new"])
    readings = decode_readings([encode(one("other")), old, encode(one("new")), b"", old], known)
    assert measurements(readings) == [(0, one("other")), (1, one("old", power_w=2.0)), (2, one("new")), (4, one("old", power_w=2.0))]
    assert list(readings.ids) == ["never", "new", "other", "old"]
    assert known.ids == ["never", "new"]
    assert [index for index, _ in readings.broken] == [3]


@pytest.mark.parametrize(
    "fields",
    [
        [{"name": "asset_id", "type": "string"}],
        [{"name": "asset_id", "type": ["null", "string"]}, {"name": "measured_at", "type": INSTANT}],
        [{"name": "asset_id", "type": "string"}, {"name": "measured_at", "type": {"type": "long", "logicalType": "timestamp-micros"}}],
        [{"name": "asset_id", "type": "string"}, {"name": "measured_at", "type": "long"}],
    ],
)  # fmt: skip
def test_what_needs_more_than_defaults_has_no_layout(fields: list[dict[str, Any]]) -> None:
    assert layout_of(Writer("Measurement", {}, json.dumps({"fields": fields}), lambda raw, at: at)) is None


def test_every_writer_of_the_topic_has_a_layout() -> None:
    assert layout_of(Writer("MeasurementBatch", {}, json.dumps({"fields": []}), lambda raw, at: at)) is None
    assert all(layout_of(writer) for writer in WRITERS.values() if writer.record in ("Measurement", "MeasurementBatch"))


def test_instants_keep_their_milliseconds() -> None:
    at = datetime(2026, 10, 20, 10, 0, 0, 123000, tzinfo=UTC)
    values = [Measurement(asset_id="a", measured_at=at + n * timedelta(days=997), power_w=0.0) for n in range(-40, 40)]
    assert [m for _, m in measurements(decode_readings([encode(value) for value in values]))] == values
