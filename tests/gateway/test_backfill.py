"""`derms telemetry backfill` over a listed history: checked as a whole, sent in batches, computed, and never twice."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import backfill, recompute
from gateway.recompute import Summary, System
from pipelines.rules.repair_rows import EMPTY, GROUPS, LOST, OWN, SAME, WRITTEN
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.facts import Value
from schemas.telemetry import Level, MeasurementBatch, Origin, QuarterHour
from schemas.topics import BACKFILL, QUARTER_HOURS, Topic
from schemas.units import from_ms, rfc3339, to_ms
from sinks.errors import Misconfigured, Unavailable
from tests.rules.archived import ListedHistory, asset_row, repairer
from tests.rules.metering import START, differences, minutes
from tests.rules.reference_quarter_hours import QUARTER, Reading
from tests.rules.test_quarter_hours_stream import stream
from tests.rules.test_repair import rows_in, truth

SITE = Configuration.model_validate(
    {
        "scopes": [{"id": "s"}],
        "assets": [{"id": f"asset-{n}", "scope_id": "s", "category": "CONSUMPTION"} for n in range(3)],
        "partners": [{"id": "vector"}],
        "groups": [{"partner_id": "vector", "group_id": "g", "scope_id": "s"}],
    }
)
HEAD = "asset_id,measured_at,power_w,import_wh,export_wh,stored_wh,phase,quality\n"
PHASES = ("ALL", "ONE", "TWO", "THREE")


class World:
    """A system in lists: what is sent is in its history once it is flushed. `takes` False: the archive does not run."""

    def __init__(self, after: timedelta = timedelta(days=10)) -> None:
        self.clock, self.history = FrozenClock(from_ms(START) + after), ListedHistory()
        self.sent: list[tuple[Topic, str, Value]] = []
        self.waiting: list[tuple[Topic, str, Value]] = []
        self.takes, self.said, self.progress = True, list[str](), list[tuple[str, int, int]]()
        self.system = cast("System", self._system())

    def _system(self) -> Any:
        made = repairer(self.history, SITE, self.clock)
        return System(SITE, self.clock, cast("Any", self.history), made, cast("Any", self), cast("Any", self))

    def send(self, topic: Topic, key: str, value: Value) -> None:
        self.waiting.append((topic, key, value))

    def flush(self) -> None:
        for topic, key, value in self.waiting:
            self.sent.append((topic, key, value))
            if isinstance(value, QuarterHour):
                self.history.write([value])
            elif isinstance(value, MeasurementBatch):
                assert {one.asset_id for one in value.measurements} <= {key}
                self.history.add(
                    Reading(
                        one.asset_id, to_ms(one.measured_at), one.power_w, one.import_wh, one.export_wh, one.stored_wh,
                        PHASES.index(one.phase.value), one.quality.value,
                    )
                    for one in value.measurements
                )  # fmt: skip
        self.waiting = []

    def ends(self, topics: Iterable[Topic]) -> dict[tuple[str, int], int]:
        found = {topic.name: sum(one is topic for one, _, _ in self.sent) for topic in topics}
        return {(name, 0): count for name, count in found.items() if count}

    def kept(self, parts: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {part: len(self.sent) if self.takes else 0 for part in parts}

    def load(self, path: Path, *, batch: int = 100, skip: bool = False) -> Summary:
        def note(what: str, done: int, of: int) -> None:
            self.progress.append((what, done, of))

        return backfill.load(self.system, path, batch=batch, skip=skip, say=self.said.append, on_progress=note)


def line(reading: Reading) -> str:
    numbers = (reading.power, reading.imported, reading.exported, reading.stored)
    values = ",".join("" if value is None else repr(value) for value in numbers)
    return f"{reading.asset},{rfc3339(from_ms(reading.at))},{values},{PHASES[reading.phase]},{reading.quality}\n"


def write(path: Path, readings: Iterable[Reading], *more: str) -> Path:
    path.write_text(HEAD + "".join([*map(line, readings), *more]))
    return path


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), held=st.sampled_from([1, 7, 1000]), batch=st.sampled_from([1, 3, 1000]))
def test_a_file_in_any_order_gives_the_rows_of_its_readings_and_that_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, held: int, batch: int
) -> None:
    monkeypatch.setattr(backfill, "AT_ONCE", held)
    readings = stream(seed, 6000, conflicts=False)
    world, path = World(), write(tmp_path / "readings.csv", readings)
    summary = world.load(path, batch=batch)
    assets = ListedHistory([], [row for row in world.history.last.values() if row.level is Level.ASSET])
    assert differences(rows_in(assets), truth(readings)) == []
    assert summary.tally[WRITTEN] == len(assets.last)
    assert summary.tally[GROUPS] == len(world.history.last) - len(assets.last)
    assert {row.origin for row in world.history.last.values()} == {Origin.BACKFILL}
    sent = [value for topic, _, value in world.sent if topic is BACKFILL and isinstance(value, MeasurementBatch)]
    assert max(len(value.measurements) for value in sent) <= batch
    rows = sum(topic is QUARTER_HOURS for topic, _, _ in world.sent)
    again = world.load(path)
    assert (again.tally[WRITTEN], again.tally[GROUPS]) == (0, 0)
    assert sum(topic is QUARTER_HOURS for topic, _, _ in world.sent) == rows


def test_a_file_with_bad_lines_is_refused_whole_unless_they_may_be_left_out(tmp_path: Path) -> None:
    readings = [Reading("asset-0", START + minutes(n), 60.0) for n in range(15)]
    path = write(tmp_path / "readings.csv", readings, *("asset-0,never,1,,,,,\n" for _ in range(9)))
    world = World()
    with pytest.raises(Misconfigured, match=r"9 lines are bad.*--skip-bad; nothing was sent"):
        world.load(path)
    assert world.sent == []
    assert world.said[0].startswith("line 17, measured_at:")
    assert world.said[-1] == "9 bad lines, the first of them above"
    assert world.load(path, skip=True).tally[WRITTEN] == 1
    with pytest.raises(Misconfigured, match="has no readings"):
        world.load(write(tmp_path / "empty.csv", []))


def test_readings_of_the_systems_own_time_are_refused(tmp_path: Path) -> None:
    """Those of quarters the running flow may still write, and those from an asset's first row of it on."""
    world = World(timedelta(hours=3))
    content = truth([Reading("asset-1", START, 60.0)])["asset-1", 0, START]
    world.history.write([asset_row("asset-1", 0, START + QUARTER, content)])
    assert world.system.open_from() == START + minutes(180 - 63)
    last = START + 7 * QUARTER
    fine = [Reading("asset-0", last - 1, 60.0), Reading("asset-1", START + QUARTER - 1, 60.0)]
    assert world.load(write(tmp_path / "fine.csv", fine)).tally[WRITTEN] == 2
    for late in (Reading("asset-0", last, 60.0), Reading("asset-1", START + QUARTER, 60.0)):
        world.said.clear()
        path = write(tmp_path / "late.csv", [Reading("asset-0", START, 60.0), late])
        with pytest.raises(Misconfigured, match="derms telemetry replay"):
            world.load(path)
        [words] = world.said
        assert words.startswith(f"{late.asset}, measured_at: {rfc3339(from_ms(late.at))} is not before the system's own time")
        before = len(world.history.kept)
        world.load(path, skip=True)
        assert (late.asset, 0, late.at) not in world.history.kept
        assert len(world.history.kept) <= before + 1
    assert world.history.last[Level.ASSET, "asset-1", "ALL", START + QUARTER].revision == 1


