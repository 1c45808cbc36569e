"""The dispatcher: takes what is owed from the dispatch flow and sends it from a thread of its own (semantics 8.1, 8.2).

Taking never blocks. A queue for each partner; of what waits only references are kept, bodies in a window of
32 MiB and read again from Kafka when they are no longer in it. Progress is the deliveries and the committed
positions; nothing else survives, and nothing else has to.
"""

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import uvloop

from schemas.clock import Clock
from schemas.config import Configuration
from schemas.connection import Command, Connection
from schemas.flows import QueueStanding
from schemas.outbound import OutboundMessage
from schemas.units import to_ms
from sinks.errors import Unavailable
from sinks.lease import Lease
from sinks.oscp import orders
from sinks.oscp.bodies import Fetch, Window
from sinks.oscp.fence import FencedSender, fenced
from sinks.oscp.history import Start
from sinks.oscp.office import Append, Office, Sender, append_surely
from sinks.oscp.partner_run import PartnerRun
from sinks.oscp.progress import Positions, Tracker
from sinks.oscp.standing import standing_of
from sinks.oscp.waiting import Waiting

KEEP_EVERY_S = 2.0
FORGET_EVERY = timedelta(hours=1)
DRAIN_S = 5.0
AT_ONCE = 500
log = logging.getLogger(__name__)


