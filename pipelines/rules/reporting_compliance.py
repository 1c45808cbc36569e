"""Breaches in words to the partner, and what operators tell it by hand (semantics 7.3, 7.4)."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.rules.reporting_forecasts import Block as Block  # recovery stores have it by this name
from pipelines.rules.reporting_forecasts import Forecasts, blocks_within
from pipelines.rules.reporting_messages import WORDS_OWED, message, owed
from schemas.compliance import Verdict, VerdictKind
from schemas.config import ComplianceErrors
from schemas.connection import Command, CommandKind, Event, refused_command
from schemas.intervals import QUARTER
from schemas.oscp.v20 import (
    Action,
    AdjustGroupCapacityForecast,
    ForecastedBlock,
    ForecastType,
    GroupCapacityComplianceError,
)
from schemas.outbound import OutboundMessage
from schemas.units import W_PER_KW, Phase, mean_w, rfc3339, to_ms
from schemas.web import HEADER_VALUE

BREACH_GAP = timedelta(hours=2)
"""A breach stays open over quarters nobody can judge, at most this long (semantics 5)."""


class OpenBreach(NamedTuple):
    """A breach by its first and last breached quarter as far as they are known, the quarter within its limit that ended it, and
    whether the partner was told of it."""

    first: datetime
    last: datetime
    ended: datetime | None = None
    told: bool = False

    def holds(self, quarter: datetime) -> bool:
        """Whether a breached quarter is one of this breach (semantics 5)."""
        near = self.first - quarter < BREACH_GAP + QUARTER and quarter - self.last < BREACH_GAP + QUARTER
        return near and (self.ended is None or quarter < self.ended)


@dataclass(slots=True)
class Told:
    """What compliance errors need to remember for one scope.

    `forecasts` by (partner, request id, group); `errors` are the (partner, forecast, direction) already told, by
    quarter in ms; `breached` the breaches of each (group, direction, phase); `since_ms` by partner, before
    which nothing is remembered of it.
    """

    forecasts: Forecasts = field(default_factory=dict)
    errors: dict[int, set[tuple[str, str, str]]] = field(default_factory=dict)
    breached: dict[tuple[str, str, str], list[OpenBreach]] = field(default_factory=dict)
    since_ms: dict[str, int] = field(default_factory=dict)

    def prune(self, partner_id: str, before: datetime) -> None:
        """Forget what concerns only a partner's quarters before `before`. It is told nothing about them any more."""
        ms = self.since_ms[partner_id] = max(to_ms(before), self.since_ms.get(partner_id, 0))
        self.forecasts = {
            key: blocks for key, blocks in self.forecasts.items() if key[0] != partner_id or max(block.end_ms for block in blocks) > ms
        }
        for key, known in list(self.breached.items()):
            self.breached[key] = [breach for breach in known if breach.last > before]
            if not self.breached[key]:
                del self.breached[key]
        for quarter in [quarter for quarter in self.errors if quarter < ms]:
            self.errors[quarter] = {identity for identity in self.errors[quarter] if identity[0] != partner_id}
            if not self.errors[quarter]:
                del self.errors[quarter]


def words(verdict: Verdict) -> str:
    """What happened, for people at the partner's: group, direction, quarter, energies and mean powers."""
    used, allowed = verdict.used_wh, verdict.allowed_wh or 0.0
    mean_kw, limit_kw = (mean_w(wh, QUARTER) / W_PER_KW for wh in (used, allowed))
    on = "" if verdict.phase is Phase.ALL else f" on phase {verdict.phase.lower()}"
    return (
        f"Group {verdict.group_id}: {verdict.direction.value.lower()}{on} of {_kwh(used)} kWh (mean {mean_kw:.3f} kW) "
        f"in the quarter hour from {rfc3339(verdict.quarter)} is {_kwh(used - allowed)} kWh over "
        f"the {_kwh(allowed)} kWh ({limit_kw:.3f} kW) allowed"
    )


def error_body(message: str, blocks: list[ForecastedBlock] | None) -> str:
    """The body of a compliance error; without blocks the property is left out."""
    return GroupCapacityComplianceError.model_validate({"message": message, **({"forecasted_blocks": blocks} if blocks else {})}).wire()


def _kwh(wh: float) -> str:
    return f"{wh / W_PER_KW:.3f}"


