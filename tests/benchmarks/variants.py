"""What is compared: how each variant is started, what it reads, how its rows are judged. All do the job of the peers at least:
quarter hours of each asset by event time, closed 60 s after their end, recovery on, rows to Kafka with acknowledgement.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.benchmarks import rows, tools
from tests.benchmarks.broker import Broker, Message
from tests.benchmarks.product import SCOPE, Product
from tests.benchmarks.readings import TAIL_MS, Fleet
from tests.benchmarks.rows import Finding

JVM = ["java", "-Xmx2g", "-XX:+UseParallelGC"]
OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.util", "java.time")]


class Pipeline(Protocol):
    """One variant made ready for one round: topics exist, nothing is running."""

    source: str
    sink: str
    command: list[str]
    environment: dict[str, str]

    def warm_rows(self, warm: Fleet) -> int:
        """How many messages the warm-up leads to at least."""

    def judge(self, fleet: Fleet, messages: Sequence[Message]) -> Finding:
        """Its rows against the truth."""


@dataclass(frozen=True)
class Variant:
    """A competitor. `group` names the column of sizes; the open ones are asked for their progress when time is up."""

    name: str
    form: str
    group: str
    words: str
    make: Callable[[Broker, str, Path, tuple[Fleet, ...]], Pipeline]


class Peer:
    """A program of ours on another engine: same input, rows of count and sum."""

    def __init__(self, broker: Broker, prefix: str, command: list[str], directory: Path, *more: str) -> None:
        self.source, self.sink = f"{prefix}in", f"{prefix}out"
        broker.create([self.source, self.sink])
        state = directory / "state"
        state.mkdir(parents=True)
        self.command = [*command, broker.bootstrap, self.source, self.sink, str(state), *more]
        self.environment = dict(os.environ)

    def warm_rows(self, warm: Fleet) -> int:
        return warm.assets * len(warm.quarters)

    def judge(self, fleet: Fleet, messages: Sequence[Message]) -> Finding:
        return rows.peer_rows(fleet, messages)


class Ours:
    """`derms run telemetry` as an operator would start it."""

    def __init__(self, broker: Broker, prefix: str, directory: Path, fleets: tuple[Fleet, ...], processes: int) -> None:
        product = Product(broker, prefix, directory, fleets)
        self.source, self.sink = f"{prefix}derms.telemetry", f"{prefix}derms.quarter-hours"
        self.command = product.command(processes)
        # The clock stands after the input: nothing is from the future, and what is read is a backlog.
        self.environment = product.environment(fleets[0].end + TAIL_MS + 60_000)

    def warm_rows(self, warm: Fleet) -> int:
        return (warm.assets + -(-warm.assets // SCOPE)) * len(warm.quarters)

    def judge(self, fleet: Fleet, messages: Sequence[Message]) -> Finding:
        return rows.product_rows(fleet, messages)


def _ours(form: str, processes: int) -> Variant:
    words = (
        f"derms run telemetry, {'batches of 100' if form == 'batches' else 'single readings'}, {processes} process{'es' * (processes > 1)}"
    )
    return Variant(
        f"ours-{form}-{processes}", form, f"ours-{form}", words,
        lambda broker, prefix, directory, fleets: Ours(broker, prefix, directory, fleets, processes),
    )  # fmt: skip


def _python(script: str, interpreter: Callable[[], Path]) -> Callable[[Broker, str, Path, tuple[Fleet, ...]], Pipeline]:
    return lambda broker, prefix, directory, _: Peer(broker, prefix, [str(interpreter()), str(tools.PEERS / script)], directory)


def _java(peer: str, main: str, *more: str, flags: Sequence[str] = ()) -> Callable[[Broker, str, Path, tuple[Fleet, ...]], Pipeline]:
    return lambda broker, prefix, directory, _: Peer(
        broker, prefix, [*JVM, *flags, "-cp", tools.java_classpath(peer), main], directory, *more
    )


VARIANTS: tuple[Variant, ...] = (
    _ours("singles", 1),
    _ours("singles", 2),
    _ours("batches", 1),
    _ours("batches", 2),
    Variant("flink", "singles", "flink", "Flink 2.2, heap state, checkpoint 1 s", _java("flink", "FlinkPeer", "singles", flags=OPENS)),
    Variant("flink-batches", "batches", "flink-batches", "the same, batches of 100", _java("flink", "FlinkPeer", "batches", flags=OPENS)),
    Variant("streams", "singles", "streams", "Kafka Streams 4.3, RocksDB, cache 64 MB, commit 1 s", _java("streams", "StreamsPeer")),
    Variant("quix", "singles", "quix", "Quix Streams 3.28", _python("quix.py", tools.quix_python)),
    Variant("bytewax", "singles", "bytewax", "stock Bytewax 0.21 flow", _python("stock_bytewax.py", lambda: Path(sys.executable))),
)
FLOOR = "floor"
"""Not a pipeline: raw consumption of single messages, measured on a topic that another variant has read."""
NAMES = (FLOOR, *(variant.name for variant in VARIANTS))
