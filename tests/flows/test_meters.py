"""Meters under threads, the reports made of them, and the thread that sends these."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from timeit import timeit

import pytest

from pipelines import meters as meters_module
from pipelines.flow_reporter import FlowReporter
from pipelines.meters import LONGEST_OF_S, Meters
from schemas.clock import FrozenClock
from schemas.facts import Value
from schemas.flows import FlowReport
from schemas.topics import FLOW_REPORTS, Topic
from schemas.units import from_ms, to_ms
from sinks.codec import decode, encode
from sinks.errors import Unavailable
from sinks.kafka import Follower, Producer, RawRecord, create_topics
from sinks.settings import KafkaSettings
from tests.builders import T0

TOPIC = "derms.telemetry"


def fresh() -> Meters:
    return Meters("telemetry", "1", clock=FrozenClock(T0), wall=FrozenClock(T0 - timedelta(hours=1)))


def counts(report: FlowReport) -> dict[tuple[str, str], int]:
    return {(each.what, each.outcome): each.count for each in report.tallies}


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


def test_counts_of_many_threads_add_up() -> None:
    meters = fresh()

    def work() -> None:
        for _ in range(2_000):
            meters.count("readings", 3, "taken")
            meters.count("rows", 1)
            with meters.timed("decode") as timing:
                timing.size = 7

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            meters.report()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    report = meters.report()
    assert counts(report) == {("readings", "taken"): 48_000, ("rows", ""): 16_000}
    (stage,) = report.stages
    assert (stage.stage, stage.runs, stage.size_bytes) == ("decode", 16_000, 112_000)
    assert 0 < stage.longest_s <= stage.seconds


def test_an_increment_costs_next_to_nothing() -> None:
    meters = fresh()
    best = min(timeit(lambda: meters.count("readings", 1, "taken"), number=20_000) for _ in range(5)) / 20_000
    assert best < 5e-6  # 0.2 us where it was written; the bound is for machines under load


def test_a_report_says_it_all_and_survives_the_topic() -> None:
    meters = fresh()
    meters.count("readings", 5, "unknown asset")
    meters.spent("snapshot", 0.25, 4_000)
    meters.reading(TOPIC, {1: (100, 7), 0: (50, None)})
    meters.follow(TOPIC, lambda: {0: to_ms(T0) - 3, 1: to_ms(T0), 2: 0})
    meters.follow(TOPIC, lambda: {0: to_ms(T0), 1: to_ms(T0) - 9, 2: 0})
    report = meters.report()
    assert decode(encode(report), FLOW_REPORTS) == report
    assert (report.key, report.at, report.started_at, report.ended) == ("telemetry/1", T0, T0 - timedelta(hours=1), False)
    assert [(each.partition, each.position, each.lag, each.watermark) for each in report.partitions] == [
        (0, 50, None, from_ms(to_ms(T0) - 3)), (1, 100, 7, from_ms(to_ms(T0) - 9)), (2, None, None, None),
    ]  # fmt: skip
    assert meters.report(ended=True).ended


def test_a_stage_that_fails_is_timed_too() -> None:
    meters = fresh()
    with pytest.raises(ZeroDivisionError), meters.timed("decode"):
        1 / 0  # noqa: B018 - it is what fails
    assert meters.report().stages[0].runs == 1


def test_the_longest_run_is_that_of_the_last_minute_or_two(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(meters_module, "wall_seconds", lambda: now[0])
    meters = fresh()

    def longest() -> float:
        return meters.report().stages[0].longest_s

    meters.spent("snapshot", 0.9)
    meters.spent("snapshot", 0.1)
    assert longest() == 0.9
    now[0] += LONGEST_OF_S
    meters.spent("snapshot", 0.2)
    assert longest() == 0.9
    now[0] += LONGEST_OF_S
    assert longest() == 0.2
    now[0] += 2 * LONGEST_OF_S
    assert longest() == 0.0


class FakeSender:
    """Keeps what arrived; `away` makes it fail, `held` makes it wait."""

    def __init__(self) -> None:
        self.arrived: list[FlowReport] = []
        self.sent: list[FlowReport] = []
        self.flushes = 0
        self.away = False
        self.held = threading.Event()
        self.held.set()

    def send(self, topic: Topic, key: str, value: Value) -> None:
        assert isinstance(value, FlowReport)
        assert (topic, key) == (FLOW_REPORTS, value.key)
        self.sent.append(value)

    def flush(self) -> None:
        self.held.wait(10)
        sent, self.sent = self.sent, []
        self.flushes += 1
        if self.away:
            raise Unavailable("the broker does not answer")
        self.arrived += sent


@pytest.fixture
def sender() -> Iterator[FakeSender]:
    found = FakeSender()
    yield found
    found.held.set()


def test_the_reporter_tells_at_once_then_what_is_new_and_at_last_that_it_ends(sender: FakeSender, monkeypatch: pytest.MonkeyPatch) -> None:
    meters, asked = fresh(), list[bool]()
    report = meters.report

    def counted(*, ended: bool = False) -> FlowReport:
        asked.append(ended)
        return report(ended=ended)

    monkeypatch.setattr(meters, "report", counted)
    reporter = FlowReporter(sender, [meters], every_s=0.01, quiet_s=1e9)
    reporter.start()
    until(lambda: len(sender.arrived) == 1)
    meters.spent("poll", 0.1)  # happens without anything happening
    before = len(asked)
    until(lambda: len(asked) >= before + 3)
    assert len(sender.arrived) == 1
    meters.count("readings", 4, "taken")
    until(lambda: len(sender.arrived) == 2)
    assert counts(sender.arrived[1]) == {("readings", "taken"): 4}
    reporter.stop()
    assert [report.ended for report in sender.arrived] == [False, False, True]
    reporter.stop()


def test_a_worker_to_which_nothing_happens_still_says_that_it_lives(sender: FakeSender) -> None:
    reporter = FlowReporter(sender, [fresh(), Meters("archive", clock=FrozenClock(T0))], every_s=0.01, quiet_s=0.02)
    reporter.start()
    until(lambda: len(sender.arrived) >= 6)
    reporter.stop()
    assert {report.key for report in sender.arrived} == {"telemetry/1", "archive/0"}


def test_a_broker_that_is_away_costs_reports_and_nothing_else(sender: FakeSender, caplog: pytest.LogCaptureFixture) -> None:
    sender.away = True
    meters = fresh()
    reporter = FlowReporter(sender, [meters], every_s=0.01)
    with caplog.at_level(logging.WARNING, "pipelines.flow_reporter"):
        reporter.start()
        meters.count("rows", 1)
        until(lambda: sender.flushes >= 4)
        sender.away = False
        until(lambda: bool(sender.arrived))
    assert counts(sender.arrived[-1]) == {("rows", ""): 1}
    assert [record.getMessage() for record in caplog.records] == ["the flows' reports do not get through: the broker does not answer"]
    reporter.stop()


def test_neither_the_work_nor_the_end_waits_for_a_report(sender: FakeSender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.flow_reporter.LAST_WORD_S", 0.1)
    sender.held.clear()
    meters = fresh()
    reporter = FlowReporter(sender, [meters], every_s=0.01)
    reporter.start()
    until(lambda: bool(sender.sent))
    began = time.monotonic()
    for _ in range(1_000):
        meters.count("readings", 1)
    reporter.stop()
    assert time.monotonic() - began < 2


def test_a_reporter_never_started_may_be_stopped(sender: FakeSender) -> None:
    FlowReporter(sender, [fresh()]).stop()
    assert sender.arrived == []


def test_reports_go_by_kafka(embedded_settings: KafkaSettings, closing: Callable[[object], object]) -> None:
    create_topics(embedded_settings, [FLOW_REPORTS])
    seen: list[RawRecord] = []
    follower = Follower(embedded_settings, [FLOW_REPORTS], seen.extend, client_id="test")
    closing(follower)
    follower.start()
    meters = fresh()
    reporter = FlowReporter(Producer(embedded_settings, "test-reports", timeout_s=2), [meters], every_s=0.05)
    reporter.start()
    meters.count("readings", 9, "taken")
    until(lambda: any(counts(_decoded(each)) for each in seen))
    reporter.stop()
    until(lambda: _decoded(seen[-1]).ended)
    assert {each.key for each in seen} == {"telemetry/1"}


def _decoded(record: RawRecord) -> FlowReport:
    value = decode(record.raw, FLOW_REPORTS)
    assert isinstance(value, FlowReport)
    return value
