"""Rows of an earlier life: what comes again after a kill, cut into other polls, is numbered after them (semantics 1.11)."""

import pickle
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from pipelines.earlier_rows import LOOK_BACK, SKEW, SPREAD, EarlierRows
from pipelines.meters import Meters
from pipelines.records import Out, Outs, Poll, Run
from pipelines.rules.group_news import GROUP_ROW, GroupNews
from pipelines.rules.quarter_earlier import Earlier
from pipelines.rules.quarter_hours import METHODS, ROW
from pipelines.rules.quarter_roster import Rosters
from pipelines.telemetry import telemetry_flow
from pipelines.telemetry_shards import GroupLogic, ShardLogic
from pipelines.views import FixedView
from schemas.clock import FrozenClock
from schemas.telemetry import Level, Method, QuarterHour
from schemas.topics import QUARTER_HOURS
from schemas.units import Phase, to_ms
from sinks.kafka import create_topics
from sinks.settings import KafkaSettings
from tests.builders import T0, configuration
from tests.kafka.driving import publish
from tests.outs import each
from tests.soak.load import PARTITIONS, Load, Plan, load
from tests.soak.rows import Rows, difference

LOAD = load(Plan(sites=3, hours=1.0, every_s=6, seed=11, late=0.3))
PLACE = ("a", 0, to_ms(T0))


def row(revision: int, *, import_wh: float = 1.0, min_w: float | None = None, samples: int = 5, **more: Any) -> QuarterHour:
    values: dict[str, Any] = {"level": Level.ASSET, "id": "a", "start": T0, "method": Method.POWER} | more
    return QuarterHour(
        event_id="e", at=T0, import_wh=import_wh, export_wh=0.0, net_wh=import_wh, mean_w=4.0, min_w=min_w, max_w=None,
        samples=samples, coverage=1.0, revision=revision, **values,
    )  # fmt: skip


def plain(*rows: QuarterHour) -> list[dict[str, Any]]:
    return [one.model_dump() for one in rows]


def columns(value: QuarterHour, dtype: Any = ROW) -> Any:
    found = np.zeros(1, dtype)
    for name in ("import_wh", "export_wh", "mean_w", "min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh", "coverage"):
        number = getattr(value, name)
        found[name] = -np.nan if number is None else number  # any NaN is one
    found["samples"], found["method"] = value.samples, METHODS.index(value.method) if dtype is ROW else 1
    return found


class TestNumbers:
    def test_rows_nobody_wrote_keep_theirs(self) -> None:
        earlier = Earlier.of(Level.ASSET, plain(row(3, id="b"), row(3, level=Level.GROUP, method=Method.SUM)))
        assert earlier.renumbered([PLACE], columns(row(1)), np.array([1], np.int32)).tolist() == [1]

    def test_the_same_content_has_the_number_it_had(self) -> None:
        earlier = Earlier.of(Level.ASSET, plain(row(1), row(2, min_w=7.0)))
        assert earlier.renumbered([PLACE], columns(row(1, min_w=7.0)), np.array([1], np.int32)).tolist() == [2]

    def test_other_content_comes_after_it_and_what_follows_after_that(self) -> None:
        earlier = Earlier.of(Level.ASSET, plain(row(1), row(3, import_wh=3.0)))
        assert earlier.renumbered([PLACE], columns(row(1)), np.array([1], np.int32)).tolist() == [4]
        assert earlier.renumbered([PLACE], columns(row(2, import_wh=3.0)), np.array([2], np.int32)).tolist() == [5]
        assert earlier.renumbered([PLACE], columns(row(6, import_wh=9.0)), np.array([6], np.int32)).tolist() == [6]
        assert earlier.places == {}

    def test_of_equal_numbers_the_last_written_counts(self) -> None:
        earlier = Earlier.of(Level.ASSET, plain(row(2, samples=4), row(2, samples=5)))
        assert earlier.renumbered([PLACE], columns(row(1, samples=5)), np.array([1], np.int32)).tolist() == [2]

    def test_groups_are_told_apart_by_what_is_missing(self) -> None:
        earlier = Earlier.of(Level.GROUP, plain(row(2, level=Level.GROUP, method=Method.SUM, missing_members=1)))
        found = columns(row(1, level=Level.GROUP, method=Method.SUM), GROUP_ROW)
        assert earlier.renumbered([PLACE], found, np.array([1], np.int32)).tolist() == [3]

    def test_phases_and_shards(self) -> None:
        earlier = Earlier.of(Level.ASSET, plain(row(2, phase=Phase.TWO), row(2, id="b")))
        assert ("a", 2, to_ms(T0)) in earlier.places
        every = set(earlier.places)
        halves = [earlier.of_shard(number, 2) for number in (0, 1)]
        assert set(halves[0].places) | set(halves[1].places) == every
        assert not set(halves[0].places) & set(halves[1].places)
        assert earlier.places == {}

    def test_what_can_no_longer_be_written_is_forgotten(self) -> None:
        earlier = Earlier.of(Level.ASSET, plain(row(2), row(2, start=T0 + timedelta(minutes=15))))
        earlier.forget(to_ms(T0) + 1)
        assert [place[2] for place in earlier.places] == [to_ms(T0) + 900_000]


