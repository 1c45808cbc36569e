"""Breaches as the pages list them, each with the compliance errors that were sent about it (semantics 5, 7.3). Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.page_model import BreachRow, SentError, State
from gateway.partner_card import OUTCOME_LOOKS, when
from gateway.picture import OPEN_STATES, MessageLine, Picture
from gateway.scope_index import ScopeIndex
from schemas.compliance import Breach, BreachState
from schemas.intervals import QUARTER
from schemas.oscp.v20 import Action
from schemas.units import Phase

Errors = Mapping[str, Sequence[MessageLine]]
STATES = {BreachState.CLOSED: State("closed", "quiet"), BreachState.VOIDED: State("voided", "quiet")}


def errors_about(picture: Picture, breaches: Iterable[Breach]) -> Errors:
    """The compliance errors the picture keeps, oldest first, by the id of the breach they are about.

    A message names a forecast: it is about the last breach of that forecast and group that had begun when the message was made.
    """
    of: defaultdict[tuple[str, str], list[Breach]] = defaultdict(list)
    for breach in breaches:
        for forecast in breach.forecasts:
            of[breach.group_id, forecast].append(breach)
    found: defaultdict[str, list[MessageLine]] = defaultdict(list)
    for line in picture.messages.values():
        about = line.about
        if about.action != Action.GROUP_CAPACITY_COMPLIANCE_ERROR or not about.group_id or not about.correlation_id:
            continue
        begun = [breach for breach in of.get((about.group_id, about.correlation_id), ()) if breach.first_quarter <= about.at]
        if begun:
            found[max(begun, key=lambda breach: breach.first_quarter).breach_id].append(line)
    return {breach_id: sorted(lines, key=lambda line: line.about.at) for breach_id, lines in found.items()}


def breach_row(breach: Breach, index: ScopeIndex, errors: Errors, now: datetime, zone: ZoneInfo) -> BreachRow:
    """One breach, in its scope's zone, or in `zone` where the scope is no longer configured."""
    scope = index.scopes.get(breach.scope_id)
    zone = ZoneInfo(scope.time_zone) if scope else zone
    still, end = breach.state in OPEN_STATES, breach.last_quarter + QUARTER
    return BreachRow(
        id=breach.breach_id,
        scope_id=breach.scope_id if scope else "",
        scope=(scope.name or scope.id) if scope else breach.scope_id,
        partner_id=breach.partner_id,
        group_id=breach.group_id,
        direction=breach.direction.value.lower(),
        phase="" if breach.phase is Phase.ALL else f"phase {breach.phase.value.lower()}",
        open=still,
        state=State("open", "bad") if still else STATES.get(breach.state, State(breach.state.value.lower(), "quiet")),
        day=say.local(breach.first_quarter, zone).date().isoformat(),
        since=when(breach.first_quarter, zone, now),
        until="" if still else say.moment(end, zone, now),
        span=_span(breach.first_quarter, end, zone, now),
        quarters=say.plural(breach.quarters, "quarter"),
        peak=say.kw(breach.peak_mean_w),
        over=say.kwh(breach.energy_over_wh),
        revision=breach.revision,
        forecasts=", ".join(breach.forecasts),
        forecast_ids=tuple(breach.forecasts),
        errors=tuple(_told(errors.get(breach.breach_id, ()))),
    )


def _span(start: datetime, end: datetime, zone: ZoneInfo, now: datetime) -> str:
    """`18:45–20:15` today, else with the day before it, and with both days where midnight lies between."""
    here = say.local(start, zone).date()
    first = "" if here == say.local(now, zone).date() else f"{say.day(start, zone)} "
    midnight = say.local(end, zone).date() != here and say.clock_time(end, zone) != "00:00"
    return f"{first}{say.clock_time(start, zone)}\u2013" + (f"{say.day(end, zone)} " if midnight else "") + say.clock_time(end, zone)


def _told(lines: Sequence[MessageLine]) -> Iterator[SentError]:
    """The messages about a breach, counted by how they stand."""
    by: defaultdict[State, list[str]] = defaultdict(list)
    for line in lines:
        delivery = line.delivery
        if delivery is None:
            by[State("waiting", "quiet")].append(line.message_id)
        else:
            status = f" {delivery.status}" if delivery.status else ""
            by[State(f"{delivery.outcome.value.lower()}{status}", OUTCOME_LOOKS[delivery.outcome])].append(line.message_id)
    for state, ids in by.items():
        yield SentError(", ".join(ids), len(ids), state)
