"""Readings to Arrow columns of the table `telemetry`: no Python object for any of them (architecture, "Data plane").

Of two different readings of one identity the first stays (semantics 1.6): the version falls with the place in the
topic, and within one message the earlier reading is inserted after the later, since the last of equal versions wins.
A reading the metering rule leaves out whatever the configuration says - BAD, or with a number that is none - does
not occupy its identity: it yields to any other.
"""

from io import BytesIO
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.telemetry import Quality
from sinks.clickhouse.rows import Place
from sinks.columns import PHASES, QUALITIES, VALUES, Readings

NUMBERS: Final = tuple(VALUES)
COLUMNS: Final = ("asset_id", "measured_at", "phase", "quality", *NUMBERS, "version")
USABLE: Final = 1 << 63
"""The version's highest bit: set for a reading that occupies its identity."""


def frame_of(readings: Readings, offsets: NDArray[np.int64], *, backfilled: bool = False) -> pl.DataFrame:
    """Decoded readings as a frame. `offsets` has the offset of each payload. What was not sent is null; a NaN that was sent stays."""
    columns: dict[str, pl.Series] = {
        "asset_id": pl.Series(readings.ids, dtype=pl.String).gather(readings.asset),
        "measured_at": pl.Series(readings.measured_at),
        "phase": pl.Series([phase.value for phase in PHASES]).gather(readings.phase),
        "quality": pl.Series([quality.value for quality in QUALITIES]).gather(readings.quality),
        "offset": pl.Series(offsets[readings.payload]),
        "backfilled": pl.repeat(backfilled, len(readings), dtype=pl.Boolean, eager=True),
    }
    for name, bit in VALUES.items():
        sent = pl.Series((readings.present & bit) != 0)
        columns[name] = pl.select(pl.when(sent).then(pl.Series(getattr(readings, name)))).to_series()
    return pl.DataFrame(columns)


def telemetry_columns(readings: pl.DataFrame, life: int) -> pl.DataFrame:
    """The table's columns, first reading last.

    `readings` are frames of `frame_of`, in the order they were appended; `life` is the ordinal of the broker's incarnation.
    """
    first = Place(life, 0)
    begins = pl.when("backfilled").then(pl.lit(first.backfilled, pl.UInt64)).otherwise(pl.lit(first.rising, pl.UInt64))
    place = begins + pl.col("offset").cast(pl.UInt64)
    sound = [pl.col(name).is_finite().fill_null(value=True) for name in NUMBERS]
    usable = pl.all_horizontal(pl.col("quality") != Quality.BAD.value, *sound)
    falling = pl.lit(USABLE - 1, pl.UInt64) - place
    return readings.reverse().select(
        "asset_id",
        pl.col("measured_at").cast(pl.Datetime("ms", "UTC")),
        "phase",
        "quality",
        *NUMBERS,
        (falling + pl.when(usable).then(pl.lit(USABLE, pl.UInt64)).otherwise(pl.lit(0, pl.UInt64))).alias("version"),
    )


def arrow_file(columns: pl.DataFrame) -> bytes:
    """The columns as an Arrow IPC file that any ClickHouse reads; the same columns make the same bytes."""
    stream = BytesIO()
    columns.write_ipc(stream, compat_level=pl.CompatLevel.oldest())
    return stream.getvalue()
