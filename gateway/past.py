"""What the pages ask the history: a day that the live picture no longer holds whole, old breaches and messages (contract 6).

The history may be away or slow. It is asked in threads, two questions at a time, each under a time-out; after a failure it is left
alone for a while, so that pages that renew themselves do not wait for it again and again.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from gateway import past_messages
from gateway.messages_model import MessageWish
from gateway.past_messages import MessageCount
from gateway.past_questions import BREACHES, BREACHES_WISHED, EVENTS, PIECES, ROWS, VERDICTS
from gateway.picture import MessageLine
from gateway.scope_day import DayFacts
from schemas.capacity import EnvelopePiece
from schemas.clock import wall_seconds
from schemas.compliance import Breach, Verdict
from schemas.connection import Event
from schemas.outbound import Delivery
from schemas.telemetry import QuarterHour
from schemas.units import Phase, to_ms
from sinks.errors import Misconfigured, Refused, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

WITHIN_S = 4.0
AT_ONCE = 2
LEFT_ALONE_S = 15.0
COUNTED_FOR_S = 15.0
MOST_BREACHES = 500
MOST_EVENTS = 100
NOT_THERE = "There is no history beside this gateway; only the last 48 hours can be shown."
SLOW = "The history did not answer in time; only what the gateway itself remembers is shown."


@dataclass(frozen=True, slots=True)
class BreachWish:
    """Which breaches are asked for; an empty field is no condition. `states` are `Breach.state`; they begin before `until` and end after
    `since`."""

    partner_id: str = ""
    group_id: str = ""
    scope_id: str = ""
    direction: str = ""
    states: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


class Past(Protocol):
    """What pages need of the history. All raise Unavailable with words for a person."""

    async def day(self, scope_id: str, group_id: str | None, circuit_id: str | None, start: datetime, end: datetime) -> DayFacts:
        """A scope's facts of [start, end)."""

    async def breaches(self, wish: BreachWish) -> Sequence[Breach]:
        """Breaches as they stand, the newest `MOST_BREACHES` of them, newest first."""

    async def messages(self, wish: MessageWish, most: int) -> Sequence[MessageLine]:
        """The newest `most` messages that fit, newest first, without their bodies."""

    async def message(self, message_id: str, partner_id: str = "") -> tuple[MessageLine, list[Delivery]] | None:
        """A message and all attempts, oldest first; None for one that is not there."""

    async def message_counts(self, since: datetime, now: datetime) -> Sequence[MessageCount]:
        """How the messages made in [since, now] stand, by partner and action."""


class Client(Protocol):
    """The part of a ClickHouse client that is used."""

    def query(self, query: str, *, parameters: dict[str, Any]) -> Any:
        """Rows of a SELECT with bound parameters."""

    def close(self) -> None:
        """Let go of the connection."""


class AskedHistory:
    """The history over ClickHouse's HTTP protocol; implements `Past`. `connect` blocks; its client has a time-out of its own."""

    def __init__(self, connect: Callable[[], Client], within_s: float = WITHIN_S) -> None:
        self._connect, self._within_s = connect, within_s
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self._idle: deque[Client] = deque()
        self._failed_at = -LEFT_ALONE_S
        self._counted: tuple[float, Sequence[MessageCount]] | None = None

    async def day(self, scope_id: str, group_id: str | None, circuit_id: str | None, start: datetime, end: datetime) -> DayFacts:
        """As `Past.day`."""
        bound = {
            "scope": scope_id,
            "group": group_id or "",
            "circuit": circuit_id or "",
            "start": to_ms(start),
            "end": to_ms(end),
            "most": MOST_EVENTS,
        }
        return await self._ask(lambda ask: _day(ask, bound))

    async def breaches(self, wish: BreachWish) -> Sequence[Breach]:
        """As `Past.breaches`."""
        bound = {
            "partner": wish.partner_id,
            "group": wish.group_id,
            "scope": wish.scope_id,
            "direction": wish.direction,
            "states": list(wish.states),
            "start": to_ms(wish.since) if wish.since else 0,
            "end": to_ms(wish.until) if wish.until else 7_258_118_400_000,
            "most": MOST_BREACHES,
        }
        return await self._ask(lambda ask: [Breach.model_validate(row) for row in ask(BREACHES_WISHED, bound)])

    async def messages(self, wish: MessageWish, most: int) -> Sequence[MessageLine]:
        """As `Past.messages`."""
        return await self._ask(lambda ask: past_messages.messages_that_fit(ask, wish, most))

    async def message(self, message_id: str, partner_id: str = "") -> tuple[MessageLine, list[Delivery]] | None:
        """As `Past.message`."""
        return await self._ask(lambda ask: past_messages.one_message(ask, message_id, partner_id))

    async def message_counts(self, since: datetime, now: datetime) -> Sequence[MessageCount]:
        """As `Past.message_counts`, anew after some seconds only: a whole day is counted, for pages that renew themselves."""
        if self._counted is None or wall_seconds() - self._counted[0] > COUNTED_FOR_S:
            self._counted = wall_seconds(), await self._ask(lambda ask: past_messages.counts_since(ask, since, now))
        return self._counted[1]

    async def _ask(self, question: Callable[[Callable[[str, dict[str, Any]], list[dict[str, Any]]]], T]) -> T:
        if wall_seconds() - self._failed_at < LEFT_ALONE_S:
            raise Unavailable(SLOW)
        try:
            with anyio.fail_after(self._within_s):
                return await anyio.to_thread.run_sync(self._answer, question, abandon_on_cancel=True, limiter=self._turns)
        except (TimeoutError, Unavailable, Refused, Misconfigured) as error:
            self._failed_at = wall_seconds()
            log.warning("the history does not answer the pages: %s", error or "it takes too long")
            raise Unavailable(SLOW) from error

    def _answer(self, question: Callable[[Callable[[str, dict[str, Any]], list[dict[str, Any]]]], T]) -> T:
        """In a thread. A client that failed is not used again."""
        from clickhouse_connect.driver.exceptions import ClickHouseError  # only once the history is asked

        client = self._idle.popleft() if self._idle else self._connect()

        def ask(sql: str, bound: dict[str, Any]) -> list[dict[str, Any]]:
            return [dict(row) for row in client.query(sql, parameters=bound).named_results()]

        try:
            found = question(ask)
        except ClickHouseError as error:
            client.close()
            raise Unavailable(str(error).split("\n")[0][:200]) from error
        self._idle.append(client)
        return found


def _day(ask: Callable[[str, dict[str, Any]], list[dict[str, Any]]], bound: dict[str, Any]) -> DayFacts:
    rows = [QuarterHour.model_validate(row) for row in ask(ROWS, bound)]
    verdicts = [Verdict.model_validate(row) for row in ask(VERDICTS, bound)]
    return DayFacts(
        rows={row.start: row for row in rows},
        verdicts={(one.quarter, one.direction): one for one in verdicts if one.phase is Phase.ALL},
        phase_verdicts=[one for one in verdicts if one.phase is not Phase.ALL],
        pieces=[EnvelopePiece.model_validate(row) for row in ask(PIECES, bound)],
        breaches=[Breach.model_validate(row) for row in ask(BREACHES, bound)],
        events=[Event.model_validate(row) for row in ask(EVENTS, bound)],
    )
