"""Operators' forms and what is shown before it is said: adjustments, compliance errors, limits of their own (semantics 3.3, 7.4). Pure."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway import hand_fields as fields_of
from gateway import wording as say
from gateway.api_asked import AdjustRequest, ComplianceErrorRequest
from gateway.drafts import Draft
from gateway.hand_fields import Fields
from gateway.hand_model import Choice, HandForm, Looked, SaidRow
from gateway.hand_wanted import LimitRequest
from gateway.kept_forecasts import Spoken, blocks_of, spoken
from gateway.outlook import limit_of
from gateway.partner_card import when
from gateway.picture import Picture
from schemas.compliance import Verdict
from schemas.intervals import QUARTER
from schemas.oscp.v20 import CapacityUnit, ForecastedBlock, ForecastType, Phase
from schemas.topology import Group, Scope
from schemas.units import Direction

UNITS, PHASES = tuple(CapacityUnit.__members__), tuple(Phase.__members__)
SHOWN_BLOCKS = 120
ENERGY = frozenset({CapacityUnit.WH, CapacityUnit.KWH})
TITLES = {"adjust": "Ask for another capacity", "compliance-error": "Tell of a limit that cannot be kept", "limit": "Limit this scope"}


def adjust_form(
    group: Group, type_: ForecastType, picture: Picture, zone: ZoneInfo, now: datetime, given: Fields | None = None
) -> HandForm:
    """The form of a wish, prefilled from what the forecasts say from now on; `given` is what a person wrote before."""
    found = fields_of.coming(picture.forecasts.of(group.group_id, type_.value), now)
    start, end = fields_of.first_span(found, now)
    unit = found[0].block.unit.value if found else CapacityUnit.KW.value
    phase = found[0].block.phase.value if found else Phase.ALL.value
    values = {
        "from": fields_of.local_text(start, zone),
        "to": fields_of.local_text(end, zone),
        "capacity": f"{found[0].block.capacity:g}" if found else "",
        "unit": unit,
        "phase": phase,
        "blocks": fields_of.blocks_text(blocks_of(found)),
        "way": "one",
    }
    choices = tuple(Choice(each.value, each.value, each is type_) for each in ForecastType if each is not ForecastType.OPTIMUM)
    return HandForm(
        "adjust", group.partner_id, group.group_id, group.scope_id, TITLES["adjust"], {**values, **(given or {})}, choices,
        _said(found, zone, now), UNITS, PHASES,
    )  # fmt: skip


def error_form(
    group: Group,
    forecast: str,
    picture: Picture,
    zone: ZoneInfo,
    now: datetime,
    *,
    about: Fields | None = None,
    given: Fields | None = None,
) -> HandForm:
    """The form of a compliance error, prefilled from the chosen forecast (else from the newest in force), or from the quarter and
    direction in `about`."""
    choices = _forecasts(group.group_id, picture, zone, now)
    chosen = forecast or next((each.value for each in choices), "")
    named = picture.forecasts.named(group.group_id, chosen)
    found = spoken([named[1]], now) if named is not None else []
    words = fields_of.error_words(group.group_id, chosen, found) if chosen else ""
    start, end = fields_of.first_span(found, now)
    verdict = _verdict(group.group_id, about or {}, picture)
    if verdict is not None:
        words = fields_of.breached_words(group.group_id, verdict.direction, verdict.quarter, verdict.used_wh, verdict.allowed_wh or 0.0)
        start, end = verdict.quarter, verdict.quarter + QUARTER
    values = {
        "forecast": chosen,
        "message": words,
        "from": fields_of.local_text(start, zone),
        "to": fields_of.local_text(end, zone),
        "blocks": fields_of.blocks_text(blocks_of(found)),
        "way": "span" if found or verdict is not None else "none",
    }
    marked = tuple(Choice(each.value, each.words, each.value == chosen) for each in choices)
    return HandForm(
        "compliance-error", group.partner_id, group.group_id, group.scope_id, TITLES["compliance-error"], {**values, **(given or {})},
        marked, _said(found, zone, now),
    )  # fmt: skip


def limit_form(scope: Scope, picture: Picture, zone: ZoneInfo, now: datetime, given: Fields | None = None) -> HandForm:
    """The form of an operator's own limit, with what limits the scope from now on beside it."""
    start, end = fields_of.first_span([], now)
    values = {
        "direction": Direction.IMPORT.value,
        "from": fields_of.local_text(start, zone),
        "to": fields_of.local_text(end, zone),
        "capacity": "",
        "why": "",
        "way": "limit",
    }
    line = picture.envelopes.get(scope.id)
    ahead = [piece for piece in (line.whole() if line else ()) if piece.end > now][:SHOWN_BLOCKS]
    said = tuple(
        SaidRow(
            _span_words(max(piece.start, now), piece.end, zone, now),
            f"import {say.kw(limit_of(piece, Direction.IMPORT))}, export {say.kw(limit_of(piece, Direction.EXPORT))}",
            piece.kind.value.lower(),
            piece.cause or "",
        )
        for piece in ahead
    )
    choices = tuple(Choice(each.value, each.value.lower()) for each in Direction)
    return HandForm("limit", "", "", scope.id, TITLES["limit"], {**values, **(given or {})}, choices, said)


