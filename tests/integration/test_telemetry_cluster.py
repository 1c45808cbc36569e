"""`derms run telemetry --processes N` on a real Kafka: a configuration that changes under way, and stores it cannot go on with."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.recovery import recovery_store
from pipelines.telemetry import SHARDS
from schemas.config import Configuration
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.soak.load import PARTITIONS, T0, Load, Plan, load, single
from tests.soak.rows import Reader, Rows
from tests.soak.running import DRAIN_S, Feed, Flow, configure, prepare, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ROUNDS, EACH, EVERY_S = 5, 12, 10
READINGS = 900 // EVERY_S


def with_assets(config: Configuration, names: list[str]) -> Configuration:
    """The configuration with these assets as well, in a scope without a group."""
    plain: dict[str, Any] = config.model_dump(mode="json")
    plain["assets"] = [*plain["assets"], *({"id": name, "scope_id": "pace", "category": "STORAGE"} for name in names)]
    return Configuration.model_validate(plain)


def test_assets_that_are_added_under_way_lose_nothing(real_kafka: KafkaSettings, tmp_path: Path) -> None:
    settings, wanted = unique(real_kafka), load(Plan(sites=2, hours=0.25, every_s=60, seed=1))
    prepare(settings, wanted)
    known = configure(settings, {}, wanted.config)
    flow, feed, reader = Flow(settings, tmp_path / "flow", wanted.clock_origin, epoch_s=1), Feed(settings), Reader(settings)
    names = [f"new-{number}" for number in range(ROUNDS * EACH)]
    try:
        feed.send(wanted.messages[:PARTITIONS])
        flow.start(2)
        until(lambda: "is running in 2 processes" in flow.said(), flow.said, 60)
        # Both workers go by views of their own: what one knows already the other may learn a moment later.
        for some in range(ROUNDS):
            begin = READINGS * some // ROUNDS
            known = configure(settings, known, with_assets(wanted.config, names[: (some + 1) * EACH]))
            for step in range(begin, READINGS * (some + 1) // ROUNDS):
                feed.send(single(name, step * EVERY_S, 1.0) for name in names[: (some + 1) * EACH])
                reader.read(0.02)
        feed.send(wanted.pace)
        feed.flush()
        reader.until(lambda rows: all(_accounted(rows, wanted, index, name) for index, name in enumerate(names)), flow.said, 60)
        assert flow.drain() < DRAIN_S
    finally:
        flow.stop()
        reader.close()
    assert "start again" not in flow.said()
    assert sum(reader.rows.rejected(name) for name in names) < len(names) * READINGS / 2


def _accounted(rows: Rows, wanted: Load, index: int, name: str) -> bool:
    """Whether each reading of an asset that was sent is in its row, or a dead letter since nobody knew the asset yet."""
    sent = READINGS - READINGS * (index // EACH) // ROUNDS
    found = rows.best.get(("ASSET", name, "ALL", int(T0.timestamp())))
    return (found[1]["samples"] if found else 0) + rows.rejected(name) == sent


def code_of(flow: Flow, processes: int | None) -> int:
    """What a start ends with that cannot go on."""
    flow.start(processes)
    assert flow.process is not None
    process, flow.process = flow.process, None
    try:
        return process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"it goes on: {flow.said()}") from None


@pytest.mark.parametrize("processes", [None, 2])
def test_a_store_of_another_make_ends_it_for_good(real_kafka: KafkaSettings, tmp_path: Path, processes: int | None) -> None:
    settings = unique(real_kafka)
    prepare(settings, load(Plan(sites=1, hours=0.25, every_s=60, seed=1)))
    flow = Flow(settings, tmp_path / "flow", T0)
    store = recovery_store(flow.directory, "telemetry", "kafka", {"lanes": 4, "shards": SHARDS})
    try:
        assert code_of(flow, processes) == 78
        assert "was made with 4 lanes, this program has 8 lanes" in flow.said()
        assert "or move" in flow.said()
        (store / "part-0.sqlite3").unlink()
        assert code_of(flow, processes) == 78
        assert "has 3 of its 4 partitions" in flow.said()
    finally:
        flow.stop()
    assert "start again in" not in flow.said()
