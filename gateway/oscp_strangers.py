"""Callers the OSCP listener does not let in, and partners it holds back, as events for people: seldom, however many requests there are.

A partner that has lost its token, or was given a wrong one, is seen nowhere else: nobody knows whose request it was.
"""

import json
from collections import OrderedDict
from collections.abc import Callable

from gateway.oscp_exchanges import Poster
from schemas.clock import Clock
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.topics import EVENTS

EVERY_S = 60.0
"""Of one caller something is said at once, and then at most so often (wall)."""
MOST = 1_000
SUBJECT = "oscp"


class Strangers:
    """Counts refusals by caller. Not for threads; `now_s` is wall seconds."""

    def __init__(self, poster: Poster, clock: Clock, now_s: Callable[[], float]) -> None:
        self._poster, self._clock, self._now_s = poster, clock, now_s
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def refused(self, caller: str, status: int, path: str) -> None:
        """Somebody at the address `caller` was answered 401, 403 or 429 without anybody knowing who it is."""
        if (count := self._due(f"{caller} {status}")) is None:
            return
        why = {401: "without a token", 403: "with a token that is not valid", 429: "without a valid token, and too often"}.get(status, "")
        often = f", {count} times since the last such line" if count > 1 else ""
        words = f"somebody at {caller} calls {path} {why} and is refused ({status}){often}"
        at = self._clock.now()
        event = Event(
            event_id=derived_id("stranger", caller, status, at),
            at=at,
            subject_kind=SubjectKind.SYSTEM,
            subject_id=SUBJECT,
            kind="stranger.refused",
            severity=Severity.WARNING,
            words=words,
            data=json.dumps({"caller": caller, "status": status, "url": path, "count": count}),
        )
        self._poster.post(EVENTS, SUBJECT, event)

    def held_back(self, partner_id: str) -> int | None:
        """How many requests of a partner were answered 429 since this was last due; None while it is not."""
        return self._due(f"partner {partner_id}")

    def _due(self, key: str) -> int | None:
        now = self._now_s()
        since, count = self._told.pop(key, (-EVERY_S, 0))
        due = now - since >= EVERY_S
        self._told[key] = (now, 0) if due else (since, count + 1)
        while len(self._told) > MOST:
            self._told.popitem(last=False)
        return count + 1 if due else None
