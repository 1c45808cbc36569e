"""Time as a dependency: every timer, watermark, expiry and page asks a `Clock` (architecture, "Time is a dependency")."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

DEFAULT_FLOOR = timedelta(seconds=2)
_NO_TIME = timedelta(0)


class Clock(Protocol):
    """Where "now" comes from. All instants are aware UTC datetimes."""

    @property
    def speed(self) -> float:
        """Clock seconds that pass in one wall second."""

    def now(self) -> datetime:
        """The clock's present instant."""

    def wall_at(self, instant: datetime) -> datetime:
        """The wall instant at which this clock will read `instant` (for the engine's own timers)."""

    def at_wall(self, instant: datetime) -> datetime:
        """What this clock reads, or read, at that wall instant: the inverse of `wall_at`."""

    def allowance(self, duration: timedelta) -> timedelta:
        """`duration` for slow machinery: never less, in wall time, than the floor (semantics, head).

        At speed 1 and below the floor does nothing.
        """


def _floored(duration: timedelta, floor: timedelta, speed: float) -> timedelta:
    return max(duration, floor * speed) if speed > 1 else duration


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's own clock, at speed 1."""

    @property
    def speed(self) -> float:
        """Always 1."""
        return 1.0

    def now(self) -> datetime:
        """The present wall instant."""
        return datetime.now(UTC)

    def wall_at(self, instant: datetime) -> datetime:
        """The instant itself."""
        return instant

    def at_wall(self, instant: datetime) -> datetime:
        """The instant itself."""
        return instant

    def allowance(self, duration: timedelta) -> timedelta:
        """The duration itself."""
        return duration


@dataclass(frozen=True, slots=True)
class ScaledClock:
    """origin + (wall - started) x speed, so that a recorded day runs in minutes with its true timestamps.

    `started` is the wall instant at which the clock reads `origin`; processes that share the three
    values share the clock (contract 1).
    """

    origin: datetime
    started: datetime
    speed: float = 1.0
    floor: timedelta = DEFAULT_FLOOR

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError(f"clock speed must be greater than 0, got {self.speed}")

    def now(self) -> datetime:
        """The clock's present instant."""
        return self.origin + (datetime.now(UTC) - self.started) * self.speed

    def wall_at(self, instant: datetime) -> datetime:
        """The wall instant at which this clock reads `instant`."""
        return self.started + (instant - self.origin) / self.speed

    def at_wall(self, instant: datetime) -> datetime:
        """What the clock reads at that wall instant; before it was started, its origin: it never read anything earlier."""
        return self.origin + max(instant - self.started, _NO_TIME) * self.speed

    def allowance(self, duration: timedelta) -> timedelta:
        """The larger of `duration` and what the floor amounts to in clock time."""
        return _floored(duration, self.floor, self.speed)


@dataclass(slots=True)
class FrozenClock:
    """Stands still until told to move; for tests."""

    at: datetime
    speed: float = 1.0
    floor: timedelta = field(default=DEFAULT_FLOOR)

    def now(self) -> datetime:
        """The instant it was set to."""
        return self.at

    def wall_at(self, instant: datetime) -> datetime:
        """Never: a frozen clock wakes nobody, tests feed ticks."""
        return instant.replace(year=2200, month=1, day=1)

    def at_wall(self, instant: datetime) -> datetime:
        """The instant it stands at: wall time does not move it."""
        return self.at

    def allowance(self, duration: timedelta) -> timedelta:
        """As `ScaledClock.allowance`."""
        return _floored(duration, self.floor, self.speed)

    def advance(self, duration: timedelta) -> datetime:
        """Move on by `duration` and return the new instant."""
        self.at += duration
        return self.at

    def set(self, instant: datetime) -> datetime:
        """Move to `instant` (backwards too: clocks do) and return it."""
        self.at = instant
        return self.at


def wall_seconds() -> float:
    """A monotonic wall reading in seconds, for time-outs and durations that never scale."""
    return time.monotonic()
