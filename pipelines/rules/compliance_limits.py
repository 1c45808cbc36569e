"""What a new envelope changes about the past of a scope: quarters it concerns are judged again (semantics 3.4, 5)."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from pipelines.records import Out
from pipelines.rules.compliance_state import OPEN, REACH, ComplianceState, Told, judged_at
from pipelines.rules.compliance_verdicts import breaches_of, judged_anew
from pipelines.rules.judgement import Allowed, Judged
from pipelines.rules.kept_limits import KeptLimits
from pipelines.rules.limits import stretch_of
from schemas.capacity import OperatingEnvelope
from schemas.intervals import QUARTER_MS
from schemas.units import Direction, Phase, to_ms

ENVELOPES_KNOWN = 64

REPLAYED_MS = timedelta(days=31) // timedelta(milliseconds=1)
"""How long limits are kept of a scope from which no rows come; a replay that goes further back judges nothing before."""


def limited(state: ComplianceState, envelope: OperatingEnvelope, now: datetime) -> Iterator[Out]:
    """The limits from the envelope's `effective_at` on; the quarters it changes are judged again.

    A revision that was passed already comes from a flow that begins anew: it says nothing new about what has been judged.
    """
    if envelope.event_id in state.seen:
        return
    state.seen = [*state.seen, envelope.event_id][-ENVELOPES_KNOWN:]
    effective_ms, stated_ms = to_ms(envelope.effective_at), to_ms(envelope.at)
    if envelope.revision <= state.revision:
        effective_ms = max(effective_ms, state.newest_ms + QUARTER_MS)
    state.revision = max(state.revision, envelope.revision)
    for phase in {**dict.fromkeys(state.limits), **dict.fromkeys(piece.phase for piece in envelope.pieces)}:
        concerned = sorted(_past(state, phase, effective_ms, stated_ms))
        before = _standing(state, phase, concerned)
        kept = state.limits.setdefault(phase, KeptLimits())
        pieces = [stretch_of(piece) for piece in envelope.pieces if piece.phase is phase]
        judged = _judgements(state, phase, concerned)
        kept.replace(effective_ms, pieces)
        changed = [told for told, limits in before.items() if state.allowed(*told) != limits]
        for told in changed:
            if told.quarter_ms + QUARTER_MS <= stated_ms:
                state.late[told] = state.late.get(told, 0) + 1
        yield from _again(state, phase, changed, judged, envelope.event_id, now)
    state.forget_limits(stated_ms - REPLAYED_MS)


def _past(state: ComplianceState, phase: Phase, effective_ms: int, stated_ms: int) -> set[int]:
    """The quarters whose limits an envelope may change after they ended: those that were judged, and those that may yet be."""
    accounts = [account for _, each, account in state.accounts() if each is phase]
    found: set[int] = set()
    for account in accounts:
        starts = account.quarters.starts
        found.update(starts[bisect_right(starts, effective_ms - QUARTER_MS) :])
    reach_ms = max((group.kept_ms for group in state.groups.values()), default=(REACH + OPEN) // timedelta(milliseconds=1))
    first_ms = max(effective_ms, stated_ms - reach_ms) // QUARTER_MS * QUARTER_MS
    return found.union(range(first_ms, stated_ms - QUARTER_MS + 1, QUARTER_MS))


def _standing(state: ComplianceState, phase: Phase, concerned: Iterable[int]) -> dict[Told, Allowed]:
    told = [Told(quarter_ms, direction, phase) for quarter_ms in concerned for direction in Direction]
    return {each: state.allowed(*each) for each in told}


def _judgements(state: ComplianceState, phase: Phase, concerned: Iterable[int]) -> dict[tuple[str, Told], Judged | None]:
    """How the groups' quarters were judged by now."""
    found: dict[tuple[str, Told], Judged | None] = {}
    quarters = list(concerned)
    for group, each, account in state.accounts():
        places = [(quarter_ms, account.quarters.find(quarter_ms)) for quarter_ms in quarters] if each is phase else []
        for quarter_ms, at in places:
            for direction in Direction if at is not None else ():
                found[group.group_id, Told(quarter_ms, direction, phase)] = judged_at(state, group, phase, direction, at or 0)
    return found


def _again(
    state: ComplianceState,
    phase: Phase,
    changed: list[Told],
    judged: dict[tuple[str, Told], Judged | None],
    cause_id: str,
    now: datetime,
) -> Iterator[Out]:
    for group in state.groups.values():
        account = group.accounts.get(phase)
        if account is None:
            continue
        for direction in Direction:
            news = []
            for told in (each for each in changed if each.direction is direction):
                at = account.quarters.find(told.quarter_ms)
                if at is not None:
                    verdicts = list(judged_anew(state, group, told, at, judged[group.group_id, told], cause_id, now))
                    news += [told.quarter_ms] if verdicts else []
                    yield from verdicts
            if news:
                yield from breaches_of(state, group, account, phase, direction, news[0], news[-1], cause_id, now)