def compliance_errors(told: Told, verdict: Verdict, policy: ComplianceErrors, now: datetime) -> list[OutboundMessage]:
    """The errors a verdict asks for: one for each forecast that concerns it, each told once for its quarter and direction,
    whatever the phase. Nothing is told about quarters so old that what was told of them is forgotten."""
    if (
        verdict.at_risk
        or (breach := _breach_of(told, verdict)) is None
        or to_ms(verdict.quarter) < told.since_ms.get(verdict.partner_id, 0)
    ):
        return []
    if policy is ComplianceErrors.NEVER or (policy is ComplianceErrors.ONCE_PER_BREACH and breach.told):
        return []
    done = told.errors.setdefault(to_ms(verdict.quarter), set())
    messages: list[OutboundMessage] = []
    for forecast in verdict.reportable_forecasts:
        identity = (verdict.partner_id, forecast, verdict.direction.value)
        if _of_another(told, verdict.partner_id, forecast):
            continue
        told.breached[_key(verdict)][0] = breach._replace(told=True)
        if identity in done:
            continue
        done.add(identity)
        blocks = blocks_within(told.forecasts.get((verdict.partner_id, forecast, verdict.group_id), ()), verdict.quarter, verdict.phase)
        error = message(
            partner_id=verdict.partner_id,
            group_id=verdict.group_id,
            action=Action.GROUP_CAPACITY_COMPLIANCE_ERROR.value,
            about=f"{verdict.group_id}/{forecast}/{rfc3339(verdict.quarter)}/{verdict.direction.value}",
            body=error_body(words(verdict), blocks),
            now=now,
            stated_at=verdict.at,
            owed_for=WORDS_OWED,
            cause_id=verdict.event_id,
            correlation_id=forecast,
        )
        messages += owed(error)
    return messages


def _of_another(told: Told, partner_id: str, forecast: str) -> bool:
    """Whether the forecast is known to come from another partner with a group on this scope, whom alone it concerns."""
    senders = {sender for sender, request_id, _ in told.forecasts if request_id == forecast}
    return bool(senders) and partner_id not in senders


def _key(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.group_id, verdict.direction.value, verdict.phase.value


def _breach_of(told: Told, verdict: Verdict) -> OpenBreach | None:
    """The breach a breached quarter belongs to, which from then on is the first of its key's; None for another quarter.

    Breaches are told apart by their quarters, not by when they are heard of: a repair brings those of last week.
    """
    known, quarter = told.breached.get(_key(verdict), []), verdict.quarter
    if verdict.verdict is VerdictKind.WITHIN:
        for index, breach in enumerate(known):
            if quarter > breach.last and (breach.ended is None or quarter < breach.ended):
                known[index] = breach._replace(ended=quarter)
    if verdict.verdict is not VerdictKind.BREACHED:
        return None
    same = next((breach for breach in known if breach.holds(quarter)), OpenBreach(quarter, quarter))
    found = same._replace(first=min(same.first, quarter), last=max(same.last, quarter))
    told.breached[_key(verdict)] = [found, *(breach for breach in known if breach is not same)]
    return found


class _Adjust(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: ForecastType
    forecasted_blocks: list[ForecastedBlock]


class _Error(BaseModel):
    model_config = ConfigDict(extra="ignore")
    forecast: str = Field(pattern=HEADER_VALUE, max_length=1000)
    message: str
    forecasted_blocks: list[ForecastedBlock] | None = None


def by_hand(command: Command, now: datetime) -> list[OutboundMessage | Event]:
    """An operator's ADJUST or COMPLIANCE_ERROR as a message; an event that says why not where its payload is wrong."""
    group_id = command.group_id or ""
    correlation_id: str | None = None
    try:
        if command.kind is CommandKind.ADJUST:
            wanted = _Adjust.model_validate_json(command.payload)
            plain: dict[str, Any] = {"group_id": group_id, **wanted.model_dump()}
            body, action = AdjustGroupCapacityForecast.model_validate(plain).wire(), Action.ADJUST_GROUP_CAPACITY_FORECAST
        else:
            error = _Error.model_validate_json(command.payload)
            correlation_id = error.forecast
            body, action = error_body(error.message, error.forecasted_blocks), Action.GROUP_CAPACITY_COMPLIANCE_ERROR
    except ValidationError as problem:
        first = problem.errors()[0]
        return [refused_command(command, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", now)]
    by_its_wish = message(
        partner_id=command.partner_id,
        group_id=group_id,
        action=action.value,
        about=command.event_id,
        body=body,
        now=now,
        stated_at=command.at,
        owed_for=WORDS_OWED,
        cause_id=command.event_id,
        correlation_id=correlation_id,
    )
    return [*owed(by_its_wish)]