class Dispatcher:
    """Sends outbound messages to partners. `take`, `command` and `standings` may be called from any thread.

    `append` appends to Kafka from any event loop and raises Unavailable; `start` is what was read from the broker
    before; `on_failure` hears of a fault of our own, after which nothing is sent any more and `take` raises. With a
    `lease` nothing is sent, recorded or kept but while it is held. `token_times` are those of a partner's OAuth token.
    """

    def __init__(
        self,
        *,
        sender: Sender,
        append: Append,
        fetch: Fetch,
        positions: Positions,
        start: Start,
        configuration: Callable[[], Configuration],
        connections: Callable[[], Mapping[str, Connection]],
        clock: Clock,
        chance: random.Random | None = None,
        window: Window | None = None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        lease: Lease | None = None,
        token_times: Callable[[str], tuple[float, float] | None] = lambda partner_id: None,
    ) -> None:
        if lease is not None:
            sender, append = FencedSender(sender, lease, clock), fenced(append, lease)
        jitter = partial((chance or random.Random()).uniform, 0.0)  # noqa: S311 - no secret
        self._office = Office(sender, append, self._body, self._done, configuration, connections, clock, jitter)
        self._fetch, self._positions, self._outcomes = fetch, positions, start.outcomes
        self._on_failure, self._clock, self._lease, self._token_times = on_failure, clock, lease, token_times
        self._tracker, self._commands = Tracker(start.outbound, start.deliveries), Tracker(start.commands, {})
        self._window = window or Window()
        self._waiting: set[str] = set()
        self._runs: dict[str, PartnerRun] = {}
        self._inbox: deque[tuple[str, Waiting] | tuple[Command, int, int]] = deque()
        self._reading = ThreadPoolExecutor(1, "dispatch-bodies")
        self._keeping = ThreadPoolExecutor(1, "dispatch-positions")
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = self._stopping = False
        self._forgotten_at = clock.now()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="dispatcher", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin to send; returns once the thread's loop runs."""
        self._thread.start()
        self._running.wait()

    def stop(self) -> None:
        """Begin nothing more, let what is under way end (at most 5 s), keep the positions, return. Harmless twice."""
        self._stopping = True
        self._nudge()
        if self._thread.is_alive():
            self._thread.join()

    def take(self, message: OutboundMessage, partition: int, offset: int) -> None:
        """Take over a message of `derms.outbound`. Never blocks; raises RuntimeError after a fault of our own."""
        if message.message_id not in self._outcomes.final:
            self._window.put(message)  # what waits to be sorted in is references, too: the loop may have its hands full
        self._post((message.partner_id, Waiting.of(message, partition, offset)))

    def command(self, command: Command, partition: int, offset: int) -> None:
        """Take over an operator's command; other kinds than those of `orders.KINDS` only move the position."""
        self._post((command, partition, offset))

    def standings(self) -> list[QueueStanding]:
        """How the queues stand of all partners that were owed anything since the start. Blocks for a moment, at most 1 s.

        Raises Unavailable where that is not known: the dispatcher does not run, has its hands full, or may not be the only one.
        """
        if self._loop is not None and self._thread.is_alive() and (self._lease is None or self._lease.held()):
            with suppress(TimeoutError, CancelledError, RuntimeError):
                return asyncio.run_coroutine_threadsafe(self._standings(), self._loop).result(1.0)
        raise Unavailable("how the queues stand is not known")

    async def _standings(self) -> list[QueueStanding]:
        now, at = self._office.now(), datetime.now(UTC)
        return [standing_of(name, run.queue, now, at, self._token_times(name)) for name, run in self._runs.items()]

    def _post(self, item: tuple[str, Waiting] | tuple[Command, int, int]) -> None:
        if self.failure is not None:
            raise RuntimeError("the dispatcher failed") from self.failure
        self._inbox.append(item)
        if len(self._inbox) == 1:  # else the loop is at it, and looks again before it rests
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
            self._fail(error)
        finally:
            self._running.set()

    async def _main(self) -> None:
        self._loop, self._news, self._over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._running.set()
        self._spawn(self._keep_positions())
        while not self._stopping:
            for _ in range(min(len(self._inbox), AT_ONCE)):
                self._sort_in(self._inbox.popleft())
            if self._inbox:
                await asyncio.sleep(0)  # a long backlog must not keep heartbeats waiting
            else:
                await self._news.wait()
                self._news.clear()
        self._over.set()
        for run in self._runs.values():
            run.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()
        await self._keep()
        await self._office.sender.aclose()
        self._reading.shutdown(wait=False, cancel_futures=True)
        self._keeping.shutdown(wait=False, cancel_futures=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
            self._news.set()

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            log.error("the dispatcher failed", exc_info=error)
            self.failure, self._stopping = error, True
            self._on_failure(error)

    def _sort_in(self, item: tuple[str, Waiting] | tuple[Command, int, int]) -> None:
        self._changed = True
        match item:
            case (command, partition, offset):
                self._commands.take(partition, offset)
                self._spawn(self._obey(command, partition, offset))
            case (partner_id, waiting):
                self._add(partner_id, waiting)

    def _add(self, partner_id: str, waiting: Waiting) -> None:
        message_id = waiting.message_id
        self._tracker.take(waiting.partition, waiting.offset)
        if message_id in self._outcomes.final or message_id in self._waiting:  # made again by a replay
            self._tracker.done(waiting.partition, waiting.offset)
            if message_id in self._outcomes.final:
                self._window.drop(message_id)
            return
        waiting.attempts = self._outcomes.attempts.get(message_id, 0)
        self._waiting.add(message_id)
        self._run(partner_id).add(waiting, parked=message_id in self._outcomes.parked)

    def _run(self, partner_id: str) -> PartnerRun:
        if partner_id not in self._runs:
            self._runs[partner_id] = PartnerRun(partner_id, self._office, self._spawn)
            self._spawn(self._runs[partner_id].run())
        return self._runs[partner_id]

    async def _body(self, waiting: Waiting) -> OutboundMessage:
        message = self._window.get(waiting.message_id)
        if message is None:
            message = await asyncio.get_running_loop().run_in_executor(self._reading, self._fetch, waiting.partition, waiting.offset)
            self._window.put(message)
        return message

    def _done(self, waiting: Waiting) -> None:
        self._outcomes.final[waiting.message_id] = self._clock.now()
        self._waiting.discard(waiting.message_id)
        self._window.drop(waiting.message_id)
        self._tracker.done(waiting.partition, waiting.offset)
        self._changed = True

    async def _obey(self, command: Command, partition: int, offset: int) -> None:
        # what is over needs nothing; that is also where a command is read again
        open_ = command.kind in orders.KINDS and orders.message_id_of(command) not in self._outcomes.final
        if open_ and not await orders.carry_out(command, self._run(command.partner_id)):
            await append_surely(self._office.append, orders.refusal(command, self._clock.now()))
        self._commands.done(partition, offset)
        self._changed = True

    async def _keep_positions(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), KEEP_EVERY_S)
            await self._keep()

    async def _keep(self) -> None:
        """Keep the positions if anything moved: the ends of the deliveries are read first (see `progress`)."""
        if not self._changed or (self._lease is not None and not self._lease.held()):
            return
        self._changed = False
        loop, now = asyncio.get_running_loop(), self._clock.now()
        try:
            ends = await loop.run_in_executor(self._keeping, self._positions.ends)
            self._tracker.mark(to_ms(now), ends)
            kept = (self._tracker.positions(), self._commands.positions(), self._tracker.deliveries(to_ms(now)))
            await loop.run_in_executor(self._keeping, self._positions.keep, *kept)
        except Unavailable as problem:
            self._changed = True
            log.warning("positions of dispatch are not kept: %s", problem.words)
        if now - self._forgotten_at > FORGET_EVERY:
            self._outcomes.forget(now)
            self._forgotten_at = now
