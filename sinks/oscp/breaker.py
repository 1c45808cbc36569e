"""The breaker of one partner: after five failures in a row nothing goes for a while, then one message probes (semantics 8.3). Pure."""

from dataclasses import dataclass
from enum import StrEnum

FAILURES = 5


class BreakerState(StrEnum):
    """CLOSED lets everything through, OPEN nothing, HALF_OPEN the one probe that is under way."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(slots=True)
class Breaker:
    """All instants are wall seconds passed in; `pause_s` is how long it stays open before a probe."""

    pause_s: float
    failures: int = 0
    state: BreakerState = BreakerState.CLOSED
    opens_at: float = 0.0
    """While open: when a probe may go."""

    def allows(self, now: float) -> bool:
        """Whether a message may go now."""
        return self.state is BreakerState.CLOSED or (self.state is BreakerState.OPEN and now >= self.opens_at)

    def started(self) -> None:
        """A message goes; while open it is the probe."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN

    def succeeded(self) -> bool:
        """The partner answered sensibly. Returns whether that closed the breaker."""
        closed = self.state is not BreakerState.CLOSED
        self.failures, self.state = 0, BreakerState.CLOSED
        return closed

    def failed(self, now: float) -> bool:
        """The partner did not answer, or not sensibly. Returns whether that opened a closed breaker."""
        self.failures += 1
        if self.state is BreakerState.CLOSED and self.failures < FAILURES:
            return False
        opened = self.state is BreakerState.CLOSED
        self.state, self.opens_at = BreakerState.OPEN, now + self.pause_s
        return opened

    def abandoned(self, now: float) -> None:
        """A probe ended without saying anything about the partner: another may go at once."""
        if self.state is BreakerState.HALF_OPEN:
            self.state, self.opens_at = BreakerState.OPEN, now
