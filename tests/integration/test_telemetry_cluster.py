"""`derms run telemetry --processes N` on a real Kafka: a configuration that changes under way, and stores it cannot go on with."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.config_file import plan as planned
from gateway.config_file import publish
from gateway.recovery import recovery_store
from pipelines.telemetry import SHARDS
from schemas.config import Configuration
from sinks.kafka import Producer
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.soak.load import PARTITIONS, T0, Plan, load, single
from tests.soak.rows import Reader, Rows
from tests.soak.running import DRAIN_S, Feed, Flow, configure, prepare, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ROUNDS, EACH, EVERY_S = 3, 12, 10
HALF = 900 // EVERY_S // ROUNDS // 2


def with_assets(config: Configuration, names: list[str]) -> Configuration:
    """The configuration with these assets as well, in a scope without a group."""
    plain: dict[str, Any] = config.model_dump(mode="json")
    plain["assets"] = [*plain["assets"], *({"id": name, "scope_id": "pace", "category": "STORAGE"} for name in names)]
    return Configuration.model_validate(plain)


class Site:
    """A cluster of two, what is configured for it, and the readings it was sent of assets that were added under way."""

    def __init__(self, kafka: KafkaSettings, directory: Path) -> None:
        self._settings, self._wanted = unique(kafka), load(Plan(sites=2, hours=0.25, every_s=60, seed=1))
        prepare(self._settings, self._wanted)
        self._known = configure(self._settings, {}, self._wanted.config)
        self._apply = Producer(self._settings, "test", many=True)
        self.flow, self.feed = Flow(self._settings, directory / "flow", self._wanted.clock_origin, epoch_s=1), Feed(self._settings)
        self.reader = Reader(self._settings)
        self.sent: dict[str, int] = {}

    def start(self) -> None:
        """Returns once both processes go by a configuration."""
        self.feed.send(self._wanted.messages[:PARTITIONS])
        self.flow.start(2)
        until(lambda: all(self.went_by(0)), self.flow.said, 60)

    def add(self, more: int) -> None:
        """So many more assets."""
        names = [f"new-{number}" for number in range(len(self.sent) + more)]
        changes = planned(self._known, with_assets(self._wanted.config, names), at=datetime.now(UTC)).changes
        publish(changes, self._apply)
        self._known |= {f"{change.kind}/{change.id}": change for change in changes}
        self.sent |= dict.fromkeys(names[len(self.sent) :], 0)

    def read(self, seconds: float) -> None:
        """A reading of each asset added, so many seconds after the beginning of the quarter."""
        self.feed.send(single(name, seconds, 1.0) for name in self.sent)
        self.sent = {name: count + 1 for name, count in self.sent.items()}
        self.reader.read(0.02)

    def went_by(self, most: int) -> list[list[int]]:
        """How many assets the configurations had that each of the two processes took over, without the first `most`."""
        said = re.findall(r"process=telemetry-(\d) .*goes by a configuration of (\d+) assets", self.flow.log.read_text())
        return [[int(count) for which, count in said if which == process][most:] for process in "01"]

    def known(self) -> bool:
        """Whether both processes go by all assets."""
        there = len(self._wanted.config.assets) + len(self.sent)
        return all(there in some for some in self.went_by(0))

    def end(self) -> None:
        """Close the quarter, wait until all that was sent is accounted for, and drain it."""
        self.feed.send(self._wanted.pace)
        self.feed.flush()
        self.reader.until(lambda rows: all(self._found(rows, name) == count for name, count in self.sent.items()), self.flow.said, 60)
        assert self.flow.drain() < DRAIN_S
        assert "start again" not in self.flow.said()

    def rejected(self, name: str) -> int:
        """How many of its readings became dead letters since nobody knew the asset yet."""
        return self.reader.rows.rejected(name)

    def _found(self, rows: Rows, name: str) -> int:
        """How many of its readings are in its row, or dead letters."""
        found = rows.best.get(("ASSET", name, "ALL", int(T0.timestamp())))
        return (found[1]["samples"] if found else 0) + rows.rejected(name)

    def close(self) -> None:
        self.flow.stop()
        self.reader.close()
        self._apply.close()


@pytest.fixture
def site(real_kafka: KafkaSettings, tmp_path: Path) -> Iterator[Site]:
    with closing(Site(real_kafka, tmp_path)) as made:
        made.start()
        yield made


def test_assets_that_are_added_under_way_lose_nothing(site: Site) -> None:
    """Both processes go by views of their own: what one knows already the other may learn a moment later."""
    for some in range(ROUNDS):
        site.add(EACH)
        for step in range(2 * HALF):
            if step == HALF:
                until(site.known, site.flow.said, 60)
            site.read((2 * HALF * some + step) * EVERY_S)
    site.end()
    assert max(map(site.rejected, site.sent)) <= HALF  # those that were sent at once, never one that came after


def test_assets_that_are_added_without_end_become_known(site: Site) -> None:
    """No configuration stays for a second: the processes take one over all the same, each what it has by then."""
    seconds = 0
    while not all(site.went_by(2)):  # the first one, and another
        assert seconds < 890, site.flow.said()
        site.add(1)
        for _ in range(2):
            site.read(seconds := seconds + 1)
    until(site.known, site.flow.said, 60)
    before = {name: site.sent[name] for name in site.sent}
    site.read(seconds + 1)
    site.end()
    assert all(site.rejected(name) <= count for name, count in before.items())
    assert site.rejected("new-0") < before["new-0"]


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
