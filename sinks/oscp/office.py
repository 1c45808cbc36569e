"""What the sending to all partners shares, and that what became of a message is recorded before anything else happens to it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.clock import Clock, wall_seconds
from schemas.config import Configuration
from schemas.connection import Connection, Event
from schemas.facts import Value
from schemas.outbound import DeadLetter, Delivery, OutboundMessage
from schemas.topics import DEAD_LETTERS, DELIVERIES, EVENTS, Topic
from sinks.errors import Unavailable
from sinks.oscp.answers import Judgement, UnderWay
from sinks.oscp.waiting import Now, Waiting

RECORD_AGAIN_S = 1.0

Append = Callable[[Topic, str, Value], Awaitable[None]]
"""Returns once the broker has the value; raises Unavailable."""
Recorded = Delivery | Event | DeadLetter


class Sender(Protocol):
    """Sends one message once; `sinks.oscp.client.OscpClient` is one."""

    async def attempt(self, message: OutboundMessage, under_way: UnderWay) -> Judgement:
        """What became of it; does not raise for what happens outside. `under_way` is filled in, for who cancels this."""

    async def aclose(self) -> None:
        """End all connections."""


@dataclass(frozen=True, slots=True)
class Office:
    """What the sending to all partners shares.

    `body` gives a waiting message's body; `done` is told of every message that needs nothing more.
    """

    sender: Sender
    append: Append
    body: Callable[[Waiting], Awaitable[OutboundMessage]]
    done: Callable[[Waiting], None]
    configuration: Callable[[], Configuration]
    connections: Callable[[], Mapping[str, Connection]]
    clock: Clock
    jitter: Callable[[float], float]

    def now(self) -> Now:
        """The present on the wall and on the clock."""
        return Now.of(wall_seconds(), self.clock.now())


async def append_surely(append: Append, value: Recorded) -> None:
    """Append until the broker has it: an outcome that is not recorded would be sent again. Ends only by being cancelled."""
    match value:
        case Delivery():
            topic, key = DELIVERIES, value.message_id
        case Event():
            topic, key = EVENTS, value.subject_id
        case DeadLetter():
            topic, key = DEAD_LETTERS, value.topic
    while True:
        try:
            return await append(topic, key, value)
        except Unavailable:
            await asyncio.sleep(RECORD_AGAIN_S)
