"""A history in a list: what a repair asks of the real one, answered from readings and rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from pipelines.repairing import Piece, Repairer, Wanted
from pipelines.rules.quarter_roster import Rosters
from pipelines.rules.repair_rows import NUMBERS, OTHERS
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.telemetry import Level, Origin, QuarterHour
from schemas.units import Phase, from_ms, to_ms
from sinks.clickhouse.measured import VALUES, ReadingColumns, reading_columns
from tests.rules.reference_quarter_hours import Reading

PHASES = tuple(Phase)


class ListedHistory:
    """Readings in order of arrival (of one identity the first stays, BAD ones are not shown) and the last rows of quarters."""

    def __init__(self, readings: Iterable[Reading] = (), rows: Iterable[QuarterHour] = ()) -> None:
        self.kept: dict[tuple[str, int, int], Reading] = {}
        self.last: dict[tuple[Level, str, str, int], QuarterHour] = {}
        self.add(readings)
        self.write(rows)

    def add(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            if reading.quality != "BAD":
                self.kept.setdefault((reading.asset, reading.phase, reading.at), reading)

    def write(self, rows: Iterable[QuarterHour]) -> None:
        for row in rows:
            place = (row.level, row.id, row.phase.value, to_ms(row.start))
            if place not in self.last or row.revision >= self.last[place].revision:
                self.last[place] = row

    def counts(self, assets: Sequence[str], first: int, until: int) -> dict[str, int]:
        found: dict[str, int] = {}
        for reading in self._of(assets, first, until):
            found[reading.asset] = found.get(reading.asset, 0) + 1
        return found

    def readings(self, assets: Sequence[str], first: int, until: int, ahead: int | None = None) -> ReadingColumns:
        return _columns(self._of(assets, first, until))

    def instants(self, assets: Sequence[str], first: int, until: int, most: int, *, newest: bool) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = {}
        for reading in self._of(assets, first, until):
            if (reading.imported, reading.exported) != (None, None):
                found.setdefault((reading.asset, PHASES[reading.phase].value), []).append(reading.at)
        return {key: instants[: -most - 1 : -1] if newest else instants[:most] for key, instants in found.items()}

    def at(self, instants: Mapping[tuple[str, str], Sequence[int]]) -> ReadingColumns:
        wanted = {(asset, phase, at) for (asset, phase), found in instants.items() for at in found}
        return _columns([one for one in self.kept.values() if (one.asset, PHASES[one.phase].value, one.at) in wanted])

    def rows(self, level: Level, ids: Sequence[str], first: int, until: int) -> Iterator[dict[str, Any]]:
        for row in self.last.values():
            if row.level is level and row.id in ids and first <= to_ms(row.start) < until:
                yield row.model_dump() | {"start": to_ms(row.start), "at": to_ms(row.at), "phase": row.phase.value}

    def own_time(self, assets: Sequence[str]) -> dict[str, int]:
        rows = [row for row in self.last.values() if row.level is Level.ASSET and row.id in assets and row.origin is not Origin.BACKFILL]
        return {row.id: min(to_ms(one.start) for one in rows if one.id == row.id) for row in rows}

    def _of(self, assets: Sequence[str], first: int, until: int) -> list[Reading]:
        found = [reading for reading in self.kept.values() if reading.asset in assets and first <= reading.at < until]
        return sorted(found, key=lambda reading: reading.at)


def _columns(readings: list[Reading]) -> ReadingColumns:
    values = {name: [getattr(reading, ours) for reading in readings] for name, ours in zip(VALUES, OURS, strict=True)}
    frame = {
        "asset_id": pl.Series([reading.asset for reading in readings], dtype=pl.String),
        "phase": pl.Series([PHASES[reading.phase].value for reading in readings], dtype=pl.String),
        "at": pl.Series([reading.at for reading in readings], dtype=pl.Int64),
        "estimated": pl.Series([reading.quality == "ESTIMATED" for reading in readings], dtype=pl.Boolean),
        **{name: pl.Series(column, dtype=pl.Float64) for name, column in values.items()},
    }
    return reading_columns(pl.DataFrame(frame))


OURS = ("power", "imported", "exported", "stored")


def repairer(history: ListedHistory, config: Configuration, clock: Clock) -> Repairer:
    """A repairer over a listed history."""
    return Repairer(history, Rosters(lambda: config, clock), clock, lambda: config.timing.asset_expiry)


def repaired(history: ListedHistory, config: Configuration, clock: Clock, wanted: Wanted) -> list[QuarterHour]:
    """Run a repair to its end; what it writes is in the history afterwards."""
    pieces: list[Piece] = []
    for piece in repairer(history, config, clock).run(wanted):
        pieces.append(piece)
        history.write(piece.rows)
    return [row for piece in pieces for row in piece.rows]


def asset_row(asset: str, phase: int, start: int, content: Mapping[str, Any], **more: Any) -> QuarterHour:
    """An asset's row with the content the reference gives."""
    said = {"net_wh": content["import_wh"] - content["export_wh"], "missing_members": 0, **content}
    return QuarterHour.model_validate(
        {name: said[name] for name in (*NUMBERS, *OTHERS)}
        | {
            "event_id": f"{asset}-{phase}-{start}", "at": from_ms(start + 1_000_000), "level": "ASSET", "id": asset, "scope_id": "s",
            "phase": PHASES[phase], "start": from_ms(start), "revision": 1, **more,
        }
    )  # fmt: skip


def content_of(row: QuarterHour) -> dict[str, Any]:
    """A row's content under the reference's names."""
    return {name: getattr(row, name) for name in (*NUMBERS, *OTHERS) if name not in ("net_wh", "missing_members")} | {
        "method": row.method.value
    }
