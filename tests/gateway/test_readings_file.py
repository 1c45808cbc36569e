"""Files of readings: what a line says, and what people are told of one that says nothing usable."""

import gzip
from itertools import islice
from pathlib import Path

import pytest

from gateway.readings_file import BadFile, BadLine, lines
from schemas.telemetry import Measurement, Quality
from schemas.units import Phase
from tests.builders import T0

HEAD = "asset_id,measured_at,power_w,import_wh,export_wh\n"


def file(path: Path, text: str, *, packed: bool = False) -> Path:
    where = path / ("readings.csv.gz" if packed else "readings.csv")
    where.write_bytes(gzip.compress(text.encode()) if packed else text.encode("utf-8-sig"))
    return where


@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_readings(tmp_path: Path, packed: bool) -> None:
    text = "asset_id,phase,measured_at,power_w,quality,stored_wh,other\na,,2026-10-20T10:00:00Z,1.5,,,x\n"
    text += "b,TWO,2026-10-20T12:00:00+02:00,,ESTIMATED,7,\n"
    assert list(lines(file(tmp_path, text, packed=packed))) == [
        Measurement(asset_id="a", measured_at=T0, power_w=1.5),
        Measurement(asset_id="b", measured_at=T0, phase=Phase.TWO, quality=Quality.ESTIMATED, stored_wh=7.0),
    ]


@pytest.mark.parametrize(
    ("line", "field", "cure"),
    [
        (",2026-10-20T10:00:00Z,1,,", "asset_id", "write the asset's id"),
        ("a,yesterday,1,,", "measured_at", "as 2026-10-20T10:00:00Z"),
        ("a,2026-10-20T10:00:00,1,,", "measured_at", "as 2026-10-20T10:00:00Z"),
        ("a,2026-10-20T10:00:00Z,lots,,", "power_w", "write a number, or leave it empty"),
        ("a,2026-10-20T10:00:00Z,,nan,", "import_wh", "write a number, or leave it empty"),
        ("a,2026-10-20T10:00:00Z,,,", "line", "give it one of power_w, import_wh, export_wh, stored_wh"),
        ("a", "measured_at", "as 2026-10-20T10:00:00Z"),
    ],
)
def test_a_bad_line_names_field_rule_and_cure_and_its_neighbours_count(tmp_path: Path, line: str, field: str, cure: str) -> None:
    first, bad, last = lines(file(tmp_path, f"{HEAD}a,2026-10-20T10:00:00Z,1,,\n{line}\na,2026-10-20T10:01:00Z,1,,\n"))
    assert isinstance(first, Measurement)
    assert isinstance(last, Measurement)
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.field) == (3, field)
    assert bad.rule
    assert cure in bad.cure
    assert str(bad).startswith(f"line 3, {field}: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"asset_id,power_w\n", "has no column 'measured_at'"),
        (b"", "has no column 'asset_id'"),
        (HEAD.encode() + b"\xff\xfe,2026-10-20T10:00:00Z,1,,\n", "is not UTF-8"),
        (b"\x1f\x8bnonsense", "is a broken gzip file"),
        (gzip.compress(HEAD.encode() * 99, mtime=0)[:-9], "is a broken gzip file"),
        (HEAD.encode() + b"a" * 200_000 + b"\n", "is no CSV"),
    ],
)
def test_a_file_that_is_none_says_why(tmp_path: Path, content: bytes, problem: str) -> None:
    where = tmp_path / "readings"
    where.write_bytes(content)
    with pytest.raises(BadFile, match=problem) as caught:
        list(lines(where))
    assert caught.value.cure


def test_a_file_is_read_line_by_line(tmp_path: Path) -> None:
    text = HEAD + "a,2026-10-20T10:00:00Z,1,,\n" * 50_000
    where = tmp_path / "readings.gz"
    where.write_bytes(gzip.compress(text.encode())[:-20])  # broken at its very end, which has not been seen yet
    assert all(isinstance(line, Measurement) for line in islice(lines(where), 100))
    with pytest.raises(OSError, match="No such file"):
        next(iter(lines(tmp_path / "none")))