class _Lane(StatefulSourcePartition[Poll, int]):
    """The load's messages in polls of `most`, up to `until`, where it fails as a kill would."""

    def __init__(self, places: list[tuple[int, int]], messages: list[bytes], begin: int, most: int, until: int | None) -> None:
        self._places, self._messages, self._at, self._most, self._until = places, messages, begin, most, until

    def next_batch(self) -> list[Poll]:
        if self._until is not None and self._at >= self._until:
            raise ConnectionAbortedError("killed")
        if self._at >= len(self._messages):
            raise StopIteration
        by: dict[int, list[int]] = {}
        for index in range(self._at, min(self._at + self._most, len(self._messages))):
            by.setdefault(self._places[index][0], []).append(index)
        self._at += self._most
        payloads, runs = list[bytes](), list[Run]()
        for partition, some in sorted(by.items()):
            runs.append(Run(partition, len(payloads), len(some), range(self._places[some[0]][1], self._places[some[0]][1] + len(some))))
            payloads += [self._messages[index] for index in some]
        return [Poll(payloads, tuple(runs), (), tuple(range(PARTITIONS)), LOAD.clock_origin)]

    def snapshot(self) -> int:
        return self._at


class _Source(FixedPartitionedSource[Poll, int]):
    def __init__(self, wanted: Load, most: int, until: int | None) -> None:
        messages, counts = [*wanted.messages, *wanted.pace], [0] * PARTITIONS
        self._places: list[tuple[int, int]] = []
        for message in messages:
            partition = message.partition if message.partition >= 0 else zlib.crc32(message.key) % PARTITIONS
            self._places.append((partition, counts[partition]))
            counts[partition] += 1
        self._messages, self._most, self._until = [message.value for message in messages], most, until

    def list_parts(self) -> list[str]:
        return ["lane"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Lane:
        return _Lane(self._places, self._messages, resume_state or 0, self._most, self._until)


class _Topic(DynamicSink[Out | Outs], StatelessSinkPartition[Out | Outs]):
    """What all lives have written, in order."""

    def __init__(self) -> None:
        self.rows, self.written = Rows(), list[dict[str, Any]]()

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Topic":
        return self

    def write_batch(self, items: list[Out | Outs]) -> None:
        for item in each(items):
            self.rows.add(item.value)
            if isinstance(item.value, QuarterHour) and item.value.revision:
                self.written.append(item.value.model_dump())


class _Before(EarlierRows):
    """What is there when a life begins."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._there = list(rows)

    def restored(self, saved_at: datetime) -> None:
        """Whenever: all are there."""

    def of(self, level: Level) -> Earlier:
        return Earlier.of(level, self._there)


def lives(store: Path, *plan: tuple[int, float, int | None], reading_back: bool = True) -> Rows:
    """Lives one after the other, each (polls of so many messages, seconds between snapshots, killed at a message or never)."""
    init_db_dir(store, 1)
    topic, clock = _Topic(), FrozenClock(LOAD.clock_origin)
    for most, seconds, until in plan:
        before = _Before(topic.written) if reading_back else None
        flow = telemetry_flow(polls=_Source(LOAD, most, until), out=topic, clock=clock, config=FixedView(LOAD.config), written=before)
        killed = nullcontext() if until is None else pytest.raises(BytewaxRuntimeError)
        with killed:
            run_main(flow, epoch_interval=timedelta(seconds=seconds), recovery_config=RecoveryConfig(store))
    return topic.rows


NEVER_S = 86_400.0
LIVES = {
    "from a snapshot": ((10, 0.0, 1300), (10, NEVER_S, 2600), (2000, NEVER_S, None)),
    "from nothing": ((10, NEVER_S, 1600), (2000, NEVER_S, None)),
}
"""Small polls, with a snapshot after each or none; then what left no snapshot again, in large polls."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    rows = lives(tmp_path_factory.mktemp("undisturbed"), (40, NEVER_S, None))
    assert rows.miscounted(LOAD) == []
    return rows


@pytest.mark.parametrize("name", LIVES)
def test_what_comes_again_in_other_polls_is_what_an_undisturbed_run_says(tmp_path: Path, name: str, undisturbed: Rows) -> None:
    found = lives(tmp_path, *LIVES[name])
    assert found.miscounted(LOAD) == []
    assert difference(found, undisturbed).none, str(difference(found, undisturbed))


def test_without_reading_back_a_higher_number_of_less_would_hold(tmp_path: Path) -> None:
    assert lives(tmp_path, *LIVES["from a snapshot"], reading_back=False).miscounted(LOAD) != []


class _Asked(EarlierRows):
    """Keeps from when on rows were read."""

    asked: list[datetime]

    def _rows(self, since: datetime) -> Iterator[dict[str, Any]]:
        self.asked = [*getattr(self, "asked", []), since]
        yield from plain(row(3))


class TestHowFarBack:
    BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
    SAVED = datetime(2026, 11, 1, tzinfo=UTC)
    LEAST = SAVED - SPREAD - SKEW

    def asked(self, *restored: datetime, horizon: timedelta = timedelta(hours=1)) -> datetime:
        before = _Asked(KafkaSettings(), self.BEGUN, lambda: horizon)
        for saved_at in restored:
            before.restored(saved_at)
        for level in Level:
            before.of(level)
        (since,) = before.asked
        return since

    def test_to_the_first_snapshot_of_those_of_one_moment(self) -> None:
        assert self.asked(self.SAVED + timedelta(seconds=25), self.SAVED, self.SAVED + timedelta(seconds=3)) == self.LEAST

    def test_a_group_shard_that_heard_nothing_for_months_does_not_have_them_read(self) -> None:
        assert self.asked(self.SAVED - timedelta(days=90), self.SAVED) == self.LEAST

    def test_nor_does_one_that_is_new_in_an_old_store(self, tmp_path: Path) -> None:
        """The first group, configured months after the store was made."""
        before, clock = _Asked(KafkaSettings(), self.BEGUN), FrozenClock(T0)
        meters, rosters = Meters("telemetry", clock=clock), Rosters(configuration, clock)
        first = ShardLogic(None, rosters, None, meters)
        saved_at = pickle.loads(first.snapshot())["saved_at"]
        ShardLogic(first.snapshot(), rosters, None, meters, before)
        GroupLogic(None, rosters, clock, meters, None, before).on_batch([(0, GroupNews(0, 1))])
        assert saved_at - SPREAD - SKEW <= before.asked[0] <= datetime.now(UTC) - SPREAD - SKEW

    def test_without_any_snapshot_to_what_could_still_change_when_the_store_was_made(self) -> None:
        assert self.asked() == self.BEGUN - LOOK_BACK - SKEW
        assert self.asked(horizon=timedelta(days=1)) == self.BEGUN - timedelta(days=1) - SKEW


def test_the_rows_since_a_snapshot_are_read_from_the_broker(kafka_settings: KafkaSettings) -> None:
    create_topics(kafka_settings, [QUARTER_HOURS])
    begun = datetime.now(UTC)
    before = EarlierRows(kafka_settings, begun)
    before.restored(begun)
    some = (row(1), row(2, import_wh=2.0), row(1, id="b"), row(0, provisional=True))
    publish(kafka_settings, *((QUARTER_HOURS, one.id, one) for one in some))
    publish(kafka_settings, (QUARTER_HOURS, "g", row(4, level=Level.GROUP, id="g", method=Method.SUM)), (QUARTER_HOURS, "x", b"garbage"))
    assets, groups = before.of(Level.ASSET), before.of(Level.GROUP)
    assert {place[0]: int(assets.revisions[index]) for place, index in assets.places.items()} == {"a": 2, "b": 1}
    assert [place[0] for place in groups.places] == ["g"]
    publish(kafka_settings, (QUARTER_HOURS, "a", row(9)))
    assert before.of(Level.ASSET).revisions.max() == 2  # what this life wrote is no earlier life's
    if not kafka_settings.embedded:  # which knows times less well, and gives more than asked for
        assert EarlierRows(kafka_settings, begun + timedelta(hours=3)).of(Level.ASSET).places == {}
