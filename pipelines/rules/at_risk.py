"""The warning inside a quarter, before it is lost: what its provisional rows come to (semantics 5).

Apart from the judgements: provisional rows come every minute, and what is kept for them is small.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from pipelines.records import Out, Tick
from pipelines.rules import compliance_facts, judgement
from pipelines.rules.compliance import GroupRow
from pipelines.rules.kept_limits import KeptLimits
from pipelines.rules.limits import stretch_of
from schemas.capacity import OperatingEnvelope
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.units import Direction, Phase, to_ms

KEPT_MS = timedelta(hours=2) // timedelta(milliseconds=1)
"""Behind the newest quarter, and behind the newest envelope: a warning about what is older helps nobody."""


class Running(NamedTuple):
    """A quarter (its start in ms) of one group and phase."""

    quarter_ms: int
    group_id: str
    phase: Phase


@dataclass
class AtRiskState:
    """One scope: its limits by phase, the quarters and directions last said to be at risk, and the quarters that are closed."""

    scope_id: str
    limits: dict[Phase, KeptLimits] = field(default_factory=dict)
    revision: int = 0
    newest_ms: int = 0
    said: set[tuple[Running, Direction]] = field(default_factory=set)
    closed: set[Running] = field(default_factory=set)


class AtRiskRule:
    """Turns provisional `GroupRow`s into at-risk `Verdict`s and `Event`s, one scope a key, with its envelopes and final rows.

    Said when the projection goes above what would be a breach (so with the tolerance), and again if it was below in between;
    not of a quarter that is closed, nor where the limit is not known throughout the quarter.
    """

    def start(self, key: str) -> AtRiskState:
        """A scope of which nothing is known."""
        return AtRiskState(key)

    def step(self, state: AtRiskState, item: GroupRow | OperatingEnvelope | Tick, now: datetime) -> Iterator[Out]:
        """Take in one row or envelope."""
        if isinstance(item, OperatingEnvelope):
            _limited(state, item)
        elif isinstance(item, GroupRow):
            quarter = Running(to_ms(item.row.start), item.group_id, item.row.phase)
            if item.row.provisional:
                if quarter not in state.closed and quarter.quarter_ms >= state.newest_ms - KEPT_MS:
                    yield from _warned(state, quarter, item, now)
            elif quarter.quarter_ms >= state.newest_ms - KEPT_MS:
                state.closed.add(quarter)
            _forget(state, quarter.quarter_ms)

    def due(self, state: AtRiskState) -> datetime | None:
        """Never: a row comes every minute."""
        return None


def _limited(state: AtRiskState, envelope: OperatingEnvelope) -> None:
    """A revision that was passed already comes from a flow that begins anew: what has been is not said anew."""
    effective_ms = to_ms(envelope.effective_at)
    if envelope.revision <= state.revision:
        effective_ms = max(effective_ms, state.newest_ms)
    state.revision = max(state.revision, envelope.revision)
    for phase in {**dict.fromkeys(state.limits), **dict.fromkeys(piece.phase for piece in envelope.pieces)}:
        kept = state.limits.setdefault(phase, KeptLimits())
        kept.replace(effective_ms, [stretch_of(piece) for piece in envelope.pieces if piece.phase is phase])
        kept.forget(to_ms(envelope.at) - KEPT_MS)


def _warned(state: AtRiskState, quarter: Running, item: GroupRow, now: datetime) -> Iterator[Out]:
    row, kept = item.row, state.limits.get(quarter.phase)
    stretches = kept.over(quarter.quarter_ms, quarter.quarter_ms + QUARTER_MS) if kept is not None else []
    for direction in Direction:
        used_wh, last_w = row.import_wh, row.last_minute_w
        if direction is Direction.EXPORT:
            used_wh, last_w = row.export_wh, None if last_w is None else -last_w
        limits = judgement.allowed(stretches, quarter.quarter_ms, direction)
        projected_w = judgement.projected_w(used_wh, None if last_w is None else max(last_w, 0.0), row.at - row.start)
        if limits.energy_wh is None or projected_w is None:
            continue
        risk = (quarter, direction)
        if projected_w * (QUARTER / timedelta(hours=1)) <= judgement.threshold(limits.energy_wh, item.tolerance):
            state.said.discard(risk)
        elif risk not in state.said:
            state.said.add(risk)
            about = compliance_facts.About(item.partner_id, item.group_id, state.scope_id, direction, quarter.phase)
            yield from compliance_facts.at_risk(about, row, limits, projected_w, now)


def _forget(state: AtRiskState, quarter_ms: int) -> None:
    if quarter_ms <= state.newest_ms:
        return
    state.newest_ms = quarter_ms
    before_ms = quarter_ms - KEPT_MS
    state.said = {risk for risk in state.said if risk[0].quarter_ms >= before_ms}
    state.closed = {quarter for quarter in state.closed if quarter.quarter_ms >= before_ms}
    for kept in state.limits.values():
        kept.forget(before_ms)
