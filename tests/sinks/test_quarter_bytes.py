"""Rows made from columns are, byte for byte, what the codec makes of the model; their ids follow from what they say."""

import hashlib
import math
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.facts import NAMESPACE
from schemas.telemetry import Level, Method, Origin, QuarterHour
from schemas.topics import QUARTER_HOURS
from schemas.units import Phase, from_ms, to_ms
from sinks.codec import HEADER_LENGTH, decode, encode
from sinks.quarter_bytes import Names, quarter_bytes

METHODS = (Method.SUM, Method.REGISTER, Method.METER, Method.POWER)
NULLABLE = ("min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh", "last_minute_w")
SURE = ("import_wh", "export_wh", "mean_w", "coverage")
ROW = np.dtype(
    [
        ("start", np.int64), *((name, np.float64) for name in (*SURE, *NULLABLE)), ("samples", np.int32), ("method", np.int8),
        ("missing_members", np.int32), ("estimated", np.bool_), ("reset", np.bool_),
    ],
    align=True,
)  # fmt: skip

instants = st.integers(0, to_ms(from_ms(4_000_000_000_000)))
texts = st.text(min_size=1, max_size=200)
numbers = st.floats(allow_nan=False).map(lambda value: value + 0.0)  # no negative zero: rows have none
rows = st.fixed_dictionaries(
    {
        "id": texts, "scope_id": st.none() | texts, "phase": st.sampled_from(Phase), "start": instants.map(from_ms),
        "samples": st.integers(0, 2**31 - 1), "method": st.sampled_from(METHODS), "missing_members": st.integers(0, 2**31 - 1),
        "estimated": st.booleans(), "reset": st.booleans(), "revision": st.integers(0, 2**31 - 1),
        **dict.fromkeys(SURE, numbers), **dict.fromkeys(NULLABLE, st.none() | numbers),
    }
)  # fmt: skip
wholes = st.fixed_dictionaries(
    {"level": st.sampled_from(Level), "at": instants.map(from_ms), "provisional": st.booleans(), "origin": st.sampled_from(Origin)}
)


