"""How one quarter hour and direction stands against its limits (semantics 5): pure arithmetic."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from pipelines.rules.limits import Limit, Stretch, within
from schemas.capacity import PieceKind
from schemas.compliance import VerdictKind
from schemas.intervals import QUARTER, QUARTER_MS, QUARTER_S
from schemas.units import SECONDS_PER_HOUR, Direction, energy_wh, mean_w

LEAST_COVERAGE = 0.5
SLACK_WH = 1.0
REPORTABLE = frozenset({PieceKind.FORECAST, PieceKind.FALLBACK, PieceKind.HELD})
"""Limits that came from a partner; it may hear of them."""


class Allowed(NamedTuple):
    """What the limits of a quarter come to: for how many seconds they are known, their integral where that is all of
    them, and the causes of the limits, those the partner may hear of apart."""

    known_s: float
    energy_wh: float | None
    causes: tuple[str, ...]
    reportable: tuple[str, ...]


class Judged(NamedTuple):
    """A judgement without its circumstances."""

    verdict: VerdictKind
    used_wh: float
    allowed_wh: float | None
    reason: str
    causes: tuple[str, ...]
    reportable: tuple[str, ...]


def allowed(timeline: Sequence[Stretch], quarter_ms: int, direction: Direction) -> Allowed:
    """What the timeline of a scope's envelope (phase ALL) allows in the quarter that starts at `quarter_ms`."""
    found = [(one.end_ms - one.start_ms, one.limit(direction)) for one in within(timeline, quarter_ms, quarter_ms + QUARTER_MS)]
    limits = [(timedelta(milliseconds=ms), limit) for ms, limit in found if limit is not None]
    known_s = sum((duration for duration, _ in limits), timedelta()).total_seconds()
    energy = sum(energy_wh(limit.watts, duration) for duration, limit in limits) if known_s >= QUARTER_S else None
    return Allowed(
        known_s, energy, _causes(limit for _, limit in limits), _causes(limit for _, limit in limits if limit.kind in REPORTABLE)
    )


def judge(used_wh: float, coverage: float, tolerance: float, limits: Allowed) -> Judged:
    """The checks of semantics 5, in their order."""
    if limits.energy_wh is None:
        return _judged(VerdictKind.UNKNOWN, used_wh, limits, f"limit covers {limits.known_s:g} s of {QUARTER_S}")
    threshold_wh = threshold(limits.energy_wh, tolerance)
    if used_wh > threshold_wh:
        return _judged(VerdictKind.BREACHED, used_wh, limits, "")
    if coverage < LEAST_COVERAGE or used_wh / coverage > threshold_wh:
        return _judged(VerdictKind.UNKNOWN, used_wh, limits, "energy incomplete")
    return _judged(VerdictKind.WITHIN, used_wh, limits, "")


def threshold(allowed_wh: float, tolerance: float) -> float:
    """Above this many Wh a quarter is breached."""
    return allowed_wh * (1 + tolerance) + SLACK_WH


def projected_w(used_wh: float, last_minute_w: float | None, elapsed: timedelta) -> float | None:
    """The mean power the quarter comes to if it goes on like its last minute, or, where no minute's mean is known, like
    the quarter so far. `last_minute_w` is in the judged direction (not negative); None where nothing can be said."""
    left = max(QUARTER - elapsed, timedelta())
    if last_minute_w is None:
        if elapsed <= timedelta():
            return None
        last_minute_w = mean_w(used_wh, min(elapsed, QUARTER))
    return (used_wh + last_minute_w * left.total_seconds() / SECONDS_PER_HOUR) * (SECONDS_PER_HOUR / QUARTER_S)


def _judged(verdict: VerdictKind, used_wh: float, limits: Allowed, reason: str) -> Judged:
    return Judged(verdict, used_wh, limits.energy_wh, reason, limits.causes, limits.reportable)


def _causes(limits: Iterable[Limit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(limit.cause for limit in limits if limit.cause is not None))
