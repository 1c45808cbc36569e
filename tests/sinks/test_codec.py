"""Single-object encoding: the header by the Avro specification's own words, refusals, earlier versions."""

import json
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.capacity import EnvelopePiece
from schemas.errors import Undecodable
from schemas.telemetry import LateMeasurement, Measurement, MeasurementBatch
from schemas.topics import OUTBOUND, QUARTER_HOURS, TELEMETRY
from sinks import codec
from tests.schemas.golden import EXAMPLES, NAMES, example_bytes
from tests.schemas.golden import example as golden
from tests.schemas.strategies import law

AVSC = EXAMPLES.parent / "avsc"
EMPTY = 0xC15D213AA4D7A795


def crc_64_avro(data: bytes) -> int:
    """The Avro specification's Java, by hand."""
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (EMPTY & -(value & 1) & 0xFFFFFFFFFFFFFFFF)
        table.append(value)
    result = EMPTY
    for byte in data:
        result = (result >> 8) ^ table[(result ^ byte) & 0xFF]
    return result


def canonical(schema: Any, namespace: str = "") -> str:
    """The specification's Parsing Canonical Form, by hand, as far as our schemas go."""
    if isinstance(schema, list):
        return f"[{','.join(canonical(branch, namespace) for branch in schema)}]"
    if isinstance(schema, str):
        return json.dumps(schema)
    match schema["type"]:
        case "array":
            return f'{{"type":"array","items":{canonical(schema["items"], namespace)}}}'
        case "enum":
            symbols = ",".join(json.dumps(symbol) for symbol in schema["symbols"])
            return f'{{"name":"{schema["namespace"]}.{schema["name"]}","type":"enum","symbols":[{symbols}]}}'
        case "record":
            fields = ",".join(f'{{"name":"{field["name"]}","type":{canonical(field["type"])}}}' for field in schema["fields"])
            return f'{{"name":"{schema["namespace"]}.{schema["name"]}","type":"record","fields":[{fields}]}}'
        case plain:
            return json.dumps(plain)


def test_the_specifications_own_value():
    # Avro's test vectors (share/test/data/schema-tests.txt) name the fingerprint of "null" and "int".
    assert crc_64_avro(b'"null"') == 7195948357588979594
    assert crc_64_avro(b'"int"') == 8247732601305521295
    assert codec.fingerprint_of_schema({"type": "null"}) == (7195948357588979594).to_bytes(8, "little")


@pytest.mark.parametrize("file", sorted(AVSC.glob("*.avsc")), ids=lambda file: file.stem)
def test_the_header_names_the_committed_schema_as_the_specification_says(file: Path):
    expected = crc_64_avro(canonical(json.loads(file.read_text())).encode()).to_bytes(8, "little")
    assert codec.fingerprint_of(file.stem) == expected
    assert codec.WRITERS[expected].record == file.stem
    assert json.loads(codec.WRITERS[expected].text) == json.loads(file.read_text())


def test_a_reading_byte_by_byte():
    reading = Measurement(asset_id="pv", measured_at="1970-01-01T00:00:00.001Z", power_w=-1.0)
    datum = bytes.fromhex("04 7076  02  02 000000000000f0bf  00 00 00  00 00")
    assert codec.encode(reading) == b"\xc3\x01" + codec.fingerprint_of(Measurement) + datum


def test_anybody_with_the_committed_file_can_write_and_read():
    file = AVSC / "Measurement.avsc"
    print_ = crc_64_avro(canonical(json.loads(file.read_text())).encode()).to_bytes(8, "little")
    schema = fastavro.schema.load_schema(file)
    stream = BytesIO()
    value: Measurement = golden("derms.telemetry")  # type: ignore[assignment]
    fastavro.schemaless_writer(
        stream, schema, {"asset_id": value.asset_id, "measured_at": value.measured_at, "power_w": -4200.5, "export_wh": 1234567.25}
    )
    assert codec.decode(b"\xc3\x01" + print_ + stream.getvalue(), TELEMETRY) == value


READING = golden("derms.telemetry")
RAW = codec.encode(READING)
HEADER = RAW[:10]


def blocked_batch() -> bytes:
    """A batch as some writers make it: a negative count, followed by the block's length in bytes."""
    one = RAW[10:]
    return b"\xc3\x01" + codec.fingerprint_of(MeasurementBatch) + b"\x01" + zigzag(len(one)) + one + b"\x00"


def zigzag(number: int) -> bytes:
    bits = (number << 1) ^ (number >> 63)
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    return bytes(out) + bytes([bits])


