"""What operators' forms ask for, read from their fields, and read again when it is confirmed. Pure."""

import json
import uuid
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from gateway import hand_fields as fields_of
from gateway.api_asked import AdjustRequest, CommandId, ComplianceErrorRequest
from gateway.api_body import Problem, field_errors
from gateway.hand_fields import Fields
from gateway.kept_forecasts import blocks_of, spoken
from gateway.picture import Picture
from schemas.capacity import EnvelopeCommand
from schemas.topology import Group, Scope
from schemas.units import W_PER_KW, rfc3339


class LimitRequest(BaseModel):
    """An operator's own limit, and the id it is asked under."""

    asked: EnvelopeCommand
    command_id: CommandId


M = TypeVar("M", bound=BaseModel)
Request = AdjustRequest | ComplianceErrorRequest | LimitRequest


def adjust_request(fields: Fields, group: Group, zone: ZoneInfo) -> AdjustRequest:
    """What the form of a wish asks for. Raises Problem 400."""
    blocks = fields_of.written_blocks(fields) if fields.get("way") == "all" else fields_of.one_block(fields, zone)
    return _checked(
        AdjustRequest,
        {"partner_id": group.partner_id, "group_id": group.group_id, "type": fields.get("type", ""), "forecasted_blocks": blocks},
    )


def error_request(fields: Fields, group: Group, picture: Picture, zone: ZoneInfo) -> ComplianceErrorRequest:
    """What the form of a compliance error asks for. Raises Problem 400."""
    forecast = (fields.get("other", "").strip() or fields.get("forecast", "")).strip()
    found: list[Any] | None = None
    if fields.get("way") == "all":
        found = fields_of.written_blocks(fields)
    elif fields.get("way") == "span":
        start, end = fields_of.span(fields, zone)
        named = picture.forecasts.named(group.group_id, forecast)
        parts = spoken([named[1]], start, end) if named is not None else []
        if not parts:
            raise fields_of.refused("from", "the forecast says nothing about this time: choose another, or leave the blocks out")
        found = [block.model_dump(mode="json") for block in blocks_of(parts)]
    plain = {"partner_id": group.partner_id, "group_id": group.group_id, "forecast": forecast, "message": fields.get("message", "").strip()}
    return _checked(ComplianceErrorRequest, {**plain, "forecasted_blocks": found})


def limit_request(fields: Fields, scope: Scope, zone: ZoneInfo) -> LimitRequest:
    """What the form of an operator's limit asks for. Raises Problem 400."""
    start, end = fields_of.span(fields, zone)
    lifted = fields.get("way") == "lift"
    block = {
        "start": rfc3339(start),
        "end": rfc3339(end),
        "limit_w": None if lifted else fields_of.capacity(fields, "capacity") * W_PER_KW,
    }
    plain = {"scope_id": scope.id, "direction": fields.get("direction", ""), "blocks": [block], "why": fields.get("why", "").strip()[:500]}
    return LimitRequest(asked=_checked(EnvelopeCommand, plain), command_id=str(uuid.uuid4()))


def drafted(kind: str, text: str) -> Request:
    """The request a person has looked at, from the form that confirms it. Raises Problem 400."""
    try:
        match kind:
            case "adjust":
                return AdjustRequest.model_validate_json(text)
            case "compliance-error":
                return ComplianceErrorRequest.model_validate_json(text)
            case _:
                return LimitRequest.model_validate_json(text)
    except ValidationError as error:
        raise Problem(400, "Invalid form", "send the form as the page does", field_errors(error.errors(include_url=False))) from None


def _checked(model: type[M], plain: dict[str, Any]) -> M:
    try:
        return model.model_validate_json(json.dumps({name: value for name, value in plain.items() if value is not None}))
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False))
        raise Problem(400, "Invalid form", f"{errors[0]['path']}: {errors[0]['message']}", errors) from None
