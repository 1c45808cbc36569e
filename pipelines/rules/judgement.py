"""How one quarter hour and direction stands against its limits (semantics 5): pure arithmetic."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from math import fsum
from typing import NamedTuple

from pipelines.rules.limits import MOST_W, Limit, Stretch, within
from schemas.capacity import PieceKind
from schemas.compliance import VerdictKind
from schemas.intervals import QUARTER, QUARTER_MS, QUARTER_S
from schemas.units import SECONDS_PER_HOUR, Direction, mean_w

LEAST_COVERAGE = 0.5
SLACK_WH = 1.0
MS_PER_S, MS_PER_HOUR = 1_000, 3_600_000
REPORTABLE = frozenset({PieceKind.FORECAST, PieceKind.FALLBACK, PieceKind.HELD})
"""Limits that came from a partner; it may hear of them."""


class Allowed(NamedTuple):
    """What the limits of a quarter come to: for how many seconds they are known, their integral in Wh where that is all of
    them, and the causes of the limits, those the partner may hear of apart; of these also the seconds and the integral."""

    known_s: float
    energy_wh: float | None
    causes: tuple[str, ...]
    reportable: tuple[str, ...]
    partner_s: float
    partner_wh: float


class Judged(NamedTuple):
    """A judgement without its circumstances."""

    verdict: VerdictKind
    used_wh: float
    allowed_wh: float | None
    reason: str
    causes: tuple[str, ...]
    reportable: tuple[str, ...]


def allowed(timeline: Sequence[Stretch], quarter_ms: int, direction: Direction) -> Allowed:
    """What the limits of a scope (of one phase) allow in the quarter that starts at `quarter_ms`.

    In how many stretches a limit was said makes no difference, not even in the last digit.
    """
    limits = _limits(timeline, quarter_ms, direction)
    known_ms = sum(ms for ms, _ in limits)
    partners = [(ms, limit) for ms, limit in limits if limit.kind in REPORTABLE and limit.cause is not None]
    return Allowed(
        known_s=known_ms / MS_PER_S,
        energy_wh=_energy_wh(limits) if known_ms >= QUARTER_MS else None,
        causes=_causes(limits),
        reportable=_causes(partners),
        partner_s=sum(ms for ms, _ in partners) / MS_PER_S,
        partner_wh=_energy_wh(partners),
    )


def judge(used_wh: float, coverage: float, tolerance: float, limits: Allowed) -> Judged:
    """The checks of semantics 5, in their order. A breach names to the partner only what of its own was exceeded."""
    if limits.energy_wh is None:
        return _judged(VerdictKind.UNKNOWN, used_wh, limits, f"limit covers {limits.known_s:g} s of {QUARTER_S}")
    threshold_wh = threshold(limits.energy_wh, tolerance)
    if used_wh > threshold_wh:
        breached = _judged(VerdictKind.BREACHED, used_wh, limits, "")
        return breached if _partners_too(used_wh, tolerance, limits) else breached._replace(reportable=())
    if coverage < LEAST_COVERAGE or used_wh / coverage > threshold_wh:
        return _judged(VerdictKind.UNKNOWN, used_wh, limits, "energy incomplete")
    return _judged(VerdictKind.WITHIN, used_wh, limits, "")


def _partners_too(used_wh: float, tolerance: float, limits: Allowed) -> bool:
    """Whether what the partner's own limits allowed was exceeded, also where a safe or an operator's limit ruled in a part of
    the quarter: what the partner allowed then is not known, so the quarter's mean power is held against its limits elsewhere.
    A quarter that only broke an operator's lower limit is none of the partner's business (semantics 7.3)."""
    share = limits.partner_s / QUARTER_S
    return share > 0 and used_wh * share > limits.partner_wh * (1 + tolerance) + SLACK_WH * share


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


def _limits(timeline: Sequence[Stretch], quarter_ms: int, direction: Direction) -> list[tuple[int, Limit]]:
    """The known limits of the quarter in order, each with how long it holds (ms); equal ones in a row are one."""
    found: list[tuple[int, Limit]] = []
    end_ms = quarter_ms
    for one in within(timeline, quarter_ms, quarter_ms + QUARTER_MS):
        limit, duration = one.limit(direction), one.end_ms - one.start_ms
        if limit is None:
            continue
        if found and found[-1][1] == limit and end_ms == one.start_ms:
            found[-1] = (found[-1][0] + duration, limit)
        else:
            found.append((duration, limit))
        end_ms = one.end_ms
    return found


def _energy_wh(limits: Iterable[tuple[int, Limit]]) -> float:
    return fsum(min(limit.watts, MOST_W) * ms for ms, limit in limits) / MS_PER_HOUR


def _causes(limits: Iterable[tuple[int, Limit]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(limit.cause for _, limit in limits if limit.cause is not None))