def test_arrays_in_blocks_with_a_length_are_read():
    assert codec.decode(blocked_batch()) == MeasurementBatch(measurements=[READING])


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "0 bytes are too few"),
        (RAW[:9], "9 bytes are too few"),
        (b"\x00\x00\x00\x00\x01" + RAW[5:], "not C3 01"),
        (json.dumps({"asset_id": "mg-1-pv"}).encode(), "not C3 01"),
        (b"\xc3\x01" + bytes(8) + RAW[10:], "unknown schema fingerprint 0000000000000000"),
        (HEADER, "Measurement: the datum does not fit"),
        (RAW[:-1], "Measurement: the datum does not fit"),
        (RAW + b"\x00", "Measurement: 1 bytes are left over"),
        (RAW[:-1] + b"\x06", "Measurement: the datum does not fit"),  # quality: the fourth of three symbols
        (RAW[:-1] + b"\x01", "Measurement: the datum does not fit"),  # quality: symbol -1
        (RAW[:-2] + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + RAW[-1:], "does not fit"),  # phase: far below zero
        (HEADER + b"\x02a" + b"\xff" * 9 + b"\x01" + bytes(6), "does not fit"),  # an instant beyond any calendar
        (HEADER + b"\x02\xff\x00" + bytes(6), "does not fit"),  # an asset_id that is no UTF-8
        (HEADER + b"\x02a\x00" + bytes(6), "Measurement: whole: .*at least one of"),
        (codec.encode(golden("derms.quarter-hours")), "a QuarterHour does not belong on derms.telemetry"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(raw: bytes, words: str):
    with pytest.raises(Undecodable, match=words):
        codec.decode(raw, TELEMETRY)


def test_the_bytes_are_never_in_the_words():
    secret = "do-not-print-this"
    raw = codec.encode(Measurement(asset_id=secret, measured_at="2026-10-20T10:00:00Z", power_w=1))
    for spoiled in (raw[:-1], raw + b"x", raw[:-1] + b"\x01", raw.replace(b"\x02\x00\x00\x00\x00\x00\x00\xf0\x3f", b"\x00")):
        with pytest.raises(Undecodable) as refusal:
            codec.decode(spoiled)
        assert secret not in str(refusal.value)
        assert refusal.value.__cause__ is None


@pytest.mark.parametrize("name", NAMES)
@law
@given(data=st.data())
def test_spoiled_bytes_are_a_value_or_undecodable_and_nothing_else(name: str, data: st.DataObject):
    raw = bytearray(example_bytes(name))
    for at in data.draw(st.lists(st.integers(10, len(raw) - 1), min_size=1, max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    kept = bytes(raw[: data.draw(st.integers(10, len(raw)))])
    with suppress(Undecodable):
        codec.decode(kept)


@law
@given(st.binary(max_size=40))
@example(b"\xc3\x01")
def test_any_bytes_behind_a_known_header_are_a_value_or_undecodable(datum: bytes):
    for record in ("MeasurementBatch", "DeadLetter", "Connection"):
        with suppress(Undecodable):
            codec.decode(b"\xc3\x01" + codec.fingerprint_of(record) + datum)


def test_what_is_on_no_topic_has_no_bytes():
    with pytest.raises(KeyError):
        codec.encode(EnvelopePiece(start="2026-10-20T10:00:00Z", end="2026-10-20T11:00:00Z"))


def test_a_topic_takes_each_of_its_records():
    for name in ("derms.telemetry", "derms.telemetry.MeasurementBatch"):
        assert codec.decode(example_bytes(name), TELEMETRY) == golden(name)
    assert codec.decode(example_bytes("derms.quarter-hours"), QUARTER_HOURS) == golden("derms.quarter-hours")
    assert codec.decode(example_bytes("derms.outbound"), OUTBOUND) == golden("derms.outbound")


def earlier_measurement() -> dict[str, Any]:
    """A reading's schema as it might have been before quality and state of charge were added."""
    schema = json.loads((AVSC / "Measurement.avsc").read_text())
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in ("quality", "stored_wh")]
    return schema


def test_what_an_earlier_version_wrote_comes_out_as_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "Measurement.1.avsc").write_text(json.dumps(earlier_measurement()))
    (tmp_path / "README.md").write_text("not a schema")
    (writer,) = codec.earlier_writers(tmp_path)
    assert writer.record == "Measurement"
    print_ = codec.fingerprint_of_schema(writer.schema)
    monkeypatch.setattr(codec, "WRITERS", {**codec.WRITERS, print_: writer})
    stream = BytesIO()
    fastavro.schemaless_writer(stream, writer.schema, READING.model_dump())
    raw = b"\xc3\x01" + print_ + stream.getvalue()
    assert codec.decode(raw, TELEMETRY) == READING
    with pytest.raises(Undecodable, match="left over"):
        codec.decode(raw + b"\x00")


EARLIER = sorted((AVSC / "earlier").glob("*.avsc"))


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.name)
def test_what_every_earlier_schema_wrote_can_be_read(file: Path):
    """Fields added since have their defaults, all others what was written."""
    writer = codec.WRITERS[codec.fingerprint_of_schema(json.loads(file.read_text()))]
    value = next(golden(name) for name, model in NAMES.items() if model.__name__ == writer.record)
    stream = BytesIO()
    fastavro.schemaless_writer(stream, writer.schema, value.model_dump())
    read = codec.decode(b"\xc3\x01" + codec.fingerprint_of_schema(writer.schema) + stream.getvalue())
    written = {field["name"] for field in writer.schema["fields"]}
    plain = type(value).model_fields
    assert read == value.model_copy(update={name: field.get_default() for name, field in plain.items() if name not in written})


def test_nested_records_survive():
    late = golden("derms.late-telemetry")
    assert isinstance(late, LateMeasurement)
    assert late.measurement == READING
    assert codec.decode(codec.encode(late)) == late
