"""When late readings are repaired, and which quarters then: an asset at most once in PT15M (semantics 1.10). Pure.

A late reading asks for the quarters it may have a part in. Each is repaired once it has left the correction horizon, since
until then the running flow may write it, and once the history has the reading.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipelines.rules.quarter_hours import MeterTiming
from pipelines.rules.repair import Span, open_from_ms, reached
from schemas.intervals import QUARTER_MS
from schemas.telemetry import LateMeasurement
from schemas.units import from_ms, to_ms

_MS = timedelta(milliseconds=1)
SPANS = 64
"""More separate stretches of an asset than this are joined where they are closest."""
QUARTERS_AT_ONCE = 3_000
"""So many quarters are repaired in one go; the rest follows at once."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long repairs wait, in clock time."""

    every: timedelta = timedelta(minutes=15)
    """Between two repairs of an asset."""
    settle: timedelta = timedelta(seconds=10)
    """After the first late reading of an asset, for those that come with it."""
    margin: timedelta = timedelta(minutes=2)
    """Beyond the correction horizon, for the running flow's last words about a quarter."""
    again: timedelta = timedelta(seconds=5)
    """Before the history is looked into again for readings it does not have yet."""
    patience: timedelta = timedelta(hours=6)
    """For readings the history does not get."""


@dataclass(slots=True)
class Pending:
    """What an asset waits for: disjoint stretches of quarters in order, and what is known of the readings that ask for them.

    `offsets` has, for each partition of telemetry, where the newest of them stands; `lag` (ms) is how far event time was
    behind the clock. Instants in ms by the clock; `since` is when the first of them came, `waiting` since when the history
    has been asked for them in vain (0: it has not).
    """

    spans: list[Span]
    since: int
    not_before: int
    cause_id: str
    lag: int = 0
    waiting: int = 0
    offsets: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class ScheduleState:
    """The assets that wait, and when each was last repaired."""

    pending: dict[str, Pending] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True)
class Due:
    """An asset whose quarters can be repaired now, if the history has everything up to `offsets`."""

    asset_id: str
    spans: tuple[Span, ...]
    offsets: dict[int, int]
    cause_id: str
    lag: int = 0


class Schedule:
    """Turns late readings into repairs that are due. The state is its caller's, to be kept."""

    def __init__(self, waits: Waits | None = None) -> None:
        self.waits = waits or Waits()

    def take(self, state: ScheduleState, late: LateMeasurement, timing: MeterTiming, now: datetime) -> None:
        """Note a late reading."""
        asset_id, clock = late.measurement.asset_id, to_ms(now)
        pending = state.pending.get(asset_id)
        if pending is None:
            last = state.repaired.get(asset_id)
            first = clock + self.waits.settle // _MS
            not_before = first if last is None else max(first, last + self.waits.every // _MS)
            pending = state.pending[asset_id] = Pending([], clock, not_before, late.event_id)
        pending.spans = _with(pending.spans, reached(to_ms(late.measurement.measured_at), timing))
        pending.lag = max(pending.lag, to_ms(late.at) - timing.lateness - to_ms(late.watermark))
        pending.offsets[late.partition] = max(late.offset, pending.offsets.get(late.partition, -1))

    def due(self, state: ScheduleState, timing: MeterTiming) -> datetime | None:
        """When, by the clock, the next asset may be repaired."""
        return min((from_ms(self._when(pending, timing)) for pending in state.pending.values()), default=None)

    def _when(self, pending: Pending, timing: MeterTiming) -> int:
        """Not before its first quarter has left the horizon."""
        first_end = pending.spans[0][0] + QUARTER_MS
        return max(pending.not_before, first_end - open_from_ms(0, timing, self.waits.margin // _MS, pending.lag))

    def next(self, state: ScheduleState, timing: MeterTiming, now: datetime) -> list[Due]:
        """The assets to repair now, those that have waited longest first; about `QUARTERS_AT_ONCE` quarters in all."""
        clock, found, quarters = to_ms(now), list[Due](), 0
        for asset_id, pending in sorted(state.pending.items(), key=lambda pair: pair[1].since):
            if self._when(pending, timing) > clock or quarters >= QUARTERS_AT_ONCE:
                continue
            open_from = open_from_ms(clock, timing, self.waits.margin // _MS, pending.lag)
            spans = _first(_until(pending.spans, open_from), QUARTERS_AT_ONCE - quarters)
            quarters += _size(spans)
            found.append(Due(asset_id, tuple(spans), dict(pending.offsets), pending.cause_id, pending.lag))
        return found

    def wait(self, state: ScheduleState, due: Due, now: datetime) -> bool:
        """The history does not have it all yet: look again later. False if it has been waited for long enough; then it is dropped."""
        pending = state.pending[due.asset_id]
        pending.waiting = pending.waiting or to_ms(now)
        if now - from_ms(pending.waiting) > self.waits.patience:
            self._drop(state, due)
            return False
        pending.not_before = to_ms(now + self.waits.again)
        return True

    def done(self, state: ScheduleState, due: Due, timing: MeterTiming, now: datetime) -> None:
        """The quarters of `due` have been repaired: what is left of the asset's follows, at once if it could have been among them."""
        state.repaired[due.asset_id] = clock = to_ms(now)
        lag = state.pending[due.asset_id].lag
        self._drop(state, due)
        if (left := state.pending.get(due.asset_id)) is not None:
            open_from = open_from_ms(clock, timing, self.waits.margin // _MS, lag)
            more = left.spans[0][0] + QUARTER_MS <= open_from
            left.not_before, left.waiting, left.since = clock if more else clock + self.waits.every // _MS, 0, clock
        horizon = clock - self.waits.every // _MS
        for asset_id in [asset_id for asset_id, at in state.repaired.items() if at < horizon and asset_id not in state.pending]:
            del state.repaired[asset_id]

    @staticmethod
    def _drop(state: ScheduleState, due: Due) -> None:
        pending = state.pending[due.asset_id]
        for span in due.spans:
            pending.spans = _without(pending.spans, span)
        if not pending.spans:
            del state.pending[due.asset_id]


def _with(spans: list[Span], span: Span) -> list[Span]:
    """The stretches with one more, joined where they touch; and where they are too many, at their smallest gap."""
    found: list[Span] = []
    for first, until in sorted([*spans, span]):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((first, until))
    while len(found) > SPANS:
        gap = min(range(len(found) - 1), key=lambda index: found[index + 1][0] - found[index][1])
        found[gap : gap + 2] = [(found[gap][0], found[gap + 1][1])]
    return found


def _without(spans: list[Span], gone: Span) -> list[Span]:
    parts = [part for first, until in spans for part in ((first, min(until, gone[0])), (max(first, gone[1]), until))]
    return [(first, until) for first, until in parts if first < until]


def _until(spans: list[Span], end: int) -> list[Span]:
    last = end // QUARTER_MS * QUARTER_MS
    return [(first, min(until, last)) for first, until in spans if first < last]


def _first(spans: list[Span], most: int) -> list[Span]:
    found: list[Span] = []
    for first, until in spans:
        left = most - _size(found)
        if left <= 0:
            break
        found.append((first, min(until, first + left * QUARTER_MS)))
    return found


def _size(spans: list[Span]) -> int:
    return sum(until - first for first, until in spans) // QUARTER_MS
