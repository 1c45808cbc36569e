"""The compiled loops against plain readings: any form, any damage, and no byte looked at outside a payload."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.telemetry import Measurement
from schemas.units import Phase, to_ms
from sinks import codec, column_kernel, columns, known_ids
from sinks.codec import HEADER_LENGTH, WRITERS
from sinks.columns import VALUES, decode_readings
from sinks.known_ids import KnownIds
from tests.builders import T0
from tests.sinks.writers import EARLIER, EARLIEST, NESTED, alone, array, batch_of, head_of, item, known_writers, rows, varint


@pytest.fixture(scope="module", autouse=True)
def _earlier_writers() -> Iterator[None]:
    with known_writers():
        yield


DATUMS = st.fixed_dictionaries(
    {
        "asset_id": st.sampled_from(["asset-1", "asset-2", "b", "größe", "日本語の名前", ""]) | st.text(max_size=20),
        "measured_at": st.integers(-(2**40), 2**45) | st.integers(-(2**63), 2**63 - 1),
        "power_w": st.floats(),
        "import_wh": st.none() | st.floats(),
        "export_wh": st.none(),
        "stored_wh": st.none() | st.floats(),
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


FULL = {
    "asset_id": "größe-7", "measured_at": to_ms(T0), "power_w": -1.5, "import_wh": 5.0, "export_wh": None, "stored_wh": 7.25,
    "phase": "TWO", "quality": "GOOD", "site": "s", "sequence": -300, "checked": True, "volts": 230.0, "note": None, "tags": [],
}  # fmt: skip
WHOLE = [head_of(schema) + item(schema, FULL) for schema in SCHEMAS[:3]]
WHOLE += [head_of(batch_of(schema)) + array([([item(schema, FULL)] * 2, True), ([item(schema, FULL)], False)]) for schema in SCHEMAS[:3]]


@pytest.mark.parametrize("whole", WHOLE, ids=range(len(WHOLE)))
def test_every_cut_and_every_bit_turned_over_means_what_it_means_alone(whole: bytes) -> None:
    cuts = [whole[:size] for size in range(len(whole) + 1)]
    flips = [whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :] for at in range(len(whole)) for bit in range(8)]
    check_like_alone([*cuts, *flips], KnownIds(["größe-7"]))


class Guarded(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes that may be read one by one inside only: a plain array would count a negative index from its end."""

    def __getitem__(self, key: Any) -> Any:
        assert isinstance(key, slice) or 0 <= key < len(self)
        return super().__getitem__(key)


@contextmanager
def watched() -> Iterator[None]:
    """The loops as they are written, not compiled, on payloads with nothing behind them, so that every index is looked at.

    Only `part` may look behind its bytes: it does not, here.
    """

    def part(raw: NDArray[np.uint8], at: int, end: int) -> np.uint64:
        return np.uint64(int.from_bytes(bytes(raw[np.uint64(place)] for place in range(at, min(end, at + 8))), "little"))

    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):  # hashes wrap around
        for module in (column_kernel, known_ids, columns):
            for name, loop in list(vars(module).items()):
                if hasattr(loop, "py_func"):
                    patch.setattr(module, name, part if name == "part" else loop.py_func)
        patch.setattr(columns, "joined", lambda raw: np.array(list(b"".join(raw)), np.uint8).view(Guarded))
        patch.setattr(columns, "_BYTES_A_READING", 10**6)  # the columns have to grow
        yield


def check_watched(payloads: list[bytes]) -> None:
    with watched():
        known = KnownIds(["asset-2", "größe"])
        for payload in payloads:
            check_like_alone([payload], known)
        check_like_alone(payloads, known)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(written() | damaged(), max_size=3))
def test_no_byte_outside_a_payload_is_looked_at(payloads: list[bytes]) -> None:
    check_watched(payloads)


@pytest.mark.parametrize("whole", WHOLE, ids=range(len(WHOLE)))
def test_no_byte_behind_a_cut_is_looked_at(whole: bytes) -> None:
    check_watched([whole[:size] for size in range(len(whole))])


@settings(max_examples=500, derandomize=True, deadline=None)
@given(
    st.integers(-(2**63), 2**63 - 1).map(varint)
    | st.binary(max_size=11)
    | st.builds(lambda more, last: b"\xff" * more + bytes([last]), st.integers(7, 10), st.integers(0, 127))
)
def test_numbers_are_those_of_64_bits_in_at_most_ten_bytes(raw: bytes) -> None:
    size = next((size for size, each in enumerate(raw, 1) if each < 0x80), 0)
    bits = sum((each & 0x7F) << 7 * place for place, each in enumerate(raw[:size]))
    expected = ((bits >> 1) ^ -(bits & 1), size) if 0 < size <= 10 and bits < 1 << 64 else (0, -1)
    assert column_kernel.varint(known_ids.joined([raw]), 0, len(raw)) == expected


@settings(max_examples=300, derandomize=True, deadline=None)
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
