"""A dispatcher in virtual time: an event loop whose time jumps to the next timer, and partners that are scripted instead of reached."""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.connection import Connection, ConnectionState
from schemas.facts import Value
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import Topic
from sinks.oscp.answers import Judgement, UnderWay
from sinks.oscp.dispatcher import Dispatcher
from sinks.oscp.history import Outcomes, Start
from tests.builders import T0, configuration

ANSWER_S = 0.05


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """A selector that does not wait: it lets the loop's time pass instead, up to its limit, and waits there."""

    now = limit = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.resting = threading.Event()

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self.now < self.limit:
            self.now = min(self.limit, self.limit if timeout is None else self.now + max(timeout, 1e-6))
            return []
        self.resting.set()
        return super().select(None)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. What goes to a thread is done at once."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed to who waits
            done.set_exception(error)
        return done

    def advance(self, seconds: float) -> None:
        """From another thread: let so much time pass, and return when everything that is due has been done."""
        self.jumping.resting.clear()
        self.jumping.limit += seconds
        self.call_soon_threadsafe(lambda: None)
        assert self.jumping.resting.wait(60)


@dataclass
class VirtualClock:
    """A clock that goes with a loop's time, from T0."""

    loop: VirtualLoop
    speed: float = 1.0

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.loop.time() * self.speed)

    def wall_at(self, instant: datetime) -> datetime:
        return datetime.now(UTC) + (instant - self.now()) / self.speed

    def at_wall(self, instant: datetime) -> datetime:
        return self.now()

    def allowance(self, duration: timedelta) -> timedelta:
        return duration


@dataclass
class Partners:
    """A scripted sender: `scripts` say by partner what becomes of an attempt; who has none answers 204 after 50 ms.

    `accepted` are (virtual seconds, partner, message id) in their order, `attempts` the same of all.
    """

    loop: VirtualLoop
    scripts: dict[str, Callable[[], Coroutine[Any, Any, Judgement]]] = field(default_factory=dict)
    accepted: list[tuple[float, str, str]] = field(default_factory=list)
    attempts: list[tuple[float, str, str]] = field(default_factory=list)

    async def attempt(self, message: OutboundMessage, under_way: UnderWay) -> Judgement:
        self.attempts.append((self.loop.time(), message.partner_id, message.message_id))
        judgement = await self.scripts.get(message.partner_id, answers)()
        if judgement.outcome is Outcome.DELIVERED:
            self.accepted.append((self.loop.time(), message.partner_id, message.message_id))
        return judgement

    async def aclose(self) -> None:
        pass


async def answers() -> Judgement:
    """A good partner."""
    await asyncio.sleep(ANSWER_S)
    return Judgement(Outcome.DELIVERED, 204)


async def refuses() -> Judgement:
    """Nobody listens."""
    return Judgement(Outcome.RETRY, None, "cannot connect")


async def hangs() -> Judgement:
    """Nobody answers within the 30 s a request may take."""
    await asyncio.sleep(30.0)
    return Judgement(Outcome.RETRY, None, "no answer within 30 s")


class Topics:
    """What a dispatcher reads again and keeps: `body_of` gives the message at an offset; `last` is each message's last outcome."""

    def __init__(self, message_of: Callable[[int], OutboundMessage]) -> None:
        self._message_of = message_of
        self.last: dict[str, Outcome] = {}
        self.fetched = 0
        self.kept: dict[int, int] = {}

    async def append(self, topic: Topic, key: str, value: Value) -> None:
        if isinstance(value, Delivery):
            self.last[value.message_id] = value.outcome

    def fetch(self, partition: int, offset: int) -> OutboundMessage:
        self.fetched += 1
        return self._message_of(offset)

    def ends(self) -> dict[int, int]:
        return {0: 0}

    def keep(self, outbound: Any, commands: Any, deliveries: Any) -> None:
        self.kept = dict(outbound)


@contextmanager
def dispatching(
    monkeypatch: pytest.MonkeyPatch, names: list[str], message_of: Callable[[int], OutboundMessage], **partner: Any
) -> Iterator[tuple[Dispatcher, VirtualLoop, Partners, Topics]]:
    """A dispatcher at work for partners `names`, all online."""
    loop, topics = VirtualLoop(), Topics(message_of)
    sender = Partners(loop)
    monkeypatch.setattr("sinks.oscp.dispatcher.uvloop", SimpleNamespace(new_event_loop=lambda: loop))
    monkeypatch.setattr("sinks.oscp.office.wall_seconds", loop.time)
    config = configuration(partners=[{"id": name, "allow_private_addresses": True, **partner} for name in names], groups=[])
    connections = {
        name: Connection(event_id="c", at=T0, partner_id=name, state=ConnectionState.ONLINE, since=T0, peer_base_url="http://p")
        for name in names
    }
    dispatcher = Dispatcher(
        sender=sender, append=topics.append, fetch=topics.fetch, positions=topics, start=Start({0: 0}, {0: 0}, {0: 0}, Outcomes()),
        configuration=lambda: config, connections=lambda: connections, clock=VirtualClock(loop),
    )  # fmt: skip
    dispatcher.start()
    try:
        yield dispatcher, loop, sender, topics
    finally:
        loop.jumping.limit = float("inf")
        dispatcher.stop()
    assert dispatcher.failure is None
