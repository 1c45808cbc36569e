"""The archive's sink: batches of values in, blocks of rows in the store, nothing lost and nothing counted twice.

Why a crash at any moment is harmless: the partition buffers what is written to it and inserts it when there is
enough, when it has waited `FLUSH_S`, and **always in `snapshot`**, which the engine calls at the end of each epoch
before the epoch counts as done. So positions never run ahead of the store; after a crash the last epochs' records
come again, cut into other blocks perhaps, and the tables (ReplacingMergeTree by business key, with a version that
follows from the position alone) hold each row once for whoever reads with FINAL, as all views do.

Every insert carries a deduplication token, life:topic:partition:first-last:checksum, so that an insert whose answer
was lost can be sent again. The checksum over the rows makes it impossible to use a token for other rows than
those it was first used with, whatever happened to the topic or the program in between.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from schemas.clock import wall_seconds
from schemas.facts import Value
from sinks.clickhouse.client import Store, open_store
from sinks.clickhouse.migrations import migrate, pending
from sinks.clickhouse.readings import COLUMNS, arrow_file, telemetry_columns
from sinks.clickhouse.rows import LIVES, Place, Row, columns_of, rows_of
from sinks.errors import Misconfigured
from sinks.settings import ClickHouseSettings

FLUSH_ROWS = 20_000
FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of one partition of a topic: the records `first` to `last`, as values with their offsets or as readings
    (columns of `readings.telemetry_columns`)."""

    topic: str
    partition: int
    first: int
    last: int
    values: Sequence[tuple[int, Value]] = ()
    readings: pl.DataFrame | None = None


@dataclass
class Block:
    """What waits to be inserted into one table, and from where it comes."""

    rows: list[Row] = field(default_factory=list)
    readings: list[pl.DataFrame] = field(default_factory=list)
    ranges: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def covers(self, batch: Batch) -> None:
        """Note that rows of `batch` are in it."""
        key = (batch.topic, batch.partition)
        first, last = self.ranges.get(key, (batch.first, batch.last))
        self.ranges[key] = (min(first, batch.first), max(last, batch.last))

    def token(self, incarnation: str, checksum: int) -> str:
        """life:topic:partition:first-last:checksum, with each partition that has rows in it."""
        runs = ",".join(f"{topic}:{partition}:{first}-{last}" for (topic, partition), (first, last) in sorted(self.ranges.items()))
        return f"{incarnation}:{runs}:{checksum:08x}"


class History:
    """Writes batches into a store. `life` is the ordinal of the broker's incarnation. Not thread-safe; inserts block."""

    def __init__(self, store: Store, incarnation: str, life: int) -> None:
        self._store, self._incarnation, self._life = store, incarnation, life
        self._blocks: dict[str, Block] = {}
        self._waiting = 0
        self._since = 0.0

    def add(self, batch: Batch) -> None:
        """Take in a batch; inserts what waits when that is enough. Raises what `Store.insert_columns` raises."""
        if not self._waiting:
            self._since = wall_seconds()
        for offset, value in batch.values:
            for table, row in rows_of(value, Place(self._life, offset)):
                block = self._blocks.setdefault(table, Block())
                block.rows.append(row)
                block.covers(batch)
                self._waiting += 1
        if batch.readings is not None and len(batch.readings):
            block = self._blocks.setdefault("telemetry", Block())
            block.readings.append(batch.readings)
            block.covers(batch)
            self._waiting += len(batch.readings)
        if self._waiting >= FLUSH_ROWS or (self._waiting and wall_seconds() - self._since >= FLUSH_S):
            self.flush()

    def flush(self) -> None:
        """Insert everything that waits; what has been inserted does not wait any more, even if a later table fails."""
        for table in list(self._blocks):
            self._insert(table, self._blocks[table])
            del self._blocks[table]
        self._waiting = 0

    def _insert(self, table: str, block: Block) -> None:
        if block.readings:
            stream = arrow_file(telemetry_columns(pl.concat(block.readings), self._life))
            self._store.insert_arrow(table, COLUMNS, stream, block.token(self._incarnation, zlib.crc32(stream)))
        if block.rows:
            columns = columns_of(block.rows)
            checksum = zlib.crc32(repr(columns).encode(errors="backslashreplace"))
            self._store.insert_columns(table, columns, block.token(self._incarnation, checksum))

    def close(self) -> None:
        """Let go of the store; what waits is dropped (the engine replays it)."""
        self._store.close()


def life_of(store: Store, incarnation: str) -> int:
    """The ordinal of a broker's incarnation in this store: 1 for the first it met, growing with each new one."""
    sql = "SELECT min(ordinal) AS ordinal, count() AS known FROM incarnations WHERE incarnation = {incarnation:String}"
    found = store.query(sql, {"incarnation": incarnation})[0]
    if not found["known"]:
        newest = store.query("SELECT max(ordinal) AS newest FROM incarnations")[0]["newest"]
        store.insert_columns("incarnations", {"incarnation": [incarnation], "ordinal": [newest + 1]})
        found = store.query(sql, {"incarnation": incarnation})[0]
    if found["ordinal"] >= LIVES:
        raise Misconfigured("the history", f"has been filled from {LIVES} lives of the embedded broker", "begin a new history directory")
    return int(found["ordinal"])


def open_history(settings: ClickHouseSettings, incarnation: str) -> History:
    """A `History` on the store of the settings. An embedded store is brought up to date first; a server that is behind
    is refused (`Misconfigured`), since its tables are for `derms migrate` to change. Raises as `open_store`, too."""
    store = open_store(settings)
    try:
        if settings.path is not None:
            migrate(store)
        elif behind := pending(store):
            raise Misconfigured("the history", f"lacks {behind[0].name} and is behind this program", "run derms migrate")
        return History(store, incarnation, life_of(store, incarnation))
    except BaseException:
        store.close()
        raise


class _Partition(StatefulSinkPartition[Batch, None]):
    def __init__(self, history: History) -> None:
        self._history = history

    def write_batch(self, values: list[Batch]) -> None:
        for batch in values:
            self._history.add(batch)

    def snapshot(self) -> None:
        self._history.flush()

    def close(self) -> None:
        self._history.close()


class HistorySink(FixedPartitionedSink[Batch, None]):
    """The store as a sink of one partition; takes `(any key, Batch)`. Opens the store when the flow starts."""

    def __init__(self, settings: ClickHouseSettings, incarnation: str) -> None:
        self._settings, self._incarnation = settings, incarnation

    def list_parts(self) -> list[str]:
        """One: the embedded store has one writer, and a server is not the bottleneck of one."""
        return ["history"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Partition:
        """Open the store; raises what `open_history` raises."""
        return _Partition(open_history(self._settings, self._incarnation))


def batches(topic: str, values: Iterable[tuple[int, int, Value]]) -> list[Batch]:
    """(partition, offset, value) of one topic as batches, one a partition, offsets in the order given."""
    runs: dict[int, list[tuple[int, Value]]] = {}
    for partition, offset, value in values:
        runs.setdefault(partition, []).append((offset, value))
    return [
        Batch(topic, partition, min(offset for offset, _ in run), max(offset for offset, _ in run), run)
        for partition, run in sorted(runs.items())
    ]
