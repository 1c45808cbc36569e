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
from numpy.typing import NDArray

from schemas.telemetry import LateMeasurement, Measurement, MeasurementBatch, Quality
from schemas.units import Phase, from_ms, to_ms
from sinks import codec, column_kernel, columns, known_ids
from sinks.codec import HEADER_LENGTH, WRITERS, Writer, encode
from sinks.column_layouts import layout_of, table_of
from sinks.columns import PHASES, QUALITIES, VALUES, Readings, decode_readings
from sinks.known_ids import KnownIds
from tests.builders import T0
from tests.sinks.writers import (
    EARLIER,
    EARLIEST,
    INSTANT,
    NESTED,
    WRITTEN_EARLIER,
    alone,
    array,
    batch_of,
    head_of,
    item,
    rows,
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
    """The codec and the columns know the writers of `tests.sinks.writers`."""
    found = {print_: layout_of(writer) for print_, writer in WRITTEN_EARLIER.items()}
    assert [layout is None for layout in found.values()] == [False, False, False, False, True, True]
    layouts = {print_: layout for print_, layout in found.items() if layout is not None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "WRITERS", {**WRITERS, **WRITTEN_EARLIER})
        patch.setattr(columns, "_TABLE", table_of({**columns._LAYOUTS, **layouts}))
        patch.setattr(columns, "_HEADS", columns._HEADS | {codec.MARKER + print_ for print_ in WRITTEN_EARLIER})
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


DATUMS = st.fixed_dictionaries(
    {
        "asset_id": st.sampled_from(["asset-1", "asset-2", "b", "größe", "日本語の名前", ""]) | st.text(max_size=20),
        "measured_at": st.integers(-(2**40), 2**45) | st.integers(-(2**63), 2**63 - 1),
        "power_w": st.floats(),
        "import_wh": st.none() | st.floats(),
        "export_wh": st.none(),
        "stored_wh": st.none() | FINITE,
        "phase": st.sampled_from([phase.value for phase in Phase]),
        "quality": st.sampled_from(["GOOD", "BAD"]),
        "site": st.text(max_size=5),
        "sequence": st.integers(-1000, 1000),
        "checked": st.none() | st.booleans(),
        "volts": st.floats(),
        "note": st.none() | st.text(max_size=3),
        "tags": st.lists(st.just("x"), max_size=2),
    }
)
SCHEMAS = [json.loads(WRITERS[codec.fingerprint_of(Measurement)].text), EARLIER, EARLIEST, NESTED]


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A payload by any writer: a single one, or a batch in any form Avro allows."""
    schema = draw(st.sampled_from(SCHEMAS))
    items = st.lists(DATUMS.map(lambda datum: item(schema, _fitting(schema, datum))), min_size=1, max_size=3)
    if draw(st.booleans()):
        return head_of(schema) + draw(items)[0]
    return head_of(batch_of(schema)) + array(draw(st.lists(st.tuples(items, st.booleans()), max_size=3)))


def _fitting(schema: dict[str, Any], datum: dict[str, Any]) -> dict[str, Any]:
    if schema is NESTED:
        datum = datum | {"power_w": datum["sequence"]}
    without_values = datum["power_w"] < 0 and schema is SCHEMAS[0]  # only the model would refuse it
    return datum | ({"power_w": None, "import_wh": None, "stored_wh": None} if without_values else {})


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A payload cut off, with a bit turned over, with something put in or taken out, or nothing like one."""
    raw = draw(written())
    at = draw(st.integers(0, len(raw) - 1))
    match draw(st.sampled_from(["cut", "flip", "put in", "take out", "long", "garbage", "header"])):
        case "cut":
            return raw[:at]
        case "flip":
            return raw[:at] + bytes([raw[at] ^ (1 << draw(st.integers(0, 7)))]) + raw[at + 1 :]
        case "put in":
            return raw[:at] + draw(st.binary(min_size=1, max_size=9)) + raw[at:]
        case "take out":
            return raw[:at] + raw[at + draw(st.integers(1, 9)) :]
        case "long":  # the same number, if one ended here, in more bytes than it needs: legal or too many
            return raw[:at] + bytes([raw[at] | 0x80]) + b"\x80" * draw(st.integers(0, 10)) + b"\0" + raw[at + 1 :]
        case "garbage":
            return draw(st.binary(max_size=40))
    return raw[:HEADER_LENGTH] + draw(st.binary(max_size=40))


def check_like_alone(payloads: list[bytes], known: KnownIds | None) -> None:
    """The columns hold what each payload means by itself, and say why the others mean nothing."""
    readings = decode_readings(payloads, known)
    expected, broken, said = [], [], dict(readings.broken)
    for index, payload in enumerate(payloads):
        found, reason = alone(payload, index)
        if reason and (index in said or not found):
            broken.append((index, reason))
        else:
            expected += found
    assert rows(readings) == expected
    assert readings.broken == broken
    assert len(set(readings.ids)) == len(readings.ids)
    assert all(np.isnan(getattr(readings, name)[readings.present & bit == 0]).all() for name, bit in VALUES.items())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(written() | damaged(), max_size=8), st.none() | st.just(KnownIds(["asset-2", "größe", "asset", "asset-11"])))
