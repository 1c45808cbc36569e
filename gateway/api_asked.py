"""What operators ask for: adjustments, compliance errors, limits of their own; looked at first, and followed (semantics 3.3, 7.4)."""

import asyncio
import json
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.api_body import Problem, json_body, takes
from gateway.api_common import Items
from gateway.asked import AskedView, asked_view
from gateway.desk import Actor, AtDesk, Desk, Reader
from gateway.drafts import Draft, draft_of
from gateway.guard import Caller
from gateway.kept_forecasts import spoken
from gateway.orders import CommandView, commanded, order, order_limit
from schemas.adjustment import Adjustment, AdjustmentState
from schemas.capacity import EnvelopeCommand
from schemas.connection import CommandKind
from schemas.oscp.v20 import AdjustGroupCapacityForecast, ForecastedBlock, ForecastType, GroupCapacityComplianceError
from schemas.units import Instant
from schemas.web import header_value_objection

router = APIRouter()

Limit = Annotated[int, Query(ge=1, le=1000)]
ID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
CommandId = Annotated[str, Field(pattern=ID_PATTERN)]


def _can_be_named(forecast: str) -> str:
    if (words := header_value_objection(forecast)) is not None:
        raise ValueError(words)
    return forecast


class AdjustRequest(BaseModel):
    """A wish for another capacity: OSCP's AdjustGroupCapacityForecast, and for whom. `command_id` is that of its draft, where it was
    looked at first: sent twice under one id, it is asked for once."""

    model_config = ConfigDict(extra="forbid")

    partner_id: str
    group_id: str
    type: ForecastType
    forecasted_blocks: list[ForecastedBlock] = Field(min_length=1)
    command_id: CommandId | None = None


class ComplianceErrorRequest(BaseModel):
    """That a forecast cannot be met: OSCP's GroupCapacityComplianceError, for whom, and the forecast's X-Request-ID. `command_id` as
    for an adjustment."""

    model_config = ConfigDict(extra="forbid")

    partner_id: str
    group_id: str
    forecast: Annotated[str, Field(max_length=1000), AfterValidator(_can_be_named)]
    message: str = Field(min_length=1, max_length=10_000)
    forecasted_blocks: Annotated[list[ForecastedBlock], Field(min_length=1)] | None = None
    command_id: CommandId | None = None


class SpokenBlock(BaseModel):
    """What forecasts say about a time, and which one says it."""

    forecast: str
    block: ForecastedBlock


class ForecastLine(BaseModel):
    """A forecast as received."""

    forecast: str
    received_at: Instant
    blocks: list[ForecastedBlock]


class ForecastsView(BaseModel):
    """A group's last forecasts of one type, and what they say together from now on."""

    group_id: str
    type: ForecastType
    ahead: list[SpokenBlock]
    received: list[ForecastLine]


def adjust_payload(body: AdjustRequest) -> str:
    """The payload of a command of kind ADJUST."""
    message = AdjustGroupCapacityForecast(group_id=body.group_id, type=body.type, forecasted_blocks=body.forecasted_blocks)
    return message.model_dump_json(exclude_none=True, exclude={"group_id"})


def error_payload(body: ComplianceErrorRequest) -> str:
    """The payload of a command of kind COMPLIANCE_ERROR."""
    plain = body.model_dump(mode="json", include={"message", "forecasted_blocks"}, exclude_none=True)
    return json.dumps({"forecast": body.forecast, **json.loads(GroupCapacityComplianceError.model_validate(plain).wire())})


def drafted(desk: Desk, caller: Caller, body: AdjustRequest | ComplianceErrorRequest) -> Draft:
    """The message as it would be sent now. Raises Problem 400 or 404."""
    kind, payload = _plain(body)
    asked_under = body.command_id or str(uuid.uuid4())
    command = commanded(desk, caller, body.partner_id, kind, group_id=body.group_id, payload=payload, command_id=asked_under)
    return draft_of(command, asked_under, desk.config.current(), desk.pictures.current())


async def asked_for(desk: Desk, caller: Caller, body: AdjustRequest | ComplianceErrorRequest) -> CommandView:
    """Ask for it, once it has been checked as a draft is. Raises Problem 400 or 404, Unavailable."""
    asked_under = (await asyncio.to_thread(drafted, desk, caller, body)).command_id
    kind, payload = _plain(body)
    return await order(desk, caller, body.partner_id, kind, group_id=body.group_id, payload=payload, command_id=asked_under)


def _plain(body: AdjustRequest | ComplianceErrorRequest) -> tuple[CommandKind, str]:
    if isinstance(body, AdjustRequest):
        return CommandKind.ADJUST, adjust_payload(body)
    return CommandKind.COMPLIANCE_ERROR, error_payload(body)


