"""Under a lease nothing is sent, recorded or written but while it is known to be good."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main

from gateway.hosting import outside_cause
from schemas import connection
from schemas.clock import FrozenClock
from schemas.connection import SubjectKind
from schemas.outbound import OutboundMessage, Outcome
from schemas.topics import EVENTS
from sinks import lease_sink
from sinks.errors import Unavailable
from sinks.lease_sink import LeasedSink, _Leased
from sinks.oscp.answers import Judgement, UnderWay
from sinks.oscp.fence import FencedSender, fenced
from tests.builders import T0

EVENT = connection.Event(event_id="e", at=T0, subject_kind=SubjectKind.SYSTEM, subject_id="s", kind="k", words="w")
MESSAGE = OutboundMessage(
    event_id="m", at=T0, message_id="m", partner_id="vector", action="Heartbeat", body="{}",
    not_before=T0, expires_at=T0 + timedelta(hours=1),
)  # fmt: skip


@dataclass
class Given:
    """A lease that says what a test gives it."""

    left: float = 60.0
    gone: bool = False
    asked: int = 0
    comes_back_after: int | None = None

    def good_for(self) -> float:
        self.asked += 1
        if self.comes_back_after is not None and self.asked > self.comes_back_after:
            self.left = 60.0
        return self.left

    def held(self) -> bool:
        return self.good_for() > 0

    def write_within_s(self) -> float:
        return 2.0

    def lost(self) -> bool:
        return self.gone

    def acquire(self, stop: Any) -> bool:
        return True

    def release(self) -> None: ...


@dataclass
class Partner:
    """Answers when a test lets it; remembers what was begun and what was cut off."""

    answers: bool = True
    begun: int = 0
    cut_off: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def attempt(self, message: OutboundMessage, under_way: UnderWay) -> Judgement:
        self.begun += 1
        under_way.began("PUT")
        under_way.url = "https://cp.example/heartbeat"
        self.asked.set()
        try:
            if not self.answers:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        return Judgement(Outcome.DELIVERED, 204)

    async def aclose(self) -> None: ...


def test_an_attempt_under_a_good_lease_is_as_without() -> None:
    async def go() -> None:
        assert (await FencedSender(Partner(), Given(), FrozenClock(T0)).attempt(MESSAGE)).outcome is Outcome.DELIVERED

    asyncio.run(go())


def test_an_attempt_waits_until_the_lease_is_certain_again() -> None:
    async def go() -> None:
        lease, partner = Given(left=0.0, comes_back_after=3), Partner()
        assert (await FencedSender(partner, lease, FrozenClock(T0)).attempt(MESSAGE)).outcome is Outcome.DELIVERED
        assert lease.asked > 3
        assert partner.begun == 1

    asyncio.run(go())


def test_what_expired_while_it_waited_is_not_sent() -> None:
    async def go() -> None:
        partner = Partner()
        judged = await FencedSender(partner, Given(left=0.0), FrozenClock(T0 + timedelta(hours=1))).attempt(MESSAGE)
        assert (judged.outcome, partner.begun, judged.url, judged.duration_ms) == (Outcome.RETRY, 0, "", 0)

    asyncio.run(go())


def test_an_attempt_is_cut_off_when_the_lease_may_end_and_is_owed_still() -> None:
    async def go() -> None:
        lease, partner = Given(left=0.05), Partner(answers=False)
        attempt = asyncio.ensure_future(FencedSender(partner, lease, FrozenClock(T0)).attempt(MESSAGE))
        await partner.asked.wait()
        await asyncio.sleep(0.01)
        lease.left = 0.0
        judged = await asyncio.wait_for(attempt, 5)
        assert (judged.outcome, partner.cut_off) == (Outcome.RETRY, 1)
        assert (judged.method, judged.url) == ("PUT", "https://cp.example/heartbeat")
        assert judged.duration_ms >= 10

    asyncio.run(go())


def test_a_lease_that_is_renewed_lets_a_slow_attempt_be() -> None:
    async def go() -> None:
        lease, partner = Given(left=0.02), Partner(answers=False)
        attempt = asyncio.ensure_future(FencedSender(partner, lease, FrozenClock(T0)).attempt(MESSAGE))
        while lease.asked < 5:  # noqa: ASYNC110 - it is the lease that is waited for
            await asyncio.sleep(0.005)
        assert partner.cut_off == 0
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await asyncio.sleep(0)
        assert partner.cut_off == 1

    asyncio.run(go())


def test_outcomes_are_recorded_under_the_lease_only() -> None:
    async def go() -> None:
        written: list[Any] = []

        async def append(*what: Any) -> None:
            written.append(what)

        lease = Given(left=0.0)
        with pytest.raises(Unavailable):
            await fenced(append, lease)(EVENTS, "s", EVENT)
        assert written == []
        lease.left = 1.0
        await fenced(append, lease)(EVENTS, "s", EVENT)
        assert len(written) == 1

    asyncio.run(go())


class Written(StatelessSinkPartition[Any]):
    def __init__(self) -> None:
        self.items: list[Any] = []

    def write_batch(self, items: list[Any]) -> None:
        self.items += items


@dataclass
class Wall:
    """A wall that goes on only while somebody sleeps, `step_s` each time; `then` is done after so many seconds."""

    step_s: float = 1.0
    seconds: float = 0.0
    then: tuple[float, Callable[[], None]] = (float("inf"), lambda: None)

    def now(self) -> float:
        return self.seconds

    def sleep(self, _: float) -> None:
        self.seconds += self.step_s
        if self.seconds >= self.then[0]:
            self.then[1]()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr(lease_sink, "wall_seconds", wall.now)
    monkeypatch.setattr(lease_sink, "time", SimpleNamespace(sleep=wall.sleep))
    monkeypatch.setattr(lease_sink, "_AGAIN_S", 0.0)
    return wall


@dataclass
class Away(Written):
    """A broker that does not take a batch `away` times."""

    away: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def write_batch(self, items: list[Any]) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("derms.events did not take a message: timed out")
        super().write_batch(items)


def test_a_sink_waits_as_long_as_the_broker_is_away_and_says_so(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    part, lease, stop = Written(), Given(left=0.0), Event()
    wall.then = (3600.0, lambda: setattr(lease, "left", 60.0))
    _Leased(part, lease, stop).write_batch([1])
    assert part.items == [1]
    said = [entry.getMessage() for entry in caplog.records]
    assert "broker is away" in said[0]
    assert said[-1] == "the broker is back, writing goes on"
    assert 100 < len(said) < 130


def test_what_the_broker_does_not_take_is_written_again_however_long_that_takes(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    part = Away(away=500)
    _Leased(part, Given(), Event()).write_batch([1])
    assert part.items == [1]
    assert "timed out" in caplog.text


def test_a_sink_without_its_lease_ends_the_flow(wall: Wall) -> None:
    part = Written()
    with pytest.raises(Unavailable, match="another process"):
        _Leased(part, Given(left=0.0, gone=True), Event()).write_batch([1])
    assert part.items == []


def test_a_sink_that_waits_ends_soon_when_the_process_is_asked_to_stop(wall: Wall) -> None:
    part, stop = Away(), Event()
    wall.then = (600.0, stop.set)
    with pytest.raises(Unavailable, match="the broker is away") as raised:
        _Leased(part, Given(left=0.0), stop).write_batch([1])
    assert "another process" not in raised.value.words
    assert wall.seconds <= 605.0
    part.away = 2
    with pytest.raises(Unavailable, match="timed out"):
        _Leased(part, Given(), stop).write_batch([2])
    assert part.away == 1
    part.away = 0
    _Leased(part, Given(left=0.0, comes_back_after=2), stop).write_batch([3])
    assert part.items == [3]


def test_a_flow_whose_leased_sink_waits_ends_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_sink, "LAST_TRY_S", 0.1)
    part, lease, stop = Written(), Given(left=0.0), Event()
    flow = Dataflow("waits")
    op.output("out", op.input("in", flow, TestingSource([1])), LeasedSink(To(part), lease, stop))
    raised: list[BaseException] = []

    def run() -> None:
        try:
            run_main(flow)
        except BaseException as error:  # noqa: BLE001 - whatever ends it
            raised.append(error)

    thread = Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 10
    while lease.asked < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert thread.is_alive()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(outside_cause(raised[0]), Unavailable)
    assert part.items == []


@dataclass
class To(DynamicSink[Any]):
    part: Written

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Written:
        return self.part


def test_a_leased_sink_is_the_sink_under_the_lease() -> None:
    part = Written()
    LeasedSink(To(part), Given(), Event()).build("out", 0, 1).write_batch([1, 2])
    assert part.items == [1, 2]
