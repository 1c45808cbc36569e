"""What is kept of a message that waits: where its body stands, and what decides when it goes. Not the body. Pure."""

from dataclasses import dataclass
from datetime import datetime

from schemas.oscp.v20 import Action
from schemas.outbound import OutboundMessage, Outcome
from schemas.units import to_ms

_EXCHANGE = frozenset({Action.REGISTER.value, Action.HANDSHAKE.value, Action.HANDSHAKE_ACKNOWLEDGE.value})
OVERTAKING = _EXCHANGE | {Action.HEARTBEAT.value}
"""The actions that go before what is only older. They are about no group."""


@dataclass(frozen=True, slots=True)
class Now:
    """The present, twice: wall seconds for pauses, the clock (ms since 1970) for what messages themselves say."""

    wall: float
    clock_ms: int

    @classmethod
    def of(cls, wall: float, clock: datetime) -> "Now":
        """From a monotonic wall reading and the clock's instant."""
        return cls(wall, to_ms(clock))


@dataclass(slots=True)
class Waiting:
    """A message that is owed, by reference. `attempts` counts all attempts ever made, `failures` those that failed in a row."""

    message_id: str
    partition: int
    offset: int
    group_id: str | None
    action: str
    at_ms: int
    not_before_ms: int
    expires_ms: int
    correlation_id: str | None = None
    attempts: int = 0
    failures: int = 0
    due: float = 0.0
    """Until when (wall) its back-off lasts. Only its queue changes that: it is kept sorted by it."""
    others_delivered: int = 0
    """How many messages of the same action had been delivered when this one failed first."""
    dropped_by: str | None = None

    @classmethod
    def of(cls, message: OutboundMessage, partition: int, offset: int) -> "Waiting":
        """The reference to a message at its place in `derms.outbound`."""
        return cls(
            message.message_id, partition, offset, message.group_id, message.action,
            to_ms(message.at), to_ms(message.not_before), to_ms(message.expires_at), message.correlation_id,
        )  # fmt: skip

    @property
    def beat(self) -> bool:
        """Whether it is a heartbeat, which nothing but its own back-off holds back."""
        return self.action == Action.HEARTBEAT.value

    @property
    def overtakes(self) -> bool:
        """Whether it goes before what is only older."""
        return self.action in OVERTAKING

    @property
    def rank(self) -> tuple[int, int, int]:
        """What goes first: heartbeats, then registrations and acknowledgements, then the oldest."""
        return (0 if self.beat else 1 if self.action in _EXCHANGE else 2, self.at_ms, self.offset)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator is told: an event's kind and words, and whether it is an alarm."""

    kind: str
    words: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a message after an attempt, and what there is to tell."""

    outcome: Outcome
    words: str
    notices: tuple[Notice, ...] = ()
