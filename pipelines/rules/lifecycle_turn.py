"""One step of a connection's life: what it may ask while it decides, and what it collects to say."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from pipelines.records import Out
from pipelines.rules.lifecycle_state import Owed, PartnerState, connection_of, fingerprint, shown
from schemas.config import Partner
from schemas.connection import Command, CommandKind, ConnectionState, Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.oscp.v20 import Action
from schemas.outbound import OutboundMessage
from schemas.topics import COMMANDS, CONNECTIONS, EVENTS, OUTBOUND

REPLY_AFTER = timedelta(seconds=1)
"""Our answering message goes not before this after the request, so that the peer has our 204 first (semantics 6.3, 6.4)."""
EXCHANGE_EXPIRES = timedelta(hours=12)
"""A registration or acknowledgement is retried for so long (semantics 8.3)."""
FAREWELL_EXPIRES = timedelta(minutes=15)
"""Our DELETE is not tried for long: it only spares a partner that is gone some refusals."""
MOST_UNSETTLED = 32
ECHO = timedelta(seconds=60)
"""A Register that uses our answer's token for the first time this soon after it is an answer to it, not a new beginning."""
SETTLE = timedelta(seconds=10)
"""After a start, or while old messages are still coming in, nobody is declared OFFLINE for so long."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rule is given from outside. `base_url` is our own FP base URL.

    `token_digest(partner_id, cause)` is the digest of the token derived from a cause; `allowance` is the clock's,
    for what slow machinery is allowed; `local_zone` is for peers with naive times (None: this machine's);
    `started_at` is when this process began. `key_id` names the installation secret ("": they are not looked at), and
    `renewed(ciphertext, partner_id)` is a partner's token under it; ValueError, in words for people, for one that cannot be read.
    `last_said(partner_id)` is the event id of the last `Connection` on the topic; None where that is not known.
    """

    partner: Callable[[str], Partner | None]
    token_digest: Callable[[str, str], str]
    base_url: str
    allowance: Callable[[timedelta], timedelta]
    started_at: datetime
    local_zone: tzinfo | None = None
    key_id: str = ""
    renewed: Callable[[str, str], str] = lambda ciphertext, partner_id: ciphertext
    last_said: Callable[[str], str | None] = lambda partner_id: None


def over_at(around: Surroundings) -> datetime:
    """When what is read at a start has been taken in."""
    return around.started_at + around.allowance(SETTLE)


def _unknown(partner_id: str) -> Partner:
    """A partner that is not in the configuration (any more), whatever stands on the topics as its id: all by default."""
    return Partner.model_construct(id=partner_id)


