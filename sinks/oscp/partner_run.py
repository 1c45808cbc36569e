"""The sending to one partner: its queue put to work, each outcome recorded before the next message of a lane goes."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from schemas.connection import ConnectionState
from schemas.errors import Undecodable
from schemas.oscp.v20 import Action
from schemas.outbound import FINAL_OUTCOMES, Delivery, OutboundMessage, Outcome
from schemas.units import from_ms, rfc3339
from sinks.errors import Refused, Unavailable
from sinks.oscp.answers import Judgement, UnderWay
from sinks.oscp.office import Office, Recorded, append_surely
from sinks.oscp.pace import pace_of
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.records import delivery_of, event_of, letter_of, refusal
from sinks.oscp.waiting import Notice, Now, Waiting

LOOK_S = 1.0
"""While something waits, the connection and the configuration are looked at this often (wall)."""
BEAT_AT_LEAST_S = 1.0
"""So long (wall) a heartbeat may take, however short its interval."""
OVERDUE = "not sent before the next heartbeat was due"
_ONLY: dict[ConnectionState, frozenset[str]] = {
    ConnectionState.SUSPENDED: frozenset(),
    ConnectionState.FAILED: frozenset(),
    ConnectionState.DEREGISTERED: frozenset({Action.REGISTER.value}),
}
"""What may still be sent in states that stop what we send; a DELETE of the registration is a Register."""


class PartnerRun:
    """One partner's queue and the tasks that work on it. Everything happens in one event loop."""

    def __init__(self, partner_id: str, office: Office, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self.partner_id, self._office, self._spawn = partner_id, office, spawn
        self.queue = PartnerQueue(pace_of(office.clock, None), office.jitter)
        self._news = asyncio.Event()
        self._seen: object = None
        self._stopping = False

    def add(self, message: Waiting, *, parked: bool) -> None:
        """Take in a message."""
        self.queue.add(message, parked=parked)
        self._news.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self._news.set()

    async def run(self) -> None:
        """Send what may go, until stopped; what is under way then goes on by itself."""
        while not self._stopping:
            self._look()
            now = self._office.now()
            for message in self.queue.expire(now):
                await self._gone(message, Outcome.EXPIRED, f"not delivered by {rfc3339(from_ms(message.expires_ms))}")
            message_now = self.queue.next(now)
            if message_now is not None:
                self._spawn(self._attempt(message_now))
            else:
                await self._pause(now)

    def try_now(self) -> None:
        """An operator's wish to try at once what is held back."""
        self.queue.release()
        self._news.set()

    async def retry(self, message_id: str, by: str, command_id: str) -> bool:
        """An operator's wish to send a message now; whether it waits here. Who asks has mended what held the queue, or wants to know
        whether somebody has: one message is tried at once. A pause that the partner asked for stays."""
        if (parked := self.queue.parked.get(message_id)) is not None:
            # recorded first, so that a restart does not park it again, and never behind the next attempt's outcome
            await self._append(self._delivery(parked, Judgement(Outcome.RETRY, None, f"to be sent again, says {by}"), command_id))
        known = self.queue.retry(message_id)
        if known and self.queue.hold is not None:
            self.queue.hold.probe_at = 0.0
        self._news.set()
        return known

    async def drop(self, message_id: str, by: str, command_id: str) -> bool:
        """An operator's wish to give a message up; whether it waits here."""
        known, message = self.queue.drop(message_id, by)
        if message is not None:
            await self._gone(message, Outcome.DROPPED, f"dropped by {by}", command_id)
        self._news.set()
        return known

    def _look(self) -> None:
        """Let the queue follow the connection and the configuration; a change of them may mend what held it."""
        partner = self._office.configuration().partner(self.partner_id)
        connection = self._office.connections().get(self.partner_id)
        seen = (partner, connection and (connection.state, connection.peer_base_url, connection.peer_token))
        if seen == self._seen:
            return
        if self._seen is not None:
            self.queue.release()
        self._seen = seen
        self.queue.only = _ONLY.get(connection.state) if connection else None
        self.queue.pace = pace_of(self._office.clock, partner)

    async def _pause(self, now: Now) -> None:
        self._news.clear()
        if not len(self.queue):
            await self._news.wait()
            return
        wall, clock_ms = self.queue.look_again(now)
        waits = [LOOK_S]
        if wall is not None:
            waits.append(wall - now.wall)
        if clock_ms is not None:
            waits.append((self._office.clock.wall_at(from_ms(clock_ms)) - datetime.now(UTC)).total_seconds())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), max(min(waits), 0.001))

    async def _attempt(self, waiting: Waiting) -> None:
        message: OutboundMessage | None = None
        seen = self._seen
        try:
            message = await self._office.body(waiting)
            judgement = await self._sent(waiting, message)
        except Unavailable as problem:
            judgement = Judgement(Outcome.RETRY, None, problem.words)
        except Undecodable as problem:
            judgement = Judgement(Outcome.REFUSED, None, f"its body cannot be read again: {problem}")
        settled = self.queue.settle(waiting, judgement, self._office.now())
        if settled.outcome is Outcome.HELD and seen != self._seen:
            self.queue.release()  # it was refused with what is not used any more
        notices = list(settled.notices)
        if settled.outcome is Outcome.REFUSED:
            notices.append(refusal(waiting, judgement))
            if message is not None:
                by = "not fit for" if judgement.status is None else "refused by"
                await self._append_letter(waiting, message, f"{by} {self.partner_id}: {settled.words}")
        for notice in notices:
            await self._tell(waiting, notice, judgement.status)
        await self._append(self._delivery(waiting, replace(judgement, outcome=settled.outcome, words=settled.words)))
        self.queue.free(waiting, settled.outcome)
        if settled.outcome in FINAL_OUTCOMES:
            self._office.done(waiting)
        self._news.set()

    async def _sent(self, waiting: Waiting, message: OutboundMessage) -> Judgement:
        """One attempt. A heartbeat is given up when it expires: nobody needs its answer, and the next one waits behind it. One that
        expired while its body was read again would vouch for a time that is past."""
        left_s, under_way = None, UnderWay()
        if waiting.beat:
            left_s = (waiting.expires_ms - self._office.now().clock_ms) / 1000 / self._office.clock.speed
            if left_s <= 0:
                return under_way.cut_off(OVERDUE)
        try:
            async with asyncio.timeout(None if left_s is None else max(left_s, BEAT_AT_LEAST_S)):
                return await self._office.sender.attempt(message, under_way)
        except TimeoutError:
            return under_way.cut_off("no answer before the next heartbeat was due" if under_way.url else OVERDUE)

    async def _gone(self, waiting: Waiting, outcome: Outcome, words: str, about: str = "") -> None:
        """A message ends without an attempt."""
        if not waiting.beat:
            await self._tell(waiting, Notice(f"message.{outcome.value.lower()}", f"{waiting.action} {waiting.message_id}: {words}"), None)
        await self._append(self._delivery(waiting, Judgement(outcome, None, words), about))
        self._office.done(waiting)

    def _delivery(self, waiting: Waiting, judgement: Judgement, about: str = "") -> Delivery:
        return delivery_of(waiting, self.partner_id, judgement, self._office.clock.now(), about)

    async def _tell(self, waiting: Waiting, notice: Notice, status: int | None) -> None:
        await self._append(event_of(waiting, self.partner_id, notice, status, self._office.clock.now()))

    async def _append_letter(self, waiting: Waiting, message: OutboundMessage, reason: str) -> None:
        with suppress(Refused):  # larger than the topic takes: the message itself stays on derms.outbound
            await self._append(letter_of(waiting, message, reason, self._office.clock.now()))

    async def _append(self, value: Recorded) -> None:
        await append_surely(self._office.append, value)
