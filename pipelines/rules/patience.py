"""When a timer may act: not while older news may still be on its way.

After a restart a flow's timers are due at once, before what was written meanwhile has been read; during a replay the
clock is far ahead of what comes in. A rule that acted then would state things that a record already written denies.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.units import to_ms


@dataclass(frozen=True, slots=True)
class Patience:
    """Timers wait until `opening` and `settle` after the flow began at `started_at`, and `settle` after each item that came late
    by more than `settle`. `opening` is what the source needs before it reads anything. All of it is clock time; the default
    waits for nothing."""

    started_at: datetime | None = None
    settle: timedelta = timedelta(0)
    opening: timedelta = timedelta(0)

    def at_first(self) -> int:
        """Until when timers wait if nothing late comes; ms since 1970 UTC."""
        return 0 if self.started_at is None else to_ms(self.started_at + self.opening + self.settle)

    def after(self, expected_ms: int, now: datetime) -> int:
        """Until when timers wait because of an item that was to be expected at `expected_ms` and came `now`."""
        late = to_ms(now - self.settle) > expected_ms
        return to_ms(now + self.settle) if late else 0


AT_ONCE = Patience()
"""No patience: every timer acts when it is due."""