AdjustBody = Annotated[AdjustRequest, Depends(json_body(AdjustRequest, strict=False))]
ErrorBody = Annotated[ComplianceErrorRequest, Depends(json_body(ComplianceErrorRequest, strict=False))]
LimitBody = Annotated[EnvelopeCommand, Depends(json_body(EnvelopeCommand, strict=False))]


@router.get("/commands", tags=["commands"])
async def list_commands(_: Reader, desk: AtDesk, limit: Limit = 100) -> Items[AskedView]:
    """The last 100 requests of operators, newest first, and what became of each."""
    picture, now = desk.pictures.current(), desk.clock.now()
    return Items(items=[asked_view(picture, command, now) for command in picture.commands[:limit]])


@router.get("/commands/{command_id}", tags=["commands"])
async def one_command(_: Reader, desk: AtDesk, command_id: str) -> AskedView:
    """One of the last requests of operators, and what became of it."""
    picture = desk.pictures.current()
    found = next((command for command in picture.commands if command.event_id == command_id), None)
    if found is None:
        raise Problem(404, "Unknown command", f"{command_id!r} is not among the last requests; older ones are in the history")
    return asked_view(picture, found, desk.clock.now())


@router.post("/commands/adjust", status_code=202, tags=["commands"], openapi_extra=takes(AdjustRequest))
async def adjust(caller: Actor, desk: AtDesk, body: AdjustBody) -> CommandView:
    """Ask the partner for another capacity (semantics 7.4)."""
    return await asked_for(desk, caller, body)


@router.post("/commands/adjust/preview", tags=["commands"], openapi_extra=takes(AdjustRequest))
async def preview_adjust(caller: Actor, desk: AtDesk, body: AdjustBody) -> Draft:
    """The exact message that asks for it, and what is odd about it; nothing is sent."""
    return await asyncio.to_thread(drafted, desk, caller, body)


@router.post("/commands/compliance-error", status_code=202, tags=["commands"], openapi_extra=takes(ComplianceErrorRequest))
async def compliance_error(caller: Actor, desk: AtDesk, body: ErrorBody) -> CommandView:
    """Tell the partner that a forecast cannot be met (semantics 7.4)."""
    return await asked_for(desk, caller, body)


@router.post("/commands/compliance-error/preview", tags=["commands"], openapi_extra=takes(ComplianceErrorRequest))
async def preview_compliance_error(caller: Actor, desk: AtDesk, body: ErrorBody) -> Draft:
    """The exact message that tells it, and what is odd about it; nothing is sent."""
    return await asyncio.to_thread(drafted, desk, caller, body)


@router.post("/commands/envelope", status_code=202, tags=["commands"], openapi_extra=takes(EnvelopeCommand))
async def envelope(caller: Actor, desk: AtDesk, body: LimitBody) -> CommandView:
    """Limit a scope by an operator's word, or lift such a limit; the lower of it and the partners' limits holds (semantics 3.3)."""
    return await order_limit(desk, caller, body)


@router.get("/adjustments", tags=["commands"])
async def list_adjustments(
    _: Reader,
    desk: AtDesk,
    *,
    partner_id: str | None = None,
    group_id: str | None = None,
    state: AdjustmentState | None = None,
    limit: Limit = 200,
) -> Items[Adjustment]:
    """Wishes for another capacity, each as it stands, newest first."""
    wanted: dict[str, Any] = {"partner_id": partner_id, "group_id": group_id, "state": state}
    given = {name: value for name, value in wanted.items() if value is not None}
    found = [
        wish for wish in desk.pictures.current().adjustments.values() if all(getattr(wish, name) == value for name, value in given.items())
    ]
    return Items(items=sorted(found, key=lambda wish: wish.requested_at, reverse=True)[:limit])


@router.get("/adjustments/{adjustment_id}", tags=["commands"])
async def one_adjustment(_: Reader, desk: AtDesk, adjustment_id: str) -> Adjustment:
    """One wish for another capacity; its id is that of the command that asked."""
    found = desk.pictures.current().adjustments.get(adjustment_id)
    if found is None:
        raise Problem(
            404, "Unknown adjustment", f"there is no adjustment {adjustment_id!r} among the last ones; older ones are in the history"
        )
    return found


@router.get("/forecasts", tags=["scopes"])
def forecasts(_: Reader, desk: AtDesk, group_id: str, type: ForecastType) -> ForecastsView:  # noqa: A002 - OSCP's name for it
    """A group's last forecasts of one type as received, and what they say together from now on: where a wish begins."""
    if desk.config.current().group_by_id(group_id) is None:
        raise Problem(404, "Unknown group", f"there is no group {group_id!r}")
    kept = desk.pictures.current().forecasts.of(group_id, type.value)
    ahead = [SpokenBlock(forecast=one.request_id, block=one.block) for one in spoken(kept, desk.clock.now())]
    received = [ForecastLine(forecast=one.request_id, received_at=one.received_at, blocks=one.blocks()) for one in reversed(kept)]
    return ForecastsView(group_id=group_id, type=type, ahead=ahead, received=received)