def test_readings_of_unknown_assets_are_kept_for_when_they_are_configured(tmp_path: Path) -> None:
    world = World()
    readings = [Reading(name, START, 60.0) for name in ("asset-0", *(f"new-{n}" for n in range(7)))]
    assert world.load(write(tmp_path / "readings.csv", readings)).tally[WRITTEN] == 1
    assert len(world.history.kept) == 8
    assert "not configured, so without rows: new-0, new-1, new-2, new-3, new-4 and 2 more. Their readings are kept" in world.said[0]
    assert world.said[1] == "8 readings of 8 assets sent"
    assert {what for what, _, _ in world.progress} >= {"sending", "computing"}


def test_an_archive_that_takes_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "STALLED_S", 0.0)
    world = World()
    world.takes = False
    with pytest.raises(Unavailable, match="the history lacks 2 records and takes none: is derms run archive running"):
        world.load(write(tmp_path / "readings.csv", [Reading("asset-0", START, 60.0)]))


def test_a_summary_says_what_stays_and_why() -> None:
    summary = Summary()
    summary.tally.update({SAME: 5, WRITTEN: 2, GROUPS: 1, EMPTY: 3, LOST: 4, OWN: 6})
    summary.left_out["BAD quality"] = 7
    words = list(summary.lines())
    assert words[0] == "20 quarter hours computed: 2 rows of assets and 1 of groups written"
    assert [text.split()[0] for text in words] == ["20", "3", "4", "6", "7"]
    assert "missing is never zero" in words[1]
