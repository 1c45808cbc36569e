"""Messages of a partner's queue, its queue, and what becomes of them; times are wall seconds and the clock's ms."""

from typing import Any

from schemas.outbound import Outcome
from sinks.oscp.answers import Judgement
from sinks.oscp.pace import Pace
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.waiting import Now, Waiting

HOUR_MS = 3_600_000
T = 1_800_000_000_000
MEASUREMENTS = "UpdateAssetMeasurements"


def message(number: int, *, group: str | None = "g1", action: str = MEASUREMENTS, **changes: Any) -> Waiting:
    plain: dict[str, Any] = {"at_ms": T, "not_before_ms": T, "expires_ms": T + 100 * HOUR_MS}
    return Waiting(f"m{number}", 0, number, group, action, **{**plain, **changes})


def queue(**pace: Any) -> PartnerQueue:
    return PartnerQueue(Pace(**pace), lambda bound: bound)


def now(wall: float = 0.0, clock_ms: int = T) -> Now:
    return Now(wall, clock_ms)


def judged(outcome: Outcome, *, status: int | None = 500, retry_after_s: float | None = None) -> Judgement:
    return Judgement(outcome, status, "words", retry_after_s)


def end(q: PartnerQueue, waiting: Waiting, outcome: Outcome, at: Now, **how: Any) -> Outcome:
    settled = q.settle(waiting, judged(outcome, **how), at)
    q.free(waiting, settled.outcome)
    return settled.outcome


def go(q: PartnerQueue, at: Now) -> Waiting:
    waiting = q.next(at)
    assert waiting is not None
    return waiting