def looked_at(
    draft: Draft, request: AdjustRequest | ComplianceErrorRequest, url: str, zone: ZoneInfo, now: datetime, back: Fields
) -> Looked:
    """A message before it is sent: headers, the exact JSON, and what is odd about it."""
    kind = "adjust" if isinstance(request, AdjustRequest) else "compliance-error"
    headers = [("X-Request-ID", draft.message_id)]
    if draft.correlation_id:
        headers.append(("X-Correlation-ID", draft.correlation_id))
    blocks = request.forecasted_blocks or []
    said = _said([Spoken("", block) for block in blocks], zone, now)
    kept = request.model_copy(update={"command_id": draft.command_id}).model_dump_json(exclude_none=True)
    return Looked(
        kind, TITLES[kind], f"POST {url}" if url else draft.action, tuple(headers), draft.body, said, tuple(draft.warnings),
        when(draft.expires_at, zone, now), kept, dict(back),
    )  # fmt: skip


def limit_looked_at(request: LimitRequest, picture: Picture, zone: ZoneInfo, now: datetime, back: Fields) -> Looked:
    """An operator's own limit before it is said."""
    asked = request.asked
    said = tuple(
        SaidRow(
            _span_words(block.start, block.end, zone, now),
            f"{asked.direction.value.lower()} {say.kw(block.limit_w)}"
            if block.limit_w is not None
            else "lifted: partners' limits alone hold",
            block.phase.value,
            "",
        )
        for block in asked.blocks
    )
    warnings = []
    if all(block.end <= now for block in asked.blocks):
        warnings.append("all of it is over: it will change nothing")
    elif any(block.start < now for block in asked.blocks):
        warnings.append("the past stays as it was: it counts from when it is taken")
    line = picture.envelopes.get(asked.scope_id)
    if line is None:
        warnings.append("nothing limits this scope yet; this will be the first limit")
    body = json.dumps(asked.model_dump(mode="json"))
    return Looked(
        "limit", TITLES["limit"], f"scope {asked.scope_id}", (), body, said, tuple(warnings), None, request.model_dump_json(), dict(back),
    )  # fmt: skip


def _verdict(group_id: str, about: Fields, picture: Picture) -> Verdict | None:
    try:
        quarter, direction = datetime.fromisoformat(about.get("quarter", "")), Direction(about.get("direction", ""))
    except ValueError:
        return None
    return picture.verdicts.get(group_id, {}).get((quarter, direction))


def _forecasts(group_id: str, picture: Picture, zone: ZoneInfo, now: datetime) -> list[Choice]:
    """The group's forecasts to choose from, those that still speak about the future first, the newest before the older."""
    found = []
    for type_ in ForecastType:
        for kept in picture.forecasts.of(group_id, type_.value):
            ahead = any(block.end_time > now for block in kept.blocks())
            words = f"{type_.value} of {say.moment(kept.received_at, zone, now)} ({kept.request_id})"
            found.append((not ahead, -kept.received_at.timestamp(), Choice(kept.request_id, words)))
    return [choice for _, _, choice in sorted(found, key=lambda one: one[:2])]


def _said(found: Sequence[Spoken], zone: ZoneInfo, now: datetime) -> tuple[SaidRow, ...]:
    """Rows for people: blocks of a power that follow each other and say the same are one."""
    rows: list[Spoken] = []
    for one in found:
        last = rows[-1] if rows else None
        if last is not None and _goes_on(last, one):
            rows[-1] = last._replace(block=last.block.model_copy(update={"end_time": one.block.end_time}))
        else:
            rows.append(one)
    return tuple(_row(one.block, one.request_id, zone, now) for one in rows[:SHOWN_BLOCKS])


def _goes_on(last: Spoken, one: Spoken) -> bool:
    before, block = last.block, one.block
    same = (before.capacity, before.unit, before.phase, last.request_id) == (block.capacity, block.unit, block.phase, one.request_id)
    return same and before.end_time == block.start_time and block.unit not in ENERGY


def _row(block: ForecastedBlock, forecast: str, zone: ZoneInfo, now: datetime) -> SaidRow:
    return SaidRow(
        _span_words(block.start_time, block.end_time, zone, now), f"{block.capacity:g} {block.unit.value}", block.phase.value, forecast
    )


def _span_words(start: datetime, end: datetime, zone: ZoneInfo, now: datetime) -> str:
    """`Sat 9 Jun 14:00–16:00`, with the day of the end where it is another one, years that are not this one, and the zone's letters
    where a local time comes twice."""
    year = say.local(now, zone).year

    def day(instant: datetime) -> str:
        there = say.local(instant, zone).year
        return say.day(instant, zone) if there == year else f"{say.day(instant, zone)} {there}"

    same = say.local(start, zone).date() == say.local(end, zone).date()
    until = say.exact_time(end, zone) if same else f"{day(end)} {say.exact_time(end, zone)}"
    return f"{day(start)} {say.exact_time(start, zone)}\u2013{until}"


def group_choices(groups: Iterable[Group]) -> tuple[Choice, ...]:
    """Groups to choose from, by partner."""
    return tuple(Choice(f"{group.partner_id}/{group.group_id}", f"{group.group_id} ({group.partner_id})") for group in groups)
