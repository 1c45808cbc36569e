"""Verdicts, breaches and their events as they are written, with words for people (semantics 5)."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from pipelines.records import Out
from pipelines.rules.breaches import Revision
from pipelines.rules.judgement import Allowed, Judged
from schemas.compliance import Breach, BreachState, Verdict, VerdictKind
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.intervals import QUARTER
from schemas.telemetry import QuarterHour
from schemas.topics import BREACHES, COMPLIANCE, EVENTS
from schemas.topology import iso_duration
from schemas.units import W_PER_KW, Direction, Phase, from_ms, mean_w, rfc3339


class About(NamedTuple):
    """Whose limits in which direction, of which conductor."""

    partner_id: str
    group_id: str
    scope_id: str
    direction: Direction
    phase: Phase = Phase.ALL

    def id(self, kind: str, *parts: object) -> str:
        """The id of a fact about it. The phase is in it only where it is a single one."""
        return derived_id(kind, *parts, *(() if self.phase is Phase.ALL else (self.phase,)))

    @property
    def on(self) -> str:
        """The conductor in words, where it is a single one."""
        return "" if self.phase is Phase.ALL else f" on phase {self.phase.lower()}"


def verdict(about: About, quarter_ms: int, judged: Judged, revision: int, cause_id: str, now: datetime) -> Out:
    """The judgement of one quarter; its id follows from what it says."""
    fact = Verdict(
        event_id=about.id("verdict", about.group_id, about.direction, quarter_ms, revision, *judged),
        at=now,
        cause_id=cause_id,
        partner_id=about.partner_id,
        group_id=about.group_id,
        scope_id=about.scope_id,
        quarter=from_ms(quarter_ms),
        direction=about.direction,
        verdict=judged.verdict,
        used_wh=judged.used_wh,
        allowed_wh=judged.allowed_wh,
        reason=judged.reason,
        forecasts=list(judged.causes),
        reportable_forecasts=list(judged.reportable),
        revision=revision,
        phase=about.phase,
    )
    return Out(COMPLIANCE, about.group_id, fact)


def at_risk(about: About, row: QuarterHour, limits: Allowed, projected_w: float, now: datetime) -> Iterator[Out]:
    """The warning inside the quarter (`row` is its provisional one), and an event that says so."""
    direction, limit_w = about.direction, mean_w(limits.energy_wh or 0.0, QUARTER)
    words = f"on its way to {_kw(projected_w)}, above {_kw(limit_w)}"
    fact = Verdict(
        event_id=about.id("at risk", about.group_id, direction, row.event_id),
        at=now,
        cause_id=row.event_id,
        partner_id=about.partner_id,
        group_id=about.group_id,
        scope_id=about.scope_id,
        quarter=row.start,
        direction=direction,
        verdict=VerdictKind.UNKNOWN,
        used_wh=row.import_wh if direction is Direction.IMPORT else row.export_wh,
        allowed_wh=limits.energy_wh,
        reason=words,
        forecasts=list(limits.causes),
        reportable_forecasts=list(limits.reportable),
        revision=0,
        at_risk=True,
        projected_w=projected_w,
        phase=about.phase,
    )
    yield Out(COMPLIANCE, about.group_id, fact)
    said = f"the {direction.lower()} of {about.group_id}{about.on} in the quarter from {rfc3339(row.start)} is {words}"
    yield _event(about.scope_id, "quarter at risk", Severity.WARNING, said, fact.event_id, now)


def breach_id(about: About, first_ms: int, number: int) -> str:
    """The id of the breach that begins with that quarter; `number` tells apart several that did."""
    return about.id("breach", about.group_id, about.direction, first_ms, number)


def breach(about: About, revision: Revision, before: BreachState | None, cause_id: str | None, now: datetime) -> Iterator[Out]:
    """A revision of a breach that was in the state `before`, and an event when it begins, ends or turns out not to have been."""
    state, run, number = revision.told[:3]
    fact = Breach(
        event_id=derived_id("breach revision", revision.breach_id, number, state, *run),
        at=now,
        cause_id=cause_id,
        breach_id=revision.breach_id,
        partner_id=about.partner_id,
        group_id=about.group_id,
        scope_id=about.scope_id,
        direction=about.direction,
        state=state,
        first_quarter=from_ms(run.first_ms),
        last_quarter=from_ms(run.last_ms),
        quarters=run.quarters,
        peak_mean_w=run.peak_mean_w,
        energy_over_wh=run.energy_over_wh,
        forecasts=list(run.forecasts),
        revision=number,
        phase=about.phase,
    )
    yield Out(BREACHES, about.group_id, fact)
    when = f"from {rfc3339(fact.first_quarter)} to {rfc3339(fact.last_quarter + QUARTER)}"
    span = f"of {about.group_id}'s {about.direction.lower()} limit{about.on}, {when}"
    over = f"{run.energy_over_wh / W_PER_KW:.3f} kWh over, at most {_kw(run.peak_mean_w)} on average"
    if state is BreachState.VOIDED:
        yield _event(about.scope_id, "breach voided", Severity.INFO, f"by what is known now there was no breach {span}", fact.event_id, now)
        return
    if before in (None, BreachState.VOIDED):
        yield _event(about.scope_id, "breach opened", Severity.ALARM, f"breach {span}: {over}", fact.event_id, now)
    if state is BreachState.CLOSED and before is not BreachState.CLOSED:
        yield _event(about.scope_id, "breach closed", Severity.INFO, f"end of the breach {span}: {over}", fact.event_id, now)
    elif state is not BreachState.CLOSED and before is BreachState.CLOSED:
        yield _event(about.scope_id, "breach reopened", Severity.ALARM, f"not the end of the breach {span}: {over}", fact.event_id, now)


def too_late(scope_id: str, group_id: str, row: QuarterHour, kept_ms: int, now: datetime) -> Out:
    """Rows came for quarters that are no longer kept: they stand in the history, unjudged."""
    day = f"{row.start:%Y-%m-%d}"
    kept = f"quarters are judged again for {iso_duration(timedelta(milliseconds=kept_ms))}"
    words = f"rows of {group_id} of {day} (UTC) came too late to be judged: {kept}"
    return _event(scope_id, "row not judged", Severity.WARNING, words, derived_id(group_id, day, row.event_id), now)


def _event(scope_id: str, kind: str, severity: Severity, words: str, cause_id: str, now: datetime) -> Out:
    event = Event(
        event_id=derived_id(kind, cause_id),
        at=now,
        cause_id=cause_id,
        subject_kind=SubjectKind.SCOPE,
        subject_id=scope_id,
        kind=kind,
        severity=severity,
        words=words,
    )
    return Out(EVENTS, scope_id, event)


def _kw(watts: float) -> str:
    return f"{round(watts / W_PER_KW, 3):g} kW"
