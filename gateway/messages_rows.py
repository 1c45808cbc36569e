"""Messages owed to partners as the pages show them: rows of the list, and a message's own page. Pure."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.messages_cause import cause_of
from gateway.messages_model import is_final, latency_ms, overdue, waits
from gateway.messages_reading import FoundMessage
from gateway.messages_why import Reasons
from gateway.page_model import State, When
from gateway.partner_card import OUTCOME_LOOKS, when
from gateway.picture import MessageLine, Picture
from gateway.redaction import clean, shown
from gateway.timeline_lines import Line
from schemas.config import Configuration
from schemas.outbound import Outcome
from schemas.units import from_ms

LONGEST_BODY = 20_000
"""Characters of a body on the page; the API gives it whole."""


@dataclass(frozen=True, slots=True)
class Row:
    """One message. `took` is how long it took from owed to delivered, or how long it has waited."""

    id: str
    at: When
    partner_id: str
    partner: str
    group: str
    action: str
    state: State
    attempts: str
    words: str
    took: str
    waits: bool


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt, or the end without one."""

    at: When
    number: str
    state: State
    took: str
    words: str
    url: str


@dataclass(frozen=True, slots=True)
class OnePage:
    """A message's own page. `body` is JSON text without secrets; `note` is said where there is none, or a part only."""

    row: Row
    method: str
    correlation: str
    not_before: When | None
    expires: When | None
    last: When | None
    cause: str
    cause_id: str
    body: str
    note: str
    attempts: tuple[AttemptRow, ...]
    over: bool


class Rows:
    """Makes what the pages show, in `zone` at `now`."""

    def __init__(self, config: Configuration, reasons: Reasons, zone: ZoneInfo, now: datetime) -> None:
        self._names = {partner.id: partner.name or partner.id for partner in config.partners}
        self._reasons, self._zone, self._now = reasons, zone, now

    def row(self, line: MessageLine) -> Row:
        """One message."""
        about, delivery, took = line.about, line.delivery, latency_ms(line)
        waiting = waits(line, self._now)
        return Row(
            id=line.message_id,
            at=self._at(about.at),
            partner_id=about.partner_id,
            partner=self._names.get(about.partner_id, about.partner_id),
            group=about.group_id or "",
            action=about.action,
            state=state_of(line, self._now),
            attempts=str(delivery.attempt) if delivery and delivery.attempt else "",
            words=self._reasons.why(line),
            took=brief(took) if took is not None else say.length(max(self._now - about.at, timedelta(0))) if waiting else "",
            waits=waiting,
        )

    def one(self, found: FoundMessage, picture: Picture) -> OnePage:
        """A message's own page."""
        line, message = found.line, found.line.message
        text, note = body_of(line)
        return OnePage(
            row=self.row(line),
            method=line.about.method,
            correlation=line.about.correlation_id or "",
            not_before=self._at(message.not_before) if message and message.not_before > message.at else None,
            expires=self._at(message.expires_at) if message else None,
            last=self._at(line.delivery.at) if line.delivery else None,
            cause=cause_of(line, picture),
            cause_id=(message.cause_id if message else None) or "",
            body=text,
            note=note,
            attempts=tuple(map(self._attempt, found.attempts)),
            over=is_final(line),
        )

    def _attempt(self, line: Line) -> AttemptRow:
        outcome = Outcome(line.outcome or Outcome.RETRY)
        return AttemptRow(
            at=self._at(from_ms(line.at_ms)),
            number=str(line.attempt or ""),
            state=_said(outcome, line.status),
            took="" if line.duration_ms is None else f"{line.duration_ms}\u00a0ms",
            words=clean(line.words),
            url=clean(line.url),
        )

    def _at(self, instant: datetime) -> When:
        return when(instant, self._zone, self._now)


def state_of(line: MessageLine, now: datetime) -> State:
    """The chip of a message."""
    if overdue(line, now):
        return State("expired", OUTCOME_LOOKS[Outcome.EXPIRED])
    if line.delivery is None:
        return State("waiting", "quiet")
    return _said(line.delivery.outcome, line.delivery.status)


def _said(outcome: Outcome, status: int | None) -> State:
    return State(f"{outcome.value.lower()}{'' if status is None else f' {status}'}", OUTCOME_LOOKS[outcome])


def brief(took_ms: int) -> str:
    """`85 ms`, `2.4 s`, `5 min`."""
    if took_ms < 1000:
        return f"{took_ms}\u00a0ms"
    return f"{took_ms / 1000:.1f}\u00a0s" if took_ms < 60_000 else say.length(timedelta(milliseconds=took_ms))


def body_of(line: MessageLine) -> tuple[str, str]:
    """The body as indented JSON, and what is to be said of it."""
    if line.message is None or not line.message.body:
        return "", "The body is not known here: the history has it."
    text = json.dumps(shown(line.message.body), indent=2, ensure_ascii=False)
    if len(text) <= LONGEST_BODY:
        return text, ""
    return text[:LONGEST_BODY] + "\u2026", "The beginning; the API has it whole."
