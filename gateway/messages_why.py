"""Why a message to a partner waits, in words: what dispatch goes by (semantics 8.2 to 8.6), as far as the gateway knows it. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime

from gateway import wording as say
from gateway.messages_model import Lane, Stand, lane_of, place_of, stand_of, waits
from gateway.partner_queue import OLD_AFTER
from gateway.picture import MessageLine, Picture
from gateway.redaction import clean
from schemas.config import Configuration
from schemas.connection import Connection, ConnectionState
from schemas.flows import QueueStanding
from schemas.oscp.v20 import Action
from schemas.units import rfc3339

DEFAULT_RATE = 20.0
HELD_UNTIL_MENDED = "nothing is sent to the partner until this is mended; one message is tried every 5 minutes, and on resuming it"
_STOPPED = {
    ConnectionState.SUSPENDED: "the partner is suspended: nothing is sent until somebody resumes it",
    ConnectionState.FAILED: "we have given up sending to this partner: correct the cause, then resume it",
    ConnectionState.DEREGISTERED: "the connection was ended: it goes once there is another",
}
_FAILING = frozenset({Stand.RETRY, Stand.HELD})


class Reasons:
    """What makes messages wait now. `at_wall` is the clock's reading at an instant of the wall; `instant` how instants are written;
    `lines` are messages known beside those of the picture: one may be before another in its turn. With the `wall`'s present it is
    noticed when dispatch is silent."""

    def __init__(
        self,
        picture: Picture,
        config: Configuration,
        now: datetime,
        at_wall: Callable[[datetime], datetime],
        *,
        instant: Callable[[datetime], str] = rfc3339,
        lines: Iterable[MessageLine] = (),
        wall: datetime | None = None,
    ) -> None:
        self._unheard = None if wall is None or picture.queues_at is None else wall - picture.queues_at
        self._picture, self._now, self._at_wall, self._instant = picture, now, at_wall, instant
        self._rates = {partner.id: partner.max_rate for partner in config.partners}
        self._heads: dict[Lane, tuple[int, str]] = {}
        for line in (*lines, *picture.messages.values()):
            if line.message is not None and stand_of(line, now) is not Stand.PARKED and waits(line, now):
                lane, place = lane_of(line), place_of(line)
                self._heads[lane] = min(place, self._heads.get(lane, place))

    def why(self, line: MessageLine) -> str:
        """Why it waits, or how it ended where that needs words; empty for one that was simply delivered."""
        said = clean(line.delivery.words) if line.delivery is not None else ""
        if not waits(line, self._now):
            final = line.delivery is not None and stand_of(line, self._now).value == line.delivery.outcome.value
            return said if final else "its time was over before it was delivered"
        if stand_of(line, self._now) is Stand.PARKED:
            return f"set aside so that others can go: {said or 'it failed time and again'}; send it again, or give it up"
        tried = f"tried {_times(line)}, last {said or 'without an answer'}" if stand_of(line, self._now) in _FAILING else "not tried yet"
        return f"{tried}; {self._reason(line).removesuffix(f': {said}')}"

    def _reason(self, line: MessageLine) -> str:
        """What has to pass first, the furthest-reaching reason before the others."""
        about, queue = line.about, self._picture.queues.get(line.about.partner_id)
        connection = self._picture.connections.get(about.partner_id)
        if (stopped := _stopped(connection, about.action)) is not None:
            return stopped
        if line.message is not None and line.message.not_before > self._now:
            return f"not before {self._instant(line.message.not_before)}"
        if self._unheard is not None and self._unheard > OLD_AFTER:
            return f"dispatch has not been heard of for {say.length(self._unheard)}: nothing is sent before it runs again"
        if about.action == Action.HEARTBEAT:
            return "heartbeats wait for nothing but a pause after a failure"
        if queue is not None and (found := self._of_the_queue(queue)) is not None:
            return found
        if self._heads.get(lane_of(line), place_of(line)) < place_of(line):
            return "it goes after an older one of its group and kind"
        if queue is not None and queue.draining:
            rate = self._rates.get(about.partner_id, DEFAULT_RATE)
            return f"a backlog of {queue.waiting} drains, the oldest first, at most {rate:g} a second"
        if stand_of(line, self._now) in _FAILING:
            return "it is tried again by itself, after 5 minutes at the latest"
        if self._picture.queues_at is None:
            return "dispatch has not said yet how its queues stand"
        if connection is None or connection.peer_base_url is None:
            return "the partner's address is not known yet"
        if queue is not None and queue.under_way:
            return f"it is on its way or comes next; waiting for an answer now, of the partner's messages: {say.count(queue.under_way)}"
        return "its turn comes now"

    def _of_the_queue(self, queue: QueueStanding) -> str | None:
        until = None if queue.paused_until is None else self._at_wall(queue.paused_until)
        if queue.held:
            return f"{HELD_UNTIL_MENDED}: {clean(queue.held)}"
        if queue.breaker == "HALF_OPEN":
            return "the partner did not answer for a while; one message is on its way to see whether it does now"
        if queue.breaker == "OPEN":
            then = f"until {self._instant(until)}" if until is not None and until > self._now else "until a message on trial comes through"
            return f"the partner fails and is left alone {then} (its breaker is open)"
        if until is not None and until > self._now:
            return f"the partner asked for a pause until {self._instant(until)}; resuming it ends that"
        return None


def _times(line: MessageLine) -> str:
    attempts = line.delivery.attempt if line.delivery is not None else 0
    return "once" if attempts == 1 else f"{say.count(attempts)} times"


def _stopped(connection: Connection | None, action: str) -> str | None:
    if connection is None or (connection.state is ConnectionState.DEREGISTERED and action == Action.REGISTER):
        return None
    return _STOPPED.get(connection.state)