def test_any_writers_forms_and_damage_mean_what_each_payload_means_alone(payloads: list[bytes], known: KnownIds | None) -> None:
    check_like_alone(payloads, known)


class Guarded(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes that may be read one by one inside only: a plain array would count a negative index from its end."""

    def __getitem__(self, key: Any) -> Any:
        assert isinstance(key, slice) or 0 <= key < len(self)
        return super().__getitem__(key)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(written() | damaged(), max_size=3))
def test_no_byte_outside_is_read_or_written(payloads: list[bytes]) -> None:
    def joined(raw: list[bytes]) -> NDArray[np.uint8]:
        return known_ids.joined(raw).view(Guarded)

    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):  # hashes wrap around
        for module in (column_kernel, known_ids, columns):
            for name, found in list(vars(module).items()):
                if hasattr(found, "py_func"):
                    patch.setattr(module, name, found.py_func)  # not compiled, so that numpy looks at every index
        patch.setattr(columns, "joined", joined)
        patch.setattr(columns, "_BYTES_A_READING", 10**6)  # the columns have to grow
        check_like_alone(payloads, KnownIds(["asset-2", "größe"]))
        for payload in payloads:
            check_like_alone([payload], None)


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
    assert readings.ids == ["never", "new", "other", "old"]
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
    assert layout_of(Writer("Measurement", {}, json.dumps({"fields": fields}))) is None


def test_every_writer_of_the_topic_has_a_layout() -> None:
    assert layout_of(Writer("MeasurementBatch", {}, json.dumps({"fields": []}))) is None
    assert all(layout_of(writer) for writer in WRITERS.values() if writer.record in ("Measurement", "MeasurementBatch"))


def test_instants_keep_their_milliseconds() -> None:
    at = datetime(2026, 10, 20, 10, 0, 0, 123000, tzinfo=UTC)
    values = [Measurement(asset_id="a", measured_at=at + n * timedelta(days=997), power_w=0.0) for n in range(-40, 40)]
    assert [m for _, m in measurements(decode_readings([encode(value) for value in values]))] == values


@settings(max_examples=300, derandomize=True)
@given(
    st.binary(max_size=12)
    | st.text(max_size=9).map(str.encode)
    | st.tuples(st.text(max_size=9), st.binary(max_size=3)).map(lambda two: two[0].encode() + two[1])
)
def test_utf8_is_what_python_takes_for_it(raw: bytes) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        valid = False
    else:
        valid = True
    assert column_kernel.is_text(known_ids.joined([raw]), 0, len(raw)) is valid


class TestKnownIds:
    @staticmethod
    def found(known: KnownIds, sought: list[str]) -> tuple[list[int], list[str]]:
        raw = [id_.encode() for id_ in sought]
        size = np.array([len(each) for each in raw], np.int32)
        asset = np.empty(len(raw), np.int32)
        others = known.find(known_ids.joined(raw), np.cumsum(size, dtype=np.int64) - size, size, asset)
        return asset.tolist(), others

    def test_what_is_known_is_found_and_the_others_come_behind(self) -> None:
        known = KnownIds(f"asset-{n}" for n in range(5000))
        sought = [f"asset-{n}" for n in range(4990, 5010)] + ["", "asset", "asset-5001"]
        assert self.found(known, sought) == ([*range(4990, 5012), 5001], sought[10:-1])
        assert self.found(KnownIds([]), sought) == ([*range(22), 11], sought[:-1])
        assert self.found(known, []) == ([], [])

    def test_ids_that_differ_in_zeros_at_their_end_are_different(self) -> None:
        ids = ["", "\0", "\0\0", "a", "a\0", "12345678", "12345678\0", "12345678" * 2, "12345678" * 3]
        for known in (KnownIds(ids), KnownIds(ids[::2]), KnownIds([])):
            places, others = self.found(known, ids)
            assert [[*known.ids, *others][place] for place in places] == ids

    def test_equal_hashes_of_different_ids_are_no_mistake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, loop in list(vars(known_ids).items()):
            if hasattr(loop, "py_func"):
                monkeypatch.setattr(known_ids, name, loop.py_func)
        monkeypatch.setattr(known_ids, "hash_of", lambda *_: np.uint64(7 << 32 | 3))
        known = KnownIds(["a", "b", "c"])
        assert self.found(known, ["a", "b", "c", "d", "a", "e", "d"]) == ([0, 1, 2, 3, 0, 4, 3], ["d", "e"])
