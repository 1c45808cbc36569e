"""How fast, how often and how long: the numbers of semantics 8 as one partner's queue goes by them. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from schemas.clock import Clock
from schemas.config import Partner


@dataclass(frozen=True, slots=True)
class Pace:
    """The numbers of semantics 8 as wall seconds. `under_way` is how many messages (heartbeats aside) travel at once."""

    backoff_s: float = 1.0
    backoff_max_s: float = 300.0
    breaker_s: float = 30.0
    probe_s: float = 300.0
    max_rate: float = 20.0
    under_way: int = 7
    period_ms: int = 900_000
    """A message older than this is backlog and drains at `max_rate` a second."""


def pace_of(clock: Clock, partner: Partner | None) -> Pace:
    """The numbers of semantics 8.3 and 8.6 as wall seconds under `clock`, with its floor for slow machinery."""

    def wall_s(seconds: float) -> float:
        return clock.allowance(timedelta(seconds=seconds)).total_seconds() / clock.speed

    numbers = Pace()
    return Pace(
        backoff_s=wall_s(numbers.backoff_s),
        backoff_max_s=wall_s(numbers.backoff_max_s),
        breaker_s=wall_s(numbers.breaker_s),
        probe_s=wall_s(numbers.probe_s),
        max_rate=partner.max_rate if partner else numbers.max_rate,
    )