class Turn:
    """`at` is the instant of what happened (of a message, its receipt), `now` the clock; `cause_id` its id."""

    def __init__(self, around: Surroundings, state: PartnerState, now: datetime, at: datetime, cause_id: str | None) -> None:
        self.around, self.state, self.notes = around, state, state.notes
        self.now, self.at, self.cause_id = now, at, cause_id
        self.partner = around.partner(state.partner_id) or _unknown(state.partner_id)
        self.allowance = around.allowance
        self._item_at = None if cause_id is None else at
        self._before = shown(state)
        self._words: str | None = None
        self._sent: list[Out] = []
        self._said: list[Out] = []

    def went_on(self) -> None:
        """The state has just been restored: being where it was is no transition."""
        self.notes, self._before = self.state.notes, shown(self.state)

    @property
    def name(self) -> str:
        """What people call the partner."""
        return self.partner.name or self.partner.id

    @property
    def reachable(self) -> bool:
        """Whether we know where the partner is, and what to show it: its token, or one from its OAuth server."""
        return self.state.peer_base_url is not None and (self.state.peer_token is not None or self.partner.oauth is not None)

    @property
    def replayed(self) -> bool:
        """Whether what happens led to a `Connection` of an earlier life, which has been on the topic since. A timer cannot tell, and
        believes so for a while after the start."""
        later = self.state.said_later
        if later is None:
            return False
        return self.now < over_at(self.around) if self._item_at is None else self._item_at <= later[1]

    def because(self, words: str) -> None:
        """The words of this step's transition, if it turns out to be one."""
        self._words = words

    def say(self, kind: str, words: str, severity: Severity = Severity.INFO, **data: object) -> None:
        """Something a person may want to read. Never a token, and no body."""
        event = Event(
            event_id=derived_id("event", self.state.partner_id, kind, self.cause_id or self.at),
            at=self.now,
            cause_id=self.cause_id,
            subject_kind=SubjectKind.PARTNER,
            subject_id=self.state.partner_id,
            kind=kind,
            severity=severity,
            words=words,
            data=json.dumps(data),
        )
        self._said.append(Out(EVENTS, self.state.partner_id, event))

    def send(
        self,
        action: Action,
        body: str,
        *,
        message_id: str,
        cause_id: str,
        not_before: datetime,
        expires_at: datetime,
        method: str = "POST",
        correlation_id: str | None = None,
    ) -> None:
        """Owe the partner a message."""
        message = OutboundMessage(
            event_id=message_id,
            at=self.now,
            cause_id=cause_id,
            message_id=message_id,
            partner_id=self.state.partner_id,
            action=action,
            method=method,
            correlation_id=correlation_id,
            body=body,
            not_before=not_before,
            expires_at=expires_at,
        )
        self._sent.append(Out(OUTBOUND, self.state.partner_id, message))
        if action is not Action.HEARTBEAT:  # these expire by themselves before they can mislead anybody
            kept = [known for known in self.notes.unsettled if known != message_id]
            self.notes.unsettled = [*kept, message_id][-MOST_UNSETTLED:]

    def withdraw(self, owed: Owed | None) -> None:
        """Tell dispatch to drop a message that is not true any more, where it may still be waiting."""
        if owed is not None and owed.message_id in self.notes.unsettled:
            self.notes.unsettled.remove(owed.message_id)
            self._drop(owed.message_id)

    def withdraw_all(self) -> None:
        """As `withdraw`, everything that is not settled."""
        for message_id in self.notes.unsettled:
            self._drop(message_id)
        self.notes.unsettled = []

    def _drop(self, message_id: str) -> None:
        command = Command(
            event_id=derived_id("withdraw", message_id),
            at=self.now,
            cause_id=self.cause_id,
            partner_id=self.state.partner_id,
            kind=CommandKind.DROP_MESSAGE,
            by="lifecycle",
            payload=json.dumps({"message_id": message_id}),
        )
        self._sent.append(Out(COMMANDS, self.state.partner_id, command))

    def outputs(self) -> list[Out]:
        """What this step says, a change of the connection first: dispatch and gateway must know a token before it travels."""
        state, after = self.state, shown(self.state)
        if not state.touched:
            return []
        if after is not self._before:
            state.since, state.words = self.at, self._words or f"{self.name} is {after}"
            self.say(f"connection.{after.lower()}", state.words, _severity(after), before=self._before, after=after)
        elif self._words is not None:
            state.words = self._words
        out: list[Out] = []
        if fingerprint(state) != state.announced:
            out += self._connection()
        return [*out, *self._sent, *self._said]

    def _connection(self) -> list[Out]:
        """The connection as it is now; nothing in a replay, since gateway and dispatch know a later one: going back to this one
        would make tokens void that the partner has been given, and others good that are over."""
        state, before, later = self.state, self.state.announced, self.state.said_later
        replayed, state.announced = self.replayed, fingerprint(state)
        said = connection_of(state, self.now, self.cause_id)
        state.pauses.take(said, self.partner.measurements.report_horizon, self.at)
        if later is not None and replayed and said.event_id != later[0]:
            state.announced = before
            return []
        state.said_later, state.said_at = None, self.now
        return [Out(CONNECTIONS, state.partner_id, state.pauses.told(said))]


def message_id(partner_id: str, action: Action, about: str) -> str:
    """The X-Request-ID of a message of the exchange: from what it is about alone.

    Its body depends on the configuration and our public URL; were it part of the id, a replay under another
    configuration would not know its own message again.
    """
    return derived_id(partner_id, action, about)


def _severity(state: ConnectionState) -> Severity:
    if state is ConnectionState.FAILED:
        return Severity.ALARM
    return Severity.WARNING if state in (ConnectionState.OFFLINE, ConnectionState.DEREGISTERED) else Severity.INFO
