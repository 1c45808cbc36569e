"""The telemetry flow in the engine: polls in, rows, letters and events out, through kills and restarts."""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from bytewax.visualize import to_rendered

from pipelines.metered import MeteredSink
from pipelines.meters import Meters
from pipelines.records import Out, Outs, Poll
from pipelines.telemetry import SHARDS, telemetry_flow
from pipelines.telemetry_intake import DeadLetterLimit, TooManyDeadLetters
from pipelines.views import FixedView, View
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.connection import Event
from schemas.flows import FlowReport
from schemas.outbound import DeadLetter
from schemas.telemetry import CONTENT_EXCLUDES, LateMeasurement, Level, MeasurementBatch, Method, QuarterHour
from schemas.topics import DEAD_LETTERS, EVENTS, LATE_TELEMETRY, QUARTER_HOURS, TELEMETRY
from sinks.codec import decode, encode
from tests.builders import T0, configuration
from tests.flows.polls import MINUTE, Topic, reading
from tests.outs import each

STEP_IDS = {
    "polls", "decode", "deal", "quarters", "quarters_value", "assets", "news", "groups", "groups_value", "rejects_key",
    "rejects_pair", "rejects", "rejects_value", "letters", "outs", "out",
}  # fmt: skip


def timed(clock: FrozenClock, polls: Iterable[Poll]) -> Iterator[Poll]:
    """The polls, with the clock standing where each one says."""
    for poll in polls:
        clock.set(poll.now)
        yield poll


def run(polls: Iterable[Poll], config: Configuration | None = None, view: View[Configuration] | None = None, **options: Any) -> list[Out]:
    """All the flow writes for these polls, one poll a batch and epoch."""
    out, clock = list[Out | Outs](), FrozenClock(T0)
    source = TestingSource(timed(clock, polls), batch_size=1)
    view = view or FixedView(config or configuration())
    run_main(telemetry_flow(polls=source, out=TestingSink(out), clock=clock, config=view, **options), epoch_interval=timedelta(0))
    return each(out)


def rows(out: Iterable[Out], level: Level = Level.ASSET, *, provisional: bool = False) -> list[QuarterHour]:
    found = [one.value for one in out if one.topic is QUARTER_HOURS]
    return [row for row in found if isinstance(row, QuarterHour) and row.level is level and row.provisional is provisional]


