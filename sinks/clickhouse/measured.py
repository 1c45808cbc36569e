"""What the history holds of readings and quarter hours, as columns: what a repair computes from (semantics 1.10).

Works on the embedded history and on a server alike, over ClickHouse's HTTP protocol, and reads the analysts' views.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
import polars as pl
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from numpy.typing import NDArray

from schemas.telemetry import Level, QuarterHour
from schemas.units import Phase
from sinks.clickhouse.client import translated

VALUES: Final = ("power_w", "import_wh", "export_wh", "stored_wh")
PHASES: Final = tuple(phase.value for phase in Phase)
ROW_FIELDS: Final = tuple(
    name
    for name in QuarterHour.model_fields
    if name not in ("level", "start", "at", "cause_id", "event_id", "provisional", "last_minute_w")
)
Key = tuple[str, str]
"""An asset and a phase."""
IDS_BYTES = 64 * 1024
"""So many bytes of ids go into one question."""
ALL_FROM = 5_000
"""Of more assets than this the readings are counted of all."""
_SETTINGS = {"max_execution_time": "60"}
_READ = f"SELECT CAST(asset_id, 'String') AS asset_id, CAST(phase, 'String') AS phase, toUnixTimestamp64Milli(measured_at) AS at, \
quality = 'ESTIMATED' AS estimated, {', '.join(VALUES)} FROM v_telemetry"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class ReadingColumns:
    """Readings that were not BAD, one an identity. `asset` indexes `ids`, `phase` the phases in their order, `at` is ms.

    `values` are `VALUES`, NaN where absent; `present` has a bit for each, the first being 1.
    """

    ids: list[str]
    asset: NDArray[np.int32]
    phase: NDArray[np.int8]
    at: NDArray[np.int64]
    values: tuple[NDArray[np.float64], ...]
    present: NDArray[np.uint8]
    estimated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.asset)


def reading_columns(frame: pl.DataFrame) -> ReadingColumns:
    """A frame with `asset_id`, `phase`, `at`, `estimated` and `VALUES` (null where absent) as columns."""
    ids = frame["asset_id"].unique(maintain_order=True).to_list()
    present = np.zeros(frame.height, np.uint8)
    for bit, name in enumerate(VALUES):
        present |= frame[name].is_not_null().to_numpy() * np.uint8(1 << bit)
    return ReadingColumns(
        ids,
        frame["asset_id"].replace_strict(ids, range(len(ids)), return_dtype=pl.Int32).to_numpy().astype(np.int32),
        frame["phase"].replace_strict(PHASES, range(len(PHASES)), return_dtype=pl.Int8).to_numpy(),
        frame["at"].cast(pl.Int64).to_numpy(),
        tuple(frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in VALUES),
        present,
        frame["estimated"].cast(pl.Boolean).to_numpy(),
    )


class MeasuredHistory:
    """Asks the history about assets and groups; connects when it is first asked. For one thread; every call blocks.

    Instants are ms since 1970 UTC, stretches half-open. Errors are those of `sinks.clickhouse.client.Store`.
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None

    def counts(self, assets: Sequence[str], first: int, until: int) -> dict[str, int]:
        """How many readings each asset has in a stretch, not fewer; assets without any are not there. Others may be."""
        found: dict[str, int] = {}
        for chosen in ["TRUE"] if len(assets) > ALL_FROM else _chosen("asset_id", map(_quoted, assets)):
            sql = (
                f"SELECT CAST(asset_id, 'String') AS name, count() AS n FROM telemetry "  # noqa: S608 - ids are quoted
                f"WHERE {chosen} AND {_within(first, until)} GROUP BY asset_id"
            )
            found |= {str(row["name"]): int(row["n"]) for row in self._frame(sql).iter_rows(named=True)}
        return found

    def readings(self, assets: Sequence[str], first: int, until: int, ahead: int | None = None) -> ReadingColumns:
        """The assets' readings in a stretch. With `ahead`, those that came more than that before their time are left out,
        by the store's wall time: of use only where the clock is the wall's."""
        early = "" if ahead is None else f" AND measured_at <= inserted_at + INTERVAL {ahead} MILLISECOND"
        within = f"{_within(first, until)} AND quality != 'BAD'{early}"
        frames = [self._frame(f"{_READ} WHERE {chosen} AND {within}") for chosen in _chosen("asset_id", map(_quoted, assets))]
        return reading_columns(pl.concat(frames) if frames else pl.DataFrame(schema=_EMPTY))

    def instants(self, assets: Sequence[str], first: int, until: int, most: int, *, newest: bool) -> dict[Key, list[int]]:
        """Of each asset and phase, when its first `most` readings with a register in a stretch were; with `newest`, its last ones.

        However many readings there are, the history keeps no more than these in mind.
        """
        found: dict[Key, list[int]] = {}
        some = "quality != 'BAD' AND (import_wh IS NOT NULL OR export_wh IS NOT NULL)"
        sign = "-" if newest else ""
        for chosen in _chosen("asset_id", map(_quoted, assets)):
            sql = (
                f"SELECT CAST(asset_id, 'String') AS asset, CAST(phase, 'String') AS name, "  # noqa: S608 - ids are quoted
                f"groupArraySorted({int(most)})({sign}toUnixTimestamp64Milli(measured_at)) AS at FROM v_telemetry "
                f"WHERE {chosen} AND {_within(first, until)} AND {some} GROUP BY asset_id, phase"
            )
            found |= {(row["asset"], row["name"]): [abs(at) for at in row["at"]] for row in self._frame(sql).iter_rows(named=True)}
        return found

    def at(self, instants: Mapping[Key, Sequence[int]]) -> ReadingColumns:
        """The readings of these assets and phases at these instants."""
        identities = (
            f"({_quoted(asset)}, {_quoted(phase)}, fromUnixTimestamp64Milli({int(at)}, 'UTC'))"
            for (asset, phase), found in instants.items()
            for at in found
        )
        frames = [self._frame(f"{_READ} WHERE {chosen}") for chosen in _chosen("(asset_id, phase, measured_at)", identities)]
        return reading_columns(pl.concat(frames) if frames else pl.DataFrame(schema=_EMPTY))

    def rows(self, level: Level, ids: Sequence[str], first: int, until: int) -> Iterator[dict[str, Any]]:
        """The last final row of each quarter that starts in a stretch: `ROW_FIELDS`, with `start` and `at` in ms."""
        fields = ", ".join(f"CAST({name}, 'String') AS {name}" if name in _WORDS else name for name in ROW_FIELDS if name != "scope_id")
        for chosen in _chosen("id", map(_quoted, ids)):
            sql = (
                f"SELECT toUnixTimestamp64Milli(start) AS starts, toUnixTimestamp64Milli(at) AS stated, "  # noqa: S608 - ids are quoted
                f"CAST(scope_id, 'Nullable(String)') AS scope_id, {fields} FROM v_quarter_hours "
                f"WHERE level = '{level.value}' AND {chosen} AND {_within(first, until, 'start')}"
            )
            for row in self._frame(sql).iter_rows(named=True):
                yield {**row, "start": row["starts"], "at": row["stated"]}

    def own_time(self, assets: Sequence[str]) -> dict[str, int]:
        """The start of the first quarter of each asset that the running system wrote itself; assets without any are not there."""
        found: dict[str, int] = {}
        for chosen in _chosen("id", map(_quoted, assets)):
            sql = (
                f"SELECT CAST(id, 'String') AS name, toUnixTimestamp64Milli(min(start)) AS first FROM v_quarter_hours "  # noqa: S608
                f"WHERE level = 'ASSET' AND {chosen} AND origin != 'BACKFILL' GROUP BY id"
            )
            found |= {str(row["name"]): int(row["first"]) for row in self._frame(sql).iter_rows(named=True)}
        return found

    def _frame(self, sql: str) -> pl.DataFrame:
        if self._client is None:
            self._client = self._connect()
        try:
            raw = self._client.raw_query(sql, fmt="Arrow", settings=_settings(self._client))
        except ClickHouseError as error:
            raise translated(error) from error
        return pl.read_ipc(BytesIO(raw)) if raw else pl.DataFrame(schema=_EMPTY)

    def close(self) -> None:
        """Let go of the connection, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None


_EMPTY: Final[Mapping[str, Any]] = {
    "asset_id": pl.String, "phase": pl.String, "at": pl.Int64, "estimated": pl.Boolean, **dict.fromkeys(VALUES, pl.Float64),
}  # fmt: skip
_WORDS: Final = frozenset({"id", "phase", "method", "origin"})


def _settings(client: Client) -> dict[str, Any]:
    """A server is told the limit; a read-only account may not choose one."""
    known = client.server_settings.get("readonly")
    return dict(_SETTINGS) if known is None or known.value == "0" else {}


def _within(first: int, until: int, column: str = "measured_at") -> str:
    return f"{column} >= fromUnixTimestamp64Milli({int(first)}, 'UTC') AND {column} < fromUnixTimestamp64Milli({int(until)}, 'UTC')"


def _chosen(column: str, literals: Iterable[str]) -> Iterator[str]:
    """Conditions that name all the literals, each so short that the question stays one."""
    some: list[str] = []
    size = 0
    for text in literals:
        if some and size + len(text.encode()) > IDS_BYTES:
            yield f"{column} IN ({', '.join(some)})"
            some, size = [], 0
        some.append(text)
        size += len(text.encode()) + 2
    if some:
        yield f"{column} IN ({', '.join(some)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
