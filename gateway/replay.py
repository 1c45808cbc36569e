"""Recorded readings to Kafka, with their true timestamps, when the clock reaches them (contract 1: `telemetry replay`)."""

import csv
import gzip
import io
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from schemas.clock import Clock
from schemas.telemetry import Measurement
from schemas.topics import TELEMETRY
from sinks.kafka import Producer

AT_ONCE = 500
"""So many readings of the past are acknowledged before more are sent: none waits longer than its time-out."""
COLUMNS = ("asset_id", "measured_at", "power_w", "import_wh", "export_wh")


class BadRecording(ValueError):
    """A file of readings that cannot be used: names the line, the field and the cure."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is."""

    sent: int
    total: int
    at: datetime


def readings(path: Path) -> list[Measurement]:
    """The readings of a CSV file (gz allowed) with the columns of `COLUMNS`, in the file's order.

    Blocks while reading. Raises BadRecording naming line and field, OSError where the file cannot be read.
    """
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (EOFError, OSError, zlib.error):
        raise BadRecording(f"{path.name}: is a broken gzip file") from None
    except UnicodeDecodeError as error:
        raise BadRecording(f"{path.name}: is not UTF-8 at byte {error.start}") from None
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in ("asset_id", "measured_at") if name not in (rows.fieldnames or ())]
    if missing:
        raise BadRecording(f"{path.name}: no column {missing[0]!r}; the header is {','.join(COLUMNS)}")
    return list(_measurements(path.name, rows))


def _measurements(name: str, rows: "csv.DictReader[str]") -> Iterator[Measurement]:
    for row in rows:
        fields = {column: row[column] for column in COLUMNS if row.get(column) not in (None, "")}
        try:
            yield Measurement.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "row"
            raise BadRecording(f"{name}, line {rows.line_num}, {where}: {first['msg']}") from None


def replay(
    measurements: list[Measurement],
    producer: Producer,
    clock: Clock,
    *,
    stop: threading.Event,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> int:
    """Produce each reading, keyed by its asset, when `clock` reaches its instant; returns how many were sent.

    What lies in the clock's past goes at once. Blocks until all are sent or `stop` is set. Raises
    Unavailable if the broker does not take them.
    """
    ordered = sorted(measurements, key=lambda reading: reading.measured_at)
    sent = 0
    for reading in ordered:
        wait = (clock.wall_at(reading.measured_at) - datetime.now(UTC)).total_seconds()
        if wait > 0:
            producer.flush()
            on_progress(Progress(sent, len(ordered), clock.now()))
            if stop.wait(wait):
                break
        producer.send(TELEMETRY, reading.asset_id, reading)
        sent += 1
        if sent % AT_ONCE == 0:
            producer.flush()
            on_progress(Progress(sent, len(ordered), clock.now()))
    producer.flush()
    on_progress(Progress(sent, len(ordered), clock.now()))
    return sent
