"""Under a lease nothing is sent, recorded or written but while it is known to be good."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from bytewax.outputs import StatelessSinkPartition

from schemas.clock import FrozenClock
from schemas.connection import Event, SubjectKind
from schemas.outbound import OutboundMessage, Outcome
from schemas.topics import EVENTS
from sinks.errors import Unavailable
from sinks.lease_sink import LeasedSink, _Leased
from sinks.oscp.answers import Judgement
from sinks.oscp.fence import FencedSender, fenced
from tests.builders import T0

EVENT = Event(event_id="e", at=T0, subject_kind=SubjectKind.SYSTEM, subject_id="s", kind="k", words="w")
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

    async def attempt(self, message: OutboundMessage) -> Judgement:
        self.begun += 1
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
        assert (judged.outcome, partner.begun) == (Outcome.RETRY, 0)

    asyncio.run(go())


def test_an_attempt_is_cut_off_when_the_lease_may_end_and_is_owed_still() -> None:
    async def go() -> None:
        lease, partner = Given(left=0.05), Partner(answers=False)
        attempt = asyncio.ensure_future(FencedSender(partner, lease, FrozenClock(T0)).attempt(MESSAGE))
        await partner.asked.wait()
        lease.left = 0.0
        judged = await asyncio.wait_for(attempt, 5)
        assert (judged.outcome, partner.cut_off) == (Outcome.RETRY, 1)

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


def test_a_sink_waits_for_a_doubtful_lease_and_ends_the_flow_without_it() -> None:
    part = Written()
    _Leased(part, Given(left=0.0, comes_back_after=2), 30.0).write_batch([1])
    assert part.items == [1]
    for lease, wait_s in ((Given(left=0.0, gone=True), 30.0), (Given(left=0.0), 0.0)):
        with pytest.raises(Unavailable, match="another process"):
            _Leased(part, lease, wait_s).write_batch([2])
    assert part.items == [1]


def test_what_the_broker_did_not_take_is_written_again_while_the_lease_is_ours() -> None:
    class Away(Written):
        away = 2

        def write_batch(self, items: list[Any]) -> None:
            if self.away:
                self.away -= 1
                raise Unavailable("the broker is away")
            super().write_batch(items)

    part = Away()
    _Leased(part, Given(), 30.0).write_batch([1])
    assert part.items == [1]
    part.away = 1
    with pytest.raises(Unavailable, match="away"):
        _Leased(part, Given(), 0.0).write_batch([2])
    assert part.items == [1]


def test_a_leased_sink_is_the_sink_under_the_lease() -> None:
    class Sink:
        def build(self, step_id: str, worker_index: int, worker_count: int) -> Written:
            return part

    part = Written()
    LeasedSink(Sink(), Given()).build("out", 0, 1).write_batch([1, 2])  # type: ignore[arg-type]
    assert part.items == [1, 2]
