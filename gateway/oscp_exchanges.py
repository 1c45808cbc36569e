"""What a partner asked and was answered, as an event for its timeline: method, path, status, duration and ids, never a body or token."""

import asyncio
import json

from starlette.requests import Request

from gateway.oscp_auth import Peer
from gateway.oscp_intake import Appender
from schemas.clock import Clock
from schemas.connection import EXCHANGE, Event, SubjectKind
from schemas.facts import derived_id
from schemas.oscp.v20 import Action
from schemas.topics import EVENTS
from sinks.errors import OutsideError

MOST_UNDER_WAY = 1_000
"""So many events may be on their way to the broker; where it is slower than that, exchanges go unrecorded rather than unanswered."""
LONGEST_ID = 256


class Exchanges:
    """Appends one event for each exchange, after the answer and without holding it up. For one event loop."""

    def __init__(self, appender: Appender, clock: Clock) -> None:
        self._appender, self._clock = appender, clock
        self._under_way: set[asyncio.Task[None]] = set()

    def note(self, peer: Peer, action: Action, request: Request, status: int, took_s: float, words: str = "") -> None:
        """Record that `request` of a known partner was answered with `status` after `took_s`; `words` say why it was refused."""
        if len(self._under_way) >= MOST_UNDER_WAY:
            return
        now, partner_id = self._clock.now(), peer.partner.id
        ids = {name: request.headers.get(name, "")[:LONGEST_ID] or None for name in ("X-Request-ID", "X-Correlation-ID")}
        duration_ms = round(took_s * 1000)
        data = {
            "direction": "in",
            "action": action.value,
            "method": request.method,
            "url": request.url.path,
            "status": status,
            "duration_ms": duration_ms,
            "request_id": ids["X-Request-ID"],
            "correlation_id": ids["X-Correlation-ID"],
        }
        event = Event(
            event_id=derived_id(EXCHANGE, partner_id, request.method, action, ids["X-Request-ID"], now, id(request)),
            at=now,
            subject_kind=SubjectKind.PARTNER,
            subject_id=partner_id,
            kind=EXCHANGE,
            words=f"{request.method} {action.value} answered {status} in {duration_ms} ms" + (f": {words}" if words else ""),
            data=json.dumps(data),
        )
        task = asyncio.create_task(self._append(partner_id, event))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _append(self, partner_id: str, event: Event) -> None:
        try:
            await self._appender.append(EVENTS, partner_id, event)
        except OutsideError:
            return  # the message itself is kept, or was refused: a missing line on the timeline loses nothing
