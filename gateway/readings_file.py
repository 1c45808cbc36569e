"""Readings from CSV files of any size, line by line: what a line says, or what is wrong with it and how it would be right."""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from schemas.telemetry import Measurement

REQUIRED = ("asset_id", "measured_at")
NUMBERS = ("power_w", "import_wh", "export_wh", "stored_wh")
COLUMNS = (*REQUIRED, *NUMBERS[:3], "phase", "quality", "stored_wh")
"""What a file may have; `phase`, `quality` and `stored_wh` need not be there."""
_CURES = {
    "asset_id": "write the asset's id",
    "measured_at": "write it with its zone, as 2026-10-20T10:00:00Z",
    "phase": "write ALL, ONE, TWO or THREE, or leave it empty",
    "quality": "write GOOD, ESTIMATED or BAD, or leave it empty",
    "line": f"give it one of {', '.join(NUMBERS)}",
} | dict.fromkeys(NUMBERS, "write a number, or leave it empty")


class BadFile(ValueError):
    """A file that cannot be read at all: `problem` and `cure` are for people."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.problem, self.cure = problem, cure


@dataclass(frozen=True, slots=True)
class BadLine:
    """What is wrong with one line: the field, the rule it breaks, the cure."""

    line: int
    field: str
    rule: str
    cure: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.rule}; {self.cure}"


def lines(path: Path) -> Iterator[Measurement | BadLine]:
    """The lines of a CSV file (gz allowed) below its header, one by one and in their order; memory does not grow with the file.

    Blocks while reading. Raises BadFile, and OSError where there is no file.
    """
    with path.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") if packed else path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from _lines(file)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise BadFile("is a broken gzip file", "pack it again") from None
        except UnicodeDecodeError as error:
            raise BadFile(f"is not UTF-8 ({error.reason})", "write it as UTF-8") from None
        except csv.Error as error:
            raise BadFile(f"is no CSV ({error})", f"write lines of {','.join(COLUMNS[:5])}") from None


def _lines(file: IO[str]) -> Iterator[Measurement | BadLine]:
    rows = csv.DictReader(file)
    missing = [name for name in REQUIRED if name not in (rows.fieldnames or ())]
    if missing:
        raise BadFile(f"has no column {missing[0]!r}", f"the header is {','.join(COLUMNS[:5])}")
    for row in rows:
        yield _measurement(rows.line_num, {name: text for name in COLUMNS if (text := row.get(name)) not in (None, "")})


def _measurement(line: int, fields: dict[str, str | None]) -> Measurement | BadLine:
    try:
        found = Measurement.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "line"
        return BadLine(line, field, first["msg"].removeprefix("Value error, "), _CURES[field])
    for name in NUMBERS:
        value = getattr(found, name)
        if value is not None and not math.isfinite(value):
            return BadLine(line, name, "is not a finite number", _CURES[name])
    return found