def final(out: Iterable[Out]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The content of the highest revision of each row."""
    best: dict[tuple[Any, ...], QuarterHour] = {}
    for row in (*rows(out), *rows(out, Level.GROUP)):
        key = (row.level, row.id, row.phase, row.start)
        if key not in best or row.revision >= best[key].revision:
            best[key] = row
    return {key: row.model_dump(exclude=set(CONTENT_EXCLUDES)) for key, row in best.items()}


def of(out: Iterable[Out], kind: type[Any]) -> list[Any]:
    return [one.value for one in out if isinstance(one.value, kind)]


def hours(count: float = 1.5, every: float = 1) -> list[Poll]:
    """A site that speaks once a minute: grid meter and PV on one partition, battery with a register on the other."""
    topic = Topic()
    polls = []
    for n in range(round(count * 60 / every)):
        minute = n * every
        first = [reading("mg-1-grid", minute, power_w=100.0 + minute), reading("mg-1-pv", minute, power_w=-50.0)]
        second = [reading("mg-1-bat", minute, import_wh=10.0 * minute, stored_wh=minute)]
        polls.append(topic.poll(T0 + minute * MINUTE, first, second))
    end = T0 + count * 60 * MINUTE
    return [*polls, topic.silence(end, end + timedelta(hours=1))]


def test_readings_become_rows_of_assets_and_then_of_the_group() -> None:
    out = run(hours(0.5))
    found = final(out)
    grid = found[Level.ASSET, "mg-1-grid", "ALL", T0]
    assert (grid["import_wh"], grid["coverage"], grid["samples"], grid["scope_id"]) == (pytest.approx(107 / 4), 1.0, 15, "mg-1")
    battery = found[Level.ASSET, "mg-1-bat", "ALL", T0]
    assert (battery["import_wh"], battery["method"], battery["stored_wh"]) == (150.0, Method.REGISTER, 14.0)
    group = found[Level.GROUP, "VEC-0001", "ALL", T0]
    assert (group["import_wh"], group["method"]) == (grid["import_wh"], Method.METER)
    assert len(found) == 8
    keys = [
        (one.key, one.value.revision) for one in out if one.topic is QUARTER_HOURS and one.value.start == T0 and not one.value.provisional
    ]
    assert keys.index(("VEC-0001", 1)) > keys.index(("mg-1-grid", 1))


def test_a_sum_waits_for_all_members_and_partitions() -> None:
    assets = [{"id": f"mg-1-{name}", "scope_id": "mg-1", "category": "STORAGE"} for name in ("grid", "pv", "bat")]
    config = configuration(assets=assets)
    out = run(hours(1), config)
    (first, *_) = rows(out, Level.GROUP)
    assert (first.method, first.missing_members, first.coverage, first.revision) == (Method.SUM, 0, 1.0, 1)
    assert first.net_wh == pytest.approx(107 / 4 - 50 / 4 + 150)
    silent = configuration(assets=[*assets, {"id": "never", "scope_id": "mg-1", "category": "STORAGE"}])
    found = rows(run(hours(1), silent), Level.GROUP)
    assert {row.missing_members for row in found} == {1}
    assert len({row.start for row in found}) == 4
    lagging = hours(1)
    topic = Topic()
    held = [
        topic.poll(poll.now, [reading("mg-1-grid", n, power_w=60.0)], [reading("mg-1-pv", 0, power_w=1.0)])
        for n, poll in enumerate(lagging[:-1])
    ]
    overdue = [row for row in rows(run(held, config), Level.GROUP) if row.start == T0]
    assert [(row.missing_members, row.revision) for row in overdue] == [(2, 1)]


def test_an_asset_that_is_heard_for_the_first_time_does_not_hold_up_the_quarter_before() -> None:
    assets = [{"id": name, "scope_id": "mg-1", "category": "STORAGE"} for name in ("mg-1-grid", "mg-1-pv")]
    topic = Topic()
    first = [topic.poll(T0 + n * MINUTE, [reading("mg-1-grid", n, power_w=60.0)], []) for n in range(15)]
    then = topic.poll(T0 + 17 * MINUTE, [reading("mg-1-grid", 17, power_w=60.0), reading("mg-1-pv", 17, power_w=60.0)], [])
    (row,) = rows(run([*first, then], configuration(assets=assets)), Level.GROUP)
    assert (row.start, row.missing_members) == (T0, 1)


def test_provisional_rows_come_every_minute_for_reporting_scopes() -> None:
    out = run(hours(0.25, every=0.5)[:-1])
    grid = [row for row in rows(out, provisional=True) if row.id == "mg-1-grid"]
    assert 13 <= len(grid) <= 15
    assert all(row.revision == 0 and row.start == T0 for row in grid)
    assert [row.last_minute_w for row in grid[2:5]] == [102.25, 103.25, 104.25]
    assert grid[10].import_wh > grid[5].import_wh > 0
    battery = [row for row in rows(out, provisional=True) if row.id == "mg-1-bat"]
    assert battery[-1].last_minute_w == pytest.approx(600.0)
    group = rows(out, Level.GROUP, provisional=True)
    assert [(row.import_wh, row.last_minute_w) for row in group] == [(row.import_wh, row.last_minute_w) for row in grid]
    assert rows(run(hours(0.2), configuration(groups=[])), provisional=True) == []


def test_bad_input_becomes_dead_letters_and_disturbs_nothing() -> None:
    topic = Topic(1)
    bad = [b"\x00garbage-garbage", encode(reading("mg-1-grid", 3, power_w=1.0))[:-3]]
    odd = [reading("mg-1-grid", 3.5, power_w=math.nan), reading("mg-1-grid", 3.6, power_w=math.nan), reading("nobody", 3, power_w=1.0)]
    future = reading("mg-1-grid", 30, power_w=5.0)
    good = [[reading("mg-1-grid", minute, power_w=100.0)] for minute in range(17)]
    silence = topic.silence(T0 + 16 * MINUTE, T0 + 30 * MINUTE)
    polls = [topic.poll(T0 + n * MINUTE, [*some, *([*bad, *odd, future] if n == 4 else [])]) for n, some in enumerate(good)]
    out = run([*polls, silence])
    letters = of(out, DeadLetter)
    assert sorted((one.reason.split(":")[0], one.subject, one.count, one.offset) for one in letters) == [
        ("Measurement", "", 1, 6),
        ("instant in the future", "mg-1-grid", 1, 10),
        ("no Avro single-object encoding", "", 1, 5),
        ("non-finite value", "mg-1-grid", 2, 7),
        ("unknown asset", "nobody", 1, 9),
    ]
    assert all(one.topic == TELEMETRY.name and one.partition == 0 for one in letters)
    assert next(one.raw for one in letters if one.offset == 5) == bad[0]
    assert all(one.key == TELEMETRY.name for one in out if one.topic is DEAD_LETTERS)
    assert final(out) == final(run([*(topic.poll(T0 + n * MINUTE, some) for n, some in enumerate(good)), silence])) != {}


def test_unreadable_messages_of_a_reason_are_one_letter_for_each_partition_and_minute_of_the_clock() -> None:
    topic, rubbish, foreign = Topic(2), b"rubbish rubbish %d", b"\xc3\x01elsewhere %d"
    polls = [
        topic.poll(
            T0 + n * timedelta(seconds=5),
            [reading("mg-1-grid", n / 12, power_w=1.0), rubbish % n, foreign % n, rubbish % -n],
            [rubbish % n] if n < 3 else [],
        )
        for n in range(14)
    ]
    letters = of(run([*polls, topic.silence(T0 + 2 * MINUTE, T0 + 5 * MINUTE)]), DeadLetter)
    assert sorted((one.reason.split(":")[0].split(" ")[0], one.partition, one.offset, one.count, one.raw) for one in letters) == [
        ("no", 0, 1, 26, b"rubbish rubbish 0"),
        ("no", 0, 53, 2, b"rubbish rubbish 13"),
        ("no", 1, 0, 3, b"rubbish rubbish 0"),
        ("unknown", 0, 2, 13, b"\xc3\x01elsewhere 0"),
        ("unknown", 0, 54, 1, b"\xc3\x01elsewhere 13"),
    ]
    assert {one.subject for one in letters} == {""}
    assert len({one.event_id for one in letters}) == 5


def test_the_letter_of_a_reading_out_of_a_batch_holds_that_reading_alone() -> None:
    topic = Topic(1)
    batch = MeasurementBatch(measurements=[reading("mg-1-grid", 0, power_w=1.0), reading("nobody", 0, power_w=2.0)])
    polls = [topic.poll(T0, [batch]), topic.poll(T0, [reading("nobody", 5, power_w=2.0)])]
    (letter,) = of(run(polls), DeadLetter)
    assert decode(letter.raw) == batch.measurements[1]


def test_batches_and_singles_mean_the_same() -> None:
    values = [reading("mg-1-grid", n / 3, power_w=float(n)) for n in range(90)]
    silence = Topic(1).silence(T0 + 30 * MINUTE, T0 + 60 * MINUTE)
    singles = run([Topic(1).poll(T0 + 30 * MINUTE, values), silence])
    batches = [MeasurementBatch(measurements=values[n : n + 7]) for n in range(0, 90, 7)]
    assert final(singles) == final(run([Topic(1).poll(T0 + 30 * MINUTE, batches), silence])) != {}


def test_late_readings_are_told_and_oddities_are_events() -> None:
    topic = Topic(1)
    registers = [reading("mg-1-bat", n, import_wh=value) for n, value in enumerate([5e6, 1.0, 5e6, 5e6])]
    polls = [
        topic.poll(T0, [*registers, reading("mg-1-grid", 0, power_w=1.0)]),
        topic.poll(T0, [reading("mg-1-grid", 0, power_w=2.0)]),
        topic.poll(T0 + 200 * MINUTE, [reading("mg-1-grid", 200, power_w=1.0)]),
        topic.poll(T0 + 200 * MINUTE, [reading("mg-1-grid", 1, power_w=7.0, phase="ONE", quality="ESTIMATED")]),
    ]
    out = run(polls)
    (late,) = of(out, LateMeasurement)
    assert late.measurement == reading("mg-1-grid", 1, power_w=7.0, phase="ONE", quality="ESTIMATED")
    assert (late.partition, late.offset, late.watermark) == (0, 7, T0 + 199 * MINUTE)
    assert [one.key for one in out if one.topic is LATE_TELEMETRY] == ["mg-1-grid"]
    events = {event.kind: event for event in of(out, Event)}
    assert events.keys() == {"register_reset", "conflicting_readings"}
    assert {one.key for one in out if one.topic is EVENTS} == {"mg-1"}
    assert "mg-1-grid" in events["conflicting_readings"].words


def test_an_asset_on_two_partitions_is_an_event_and_counts_once() -> None:
    topic = Topic()
    polls = [topic.poll(T0, [reading("mg-1-grid", 0, power_w=1.0)], [reading("mg-1-grid", 1, power_w=1.0)]) for _ in range(3)]
    out = run([*polls, topic.silence(T0, T0 + 60 * MINUTE)])
    assert [event.kind for event in of(out, Event)] == ["asset_on_second_partition"]
    assert [row.samples for row in rows(out) if row.id == "mg-1-grid"] == [2]


def killed(polls: list[Poll], places: Iterable[int], folder: Path, sign: Any, shards: int = 4, *, files: bool = True) -> list[Out]:
    """What a flow writes that ends by `sign` before the polls at these places and goes on from its last snapshot."""
    items: list[Any] = list(polls)
    for place in sorted(places, reverse=True):
        items.insert(place, sign)
    init_db_dir(folder, 1)
    out, source = list[Out | Outs](), TestingSource(items, batch_size=1)
    for _ in range(len(items) - len(polls) + 1):
        flow = telemetry_flow(
            polls=source, out=TestingSink(out), clock=FrozenClock(T0), config=FixedView(configuration()), shards=shards,
            closed=folder / "closed" if files else None,
        )  # fmt: skip
        run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(folder)))
    return each(out)


@pytest.mark.parametrize("inline_bytes", [None, 0, 1 << 20], ids=["all in the store", "state in files", "closed quarters in files"])
@pytest.mark.parametrize("shards", [1, 4])
def test_a_kill_anywhere_changes_no_final_row(
    tmp_path: Path, shards: int, inline_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.telemetry_shards.INLINE_BYTES", inline_bytes or 0)
    polls = hours(1.5, every=2)
    undisturbed = final(run(polls, shards=shards))
    again = killed(polls, (3, 9, 22, 23, 41), tmp_path, TestingSource.ABORT(), shards, files=inline_bytes is not None)
    assert final(again) == undisturbed
    assert len(undisturbed) == 24
    assert bool(list(tmp_path.glob("closed/*"))) == (inline_bytes is not None)


def test_a_stop_writes_nothing_early(tmp_path: Path) -> None:
    polls = hours(0.5, every=2)
    out = killed(polls[:-1], (5,), tmp_path, TestingSource.EOF())
    assert {row.start for row in rows(out)} == {T0}
    assert {row.revision for row in rows(out)} == {1}
    assert final(out) == final(run(polls[:-1]))


def test_the_configuration_is_followed() -> None:
    class Learning:
        """Knows no assets at first."""

        def __init__(self) -> None:
            self.known = configuration(assets=[], groups=[])

        def current(self) -> Configuration:
            return self.known

    view, topic = Learning(), Topic(1)

    def polls() -> Iterator[Poll]:
        for minute in range(20):
            if minute == 5:
                view.known = configuration()
            yield topic.poll(T0 + minute * MINUTE, [reading("mg-1-grid", minute, power_w=60.0)])

    out = run(polls(), view=view)
    assert {letter.reason for letter in of(out, DeadLetter)} == {"unknown asset"}
    assert [(row.samples, row.coverage) for row in rows(out)] == [(10, pytest.approx(10 / 15))]


def told(report: FlowReport) -> dict[tuple[str, str], int]:
    return {(tally.what, tally.outcome): tally.count for tally in report.tallies}


def test_its_report_says_what_became_of_readings(tmp_path: Path) -> None:
    topic, meters = Topic(), Meters("telemetry", clock=FrozenClock(T0))
    grid = reading("mg-1-grid", 0, power_w=1.0)
    odd = [reading("mg-1-grid", 1, power_w=1.0, quality="BAD"), reading("nobody", 0, power_w=1.0), reading("mg-1-pv", 0, power_w=math.nan)]
    polls = [
        topic.poll(T0, [grid, *odd, b"x", reading("mg-1-grid", 99, power_w=1.0)], [reading("mg-1-bat", 0, power_w=1.0)]),
        topic.poll(T0, [grid, reading("mg-1-grid", 0, power_w=2.0)], [grid]),
        topic.poll(T0 + 20 * MINUTE, [reading("mg-1-grid", 20, power_w=1.0)], [reading("mg-1-bat", 20, power_w=1.0)]),
        topic.poll(T0 + 20 * MINUTE, [reading("mg-1-grid", 5, power_w=3.0)]),
        topic.poll(T0 + 200 * MINUTE, [reading("mg-1-grid", 200, power_w=1.0)]),
        topic.poll(T0 + 200 * MINUTE, [reading("mg-1-grid", 1, power_w=7.0)]),
    ]
    init_db_dir(tmp_path, 1)
    out, clock = list[Out | Outs](), FrozenClock(T0)
    flow = telemetry_flow(
        polls=TestingSource(timed(clock, polls), batch_size=1), out=MeteredSink(TestingSink(out), meters), clock=clock,
        config=FixedView(configuration()), meters=meters, closed=tmp_path / "closed",
    )  # fmt: skip
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(tmp_path))
    report, written = meters.report(), each(out)
    finals = [*rows(written), *rows(written, Level.GROUP)]
    assert told(report) == {
        ("readings", "taken"): 10,
        ("readings", "BAD quality"): 1,
        ("readings", "unknown asset"): 1,
        ("readings", "non-finite value"): 1,
        ("readings", "instant in the future"): 1,
        ("messages", "unreadable"): 1,
        ("repeated", ""): 3,
        ("conflicts", ""): 1,
        ("strays", ""): 1,
        ("late", ""): 1,
        ("dead_letters", ""): len(of(written, DeadLetter)),
        ("rows", ""): sum(row.level is Level.ASSET for row in finals),
        ("revisions", ""): sum(row.level is Level.ASSET and row.revision > 1 for row in finals),
        ("group_rows", ""): sum(row.level is Level.GROUP for row in finals),
    }
    assert told(report)["revisions", ""] > 0
    (late,) = of(written, LateMeasurement)
    assert [(part.partition, part.watermark) for part in report.partitions] == [(0, T0 + 199 * MINUTE), (1, T0 + 19 * MINUTE)]
    assert late.watermark == report.partitions[0].watermark
    stages = {stage.stage: stage for stage in report.stages}
    assert stages.keys() == {"decode", "aggregate", "groups", "snapshot", "write"}
    assert stages["decode"].runs == len(polls)
    assert stages["aggregate"].runs == len(polls) * SHARDS
    stored = sum(file.stat().st_size for file in (tmp_path / "closed").iterdir())
    assert stages["snapshot"].size_bytes > stored > 0
    assert all(stage.seconds > 0 for stage in report.stages)


class TestLimit:
    def test_a_run_of_garbage_stops_the_flow(self) -> None:
        polls = [Topic(1).poll(T0, [b"rubbish-rubbish"] * 60) for _ in range(2)]
        with pytest.raises(BytewaxRuntimeError) as stopped:
            run(polls, limit=DeadLetterLimit(run=100))
        cause: BaseException | None = stopped.value
        while cause is not None and not isinstance(cause, TooManyDeadLetters):
            cause = cause.__cause__
        assert re.search(r"120 messages in a row cannot be read.*not C3 01", str(cause))

    def test_a_share_of_garbage_stops_the_flow(self) -> None:
        limit = DeadLetterLimit(run=1000, share=0.5, window=100)
        limit.check(60, [(n, "why") for n in range(20)])
        limit.check(60, [(n, "why") for n in range(20)])
        with pytest.raises(TooManyDeadLetters):
            limit.check(100, [(n, "why") for n in range(51)])

    def test_good_messages_end_a_run(self) -> None:
        limit = DeadLetterLimit(run=100)
        for _ in range(5):
            limit.check(100, [(n, "why") for n in range(100) if n != 50])


def test_step_ids_are_recovery_keys() -> None:
    flow = telemetry_flow(polls=TestingSource([]), out=TestingSink([]), clock=FrozenClock(T0), config=FixedView(configuration()))
    assert {step.step_id for step in to_rendered(flow).substeps} == {f"telemetry.{name}" for name in STEP_IDS}
