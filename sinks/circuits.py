"""The circuit writer: takes changes from the flow `circuits` and brings them to the legacy platform from a thread of its own (semantics 4).

Taking never blocks. In order per circuit, retried until done or overtaken; nothing of a circuit is sent before its newest change on the
topic is known (`sinks.circuit_history`), so neither a restart nor a take-over ever goes back to an earlier value.
"""

import asyncio
import logging
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import uvloop

from schemas.capacity import CircuitCapacity
from schemas.clock import Clock, wall_seconds
from sinks.circuit_events import NameOf, event_of, unreachable
from sinks.circuit_history import SLACK, Found, covers
from sinks.circuit_lane import Lane
from sinks.circuit_owing import UNREACHABLE_S, Owing
from sinks.circuit_queue import CircuitQueue, Outcome, Sent
from sinks.circuit_requests import IN_FLIGHT, FencedPlatform, Judgement, MakePlatform, Platform
from sinks.lease import Lease
from sinks.oscp.fence import fenced
from sinks.oscp.office import Append, append_surely
from sinks.oscp.pace import pace_of

AT_ONCE = 500
DRAIN_S = 3.0
DOUBTFUL_LOOK_S = 0.05
log = logging.getLogger(__name__)


class CircuitWriter:
    """Writes changes to the legacy platform. `submit` and `learn` may be called from any thread.

    `append` appends to Kafka from any event loop and raises Unavailable; `wanted` are the circuits of the configuration that have a
    scope; `on_failure` hears of a fault of our own, after which nothing is written any more and `submit` raises. With a `lease`
    nothing is sent or recorded but while it is held.
    """

    def __init__(
        self,
        *,
        platform: MakePlatform,
        append: Append,
        wanted: Callable[[], frozenset[str]],
        name_of: NameOf,
        clock: Clock,
        lease: Lease | None = None,
        chance: random.Random | None = None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self._make, self._append = platform, append if lease is None else fenced(append, lease)
        self._wanted, self._name_of, self._clock, self._lease, self._on_failure = wanted, name_of, clock, lease, on_failure
        jitter = partial((chance or random.Random()).uniform, 0.0)  # noqa: S311 - no secret
        patience_s = clock.allowance(timedelta(seconds=UNREACHABLE_S)).total_seconds() / clock.speed
        pace = replace(pace_of(clock, None), under_way=IN_FLIGHT)
        self._queue = CircuitQueue(pace, jitter, uuid.uuid4().hex, self._newest, Owing(patience_s))
        self._began = datetime.now(UTC)
        self._looked_back, self._reached = False, None  # type: bool, datetime | None
        self._inbox: deque[CircuitCapacity | Found] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="circuit-writer", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin to write; returns once the thread's loop runs."""
        self._thread.start()
        self._running.wait()

    def stop(self) -> None:
        """Begin nothing more, let what is under way end (at most 3 s), return. What is owed is asserted by the next start."""
        self._stopping = True
        self._nudge()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, change: CircuitCapacity) -> None:
        """Take a change over. Never blocks; raises RuntimeError after a fault of our own."""
        self._post(change)

    def learn(self, found: Found) -> None:
        """Take in what was there before this life; the last part says that all of it is known."""
        self._post(found)

    def fail(self, error: BaseException) -> None:
        """A fault of our own: everything ends."""
        if self.failure is None:
            log.error("the circuit writer failed", exc_info=error)
            self.failure, self._stopping = error, True
            self._on_failure(error)
            self._nudge()

    def _post(self, item: CircuitCapacity | Found) -> None:
        if self.failure is not None:
            raise RuntimeError("the circuit writer failed") from self.failure
        self._inbox.append(item)
        self._nudge()

    def _nudge(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._news.set)

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main())
        except Exception as error:  # noqa: BLE001 - whatever it is, the flow must hear of it and end
            self.fail(error)
        finally:
            self._running.set()

    async def _main(self) -> None:
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        made = self._make()
        platform: Platform = made if self._lease is None else FencedPlatform(made, self._lease)
        self._running.set()
        try:
            while not self._stopping:
                self._news.clear()
                self._take_in()
                self._begin_what_may(platform)
                self._tell_of_the_unreachable()
                if self._inbox:
                    await asyncio.sleep(0)  # a long backlog must not keep answers waiting
                else:
                    await self._wait()
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=DRAIN_S)
                for task in late:
                    task.cancel()
        finally:
            await platform.aclose()

    def _take_in(self) -> None:
        now = wall_seconds()
        for _ in range(min(len(self._inbox), AT_ONCE)):
            match self._inbox.popleft():
                case Found() as found:
                    self._queue.learn(found.newest, now)
                    self._looked_back, self._reached = True, found.reached
                    self._queue.release(now)
                case CircuitCapacity() as change:
                    if self._concerns(change):
                        self._queue.submit(change, now)

    def _concerns(self, change: CircuitCapacity) -> bool:
        """An old change of a circuit that is no more is nobody's; of a new one the configuration may come a moment later."""
        known = change.circuit_id in self._queue.lanes or change.circuit_id in self._wanted()
        return known or self._clock.wall_at(change.effective_from) > self._began - SLACK

    def _newest(self, since: datetime) -> bool:
        return self._looked_back and (self._reached is None or covers(self._clock, self._reached, since))

    def _begin_what_may(self, platform: Platform) -> None:
        while (self._lease is None or self._lease.held()) and (sent := self._queue.next(wall_seconds())) is not None:
            self._spawn(self._attempt(platform, sent))

    def _tell_of_the_unreachable(self) -> None:
        for lane in self._queue.owing.overdue(wall_seconds()):
            self._spawn(self._tell(lane))

    async def _wait(self) -> None:
        now = wall_seconds()
        again = self._queue.look_again(now)
        waits = [30.0] if again is None else [max(again - now, 0.001)]
        if self._lease is not None and not self._lease.held():
            waits.append(DOUBTFUL_LOOK_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), min(waits))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._news.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def _attempt(self, platform: Platform, sent: Sent) -> None:
        judgement = await platform.write(sent)
        self._queue.judge(sent, judgement.outcome, wall_seconds(), judgement.retry_after_s)
        if judgement.outcome is Outcome.RETRY:
            sent.lane.why = judgement.words
        self._news.set()
        if judgement.outcome in (Outcome.WRITTEN, Outcome.REFUSED):
            await self._record(sent, judgement)
        self._queue.free(sent)

    async def _record(self, sent: Sent, judgement: Judgement) -> None:
        name = self._name_of(sent.lane.circuit_id)
        await append_surely(self._append, event_of(sent, judgement, name, self._clock.now()))

    async def _tell(self, lane: Lane) -> None:
        if lane.write is not None:
            event = unreachable(lane, lane.write, lane.key(self._queue.life), self._name_of(lane.circuit_id), self._clock.now())
            await append_surely(self._append, event)