def table(plain: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    out = np.zeros(len(plain), ROW)
    for name in ROW.names or ():
        for index, one in enumerate(plain):
            value = one[name]
            if name == "start":
                value = to_ms(value)
            elif name == "method":
                value = METHODS.index(value)
            out[name][index] = math.nan if value is None else value
    return out


def raws(plain: list[dict[str, Any]], whole: dict[str, Any], backwards: bool = False) -> list[bytes]:
    """The bytes of these rows; their names in the same order or turned round."""
    places = range(len(plain))
    named = plain[::-1] if backwards else plain
    return quarter_bytes(
        Names.of(whole["level"], [one["id"] for one in named], [one["scope_id"] for one in named]),
        np.array([len(plain) - 1 - place if backwards else place for place in places], np.int32),
        np.array([list(Phase).index(one["phase"]) for one in plain], np.int8),
        table(plain),
        np.array([one["revision"] for one in plain], np.int32),
        methods=METHODS,
        at=to_ms(whole["at"]),
        provisional=whole["provisional"],
        origin=whole["origin"],
    )


def model(plain: dict[str, Any], whole: dict[str, Any], event_id: str) -> QuarterHour:
    net = plain["import_wh"] - plain["export_wh"]
    minute = plain["last_minute_w"] if whole["provisional"] else None
    return QuarterHour(**plain | whole | {"last_minute_w": minute}, net_wh=net, event_id=event_id)


@settings(deadline=None)  # the first row waits for the compiler
@given(st.lists(rows, max_size=4), wholes, st.booleans())
def test_the_bytes_are_those_of_the_codec(plain: list[dict[str, Any]], whole: dict[str, Any], backwards: bool) -> None:
    found = raws(plain, whole, backwards)
    assert len(found) == len(plain)
    for raw, one in zip(found, plain, strict=True):
        value = decode(raw, QUARTER_HOURS)
        assert isinstance(value, QuarterHour)
        expected = model(one, whole, value.event_id)
        if not math.isnan(expected.net_wh):  # infinity less infinity: equal to nothing, and its bytes are the machine's choice
            assert value == expected
            assert raw == encode(expected)
        assert uuid.UUID(value.event_id).version == 5


@settings(deadline=None)
@given(rows, wholes)
def test_the_id_is_the_version_5_uuid_of_what_follows_the_cause(plain: dict[str, Any], whole: dict[str, Any]) -> None:
    (raw,) = raws([plain], whole)
    before = len(encode(model(plain, whole, "")))  # the last bytes, without the id: header, its length, `at`, cause
    head = HEADER_LENGTH + 37 + _length(to_ms(whole["at"])) + 1
    assert before == len(raw) - 36
    name = raw[head:]
    expected = uuid.UUID(bytes=hashlib.sha1(NAMESPACE.bytes + name).digest()[:16], version=5)
    assert raw[HEADER_LENGTH + 1 : HEADER_LENGTH + 37].decode() == str(expected)


def _length(instant: int) -> int:
    """How many bytes Avro takes for it."""
    return max(1, -(-(2 * instant).bit_length() // 7))


PLAIN: dict[str, Any] = {
    "id": "pv", "scope_id": "mg-1", "phase": Phase.ALL, "start": from_ms(900_000), "samples": 15, "method": Method.SUM,
    "missing_members": 0, "estimated": False, "reset": False, "revision": 1, **dict.fromkeys(SURE, 1.0), **dict.fromkeys(NULLABLE),
}  # fmt: skip
WHOLE: dict[str, Any] = {"level": Level.ASSET, "at": from_ms(1_800_000), "provisional": True, "origin": Origin.LIVE}


def id_of(**changes: Any) -> str:
    (raw,) = raws([PLAIN | {name: value for name, value in changes.items() if name in PLAIN}],
                  WHOLE | {name: value for name, value in changes.items() if name in WHOLE})  # fmt: skip
    value = decode(raw)
    assert isinstance(value, QuarterHour)
    return value.event_id


def test_the_id_does_not_depend_on_when_it_was_said() -> None:
    assert id_of() == id_of(at=from_ms(2_000_000)) == id_of(import_wh=1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "pw"}, {"scope_id": None}, {"phase": Phase.TWO}, {"start": from_ms(0)}, {"samples": 16}, {"method": Method.METER},
        {"missing_members": 1}, {"estimated": True}, {"reset": True}, {"revision": 2}, {"level": Level.GROUP}, {"provisional": False},
        {"origin": Origin.REPAIR}, *({name: math.nextafter(1.0, 2.0)} for name in SURE), *({name: 0.0} for name in NULLABLE),
    ],
    ids=str,
)  # fmt: skip
def test_any_other_row_has_another_id(change: dict[str, Any]) -> None:
    assert id_of(**change) != id_of()


def test_there_is_no_negative_zero() -> None:
    (raw,) = raws([PLAIN | dict.fromkeys((*SURE, *NULLABLE), -0.0)], WHOLE)
    value = decode(raw)
    assert all(math.copysign(1.0, getattr(value, name)) == 1.0 for name in (*SURE, *NULLABLE, "net_wh"))


def test_names_may_be_told_in_parts() -> None:
    ids, scopes = ["a", "b" * 70, "c"], ["x", None, "y"]
    whole = Names.of(Level.ASSET, ids, scopes)
    parts = Names.of(Level.ASSET, ids[:1], scopes[:1]) + Names.of(Level.ASSET, [], []) + Names.of(Level.ASSET, ids[1:], scopes[1:])
    assert parts.packed.tobytes() == whole.packed.tobytes()
    assert parts.ends.tolist() == whole.ends.tolist()


def test_no_rows_no_bytes() -> None:
    assert raws([], WHOLE) == []
