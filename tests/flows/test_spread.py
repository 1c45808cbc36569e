"""What the engine deals to which worker: lanes and shards, evenly, for 1, 2, 4 and 8 workers."""

import threading
from collections import Counter
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from gateway.composition import TELEMETRY_LANES
from pipelines.sources import PayloadSource
from pipelines.spread import SHARD_KEYS, shard_key
from pipelines.telemetry import SHARDS
from schemas.clock import SystemClock
from schemas.topics import TELEMETRY
from sinks.settings import KafkaSettings


class _Part(StatefulSourcePartition[str, None]):
    def __init__(self) -> None:
        self._keys = list(SHARD_KEYS)

    def next_batch(self) -> list[str]:
        if not self._keys:
            raise StopIteration
        found, self._keys = self._keys, []
        return found

    def snapshot(self) -> None:
        return None


class _Lanes(FixedPartitionedSource[str, None]):
    """The lanes of telemetry by name; each says all shards' keys once."""

    def __init__(self) -> None:
        source = PayloadSource(KafkaSettings(), TELEMETRY, clock=SystemClock(), stop=threading.Event(), group="test", lanes=TELEMETRY_LANES)
        self.names = source.list_parts()
        self.built: dict[str, int] = {}

    def list_parts(self) -> list[str]:
        return self.names

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Part:
        self.built[for_part] = threading.get_ident()
        return _Part()


class _Workers(DynamicSink[Any]):
    """Learns which thread is which worker."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        self.numbers[threading.get_ident()] = worker_index
        return _Nowhere()


class _Nowhere(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        pass


class _Logic(op.StatefulLogic[str, str, bytes]):
    def __init__(self, seen: dict[str, int]) -> None:
        self._seen = seen

    def on_item(self, value: str) -> tuple[list[str], bool]:
        self._seen[value] = threading.get_ident()
        return [], op.StatefulLogic.RETAIN

    def snapshot(self) -> bytes:
        return b""


def dealt(workers: int) -> tuple[dict[str, int], dict[str, int]]:
    """The worker of each lane and of each shard's key."""
    source, sink = _Lanes(), _Workers()
    seen: dict[str, int] = {}
    flow = Dataflow("spread")
    keyed = op.key_on("key", op.input("lanes", flow, source), lambda key: key)
    op.output("out", op.stateful("shards", keyed, lambda _: _Logic(seen)), sink)
    cli_main(flow, workers_per_process=workers)
    return tuple({name: sink.numbers[thread] for name, thread in found.items()} for found in (source.built, seen))  # type: ignore[return-value]


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_lanes_and_shards_are_dealt_evenly(workers: int) -> None:
    lanes, shards = dealt(workers)
    assert [lanes[f"lane-{number:03d}"] for number in range(TELEMETRY_LANES)] == [n % workers for n in range(TELEMETRY_LANES)]
    assert [shards[key] for key in SHARD_KEYS] == [n % workers for n in range(len(SHARD_KEYS))]
    of_ours = Counter(shards[shard_key(shard)] for shard in range(SHARDS))
    assert set(of_ours.values()) == {max(1, SHARDS // workers)}


def test_three_workers_get_three_three_and_two_shards() -> None:
    _, shards = dealt(3)
    assert sorted(Counter(shards.values()).values()) == [2, 3, 3]


def test_the_lanes_share_the_topics_partitions_evenly() -> None:
    assert TELEMETRY.partitions % TELEMETRY_LANES == 0
