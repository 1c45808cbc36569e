"""Partners: where their connections stand, and what an operator can ask of them (semantics 6)."""

import asyncio
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from gateway import api_timeline
from gateway.api_body import Problem, parse, read, takes
from gateway.api_common import Items
from gateway.desk import Actor, AtDesk, Desk, Reader
from gateway.guard import Caller
from gateway.liveness import liveness_deadline
from gateway.orders import CommandView, order
from gateway.partner_queue import QueueView, queue_view
from gateway.picture import Heartbeats
from gateway.problems import FieldError
from gateway.redaction import clean
from schemas.clock import wall_seconds
from schemas.connection import CommandKind, ConnectionState
from schemas.units import Instant
from schemas.web import url_objection
from sinks.errors import Unavailable

router = APIRouter(prefix="/partners", tags=["partners"])

TOKEN_WITHIN_S = 10.0
ASK_S = 1.0
_LOOK_EVERY_S = 0.05


class PartnerView(BaseModel):
    """A partner and its connection, without credentials. Intervals are seconds; instants are of the system's clock. `queue` is null
    where dispatch has not said yet how the queues stand."""

    id: str
    name: str
    state: ConnectionState
    since: Instant | None = None
    words: str = ""
    peer_base_url: str | None = None
    peer_version: str | None = None
    last_heartbeat_received_at: Instant | None = None
    last_heartbeat_delivered_at: Instant | None = None
    heartbeat_asked_of_us_s: float | None = None
    heartbeat_asked_of_partner_s: float | None = None
    liveness_deadline: Instant | None = None
    measurements_asked_of_us: list[str] = []
    measurements_withheld_since: Instant | None = None
    first_acknowledged_at: Instant | None = None
    groups: list[str] = []
    queue: QueueView | None = None


class RegisterRequest(BaseModel):
    """Where the partner is and the first token it gave us; each may be left to the configuration. What the configuration would
    refuse as `base_url` (a user or password, a query, an address that is not allowed for this partner) is refused here, too."""

    model_config = ConfigDict(extra="forbid")

    base_url: str | None = Field(default=None, pattern="^https?://[^\\s]+$", max_length=2000)
    token: str | None = Field(default=None, min_length=1, max_length=1000)


class IssuedToken(BaseModel):
    """A registration token, shown this once."""

    partner_id: str
    token: str


def partner_view(desk: Desk, partner_id: str) -> PartnerView:
    """What is known of a partner. Raises Problem 404."""
    config, picture = desk.config.current(), desk.pictures.current()
    known, connection = config.partner(partner_id), picture.connections.get(partner_id)
    if known is None and connection is None:
        raise Problem(404, "Unknown partner", f"there is no partner {partner_id!r}")
    beats = picture.heartbeats.get(partner_id, Heartbeats())
    found: dict[str, Any] = {
        "id": partner_id,
        "name": known.name if known else "",
        "state": ConnectionState.NEW,
        "last_heartbeat_received_at": beats.received_at,
        "last_heartbeat_delivered_at": beats.delivered_at,
        "groups": [group.group_id for group in config.groups if group.partner_id == partner_id],
        "queue": queue_view(picture, partner_id),
    }
    if connection is not None:
        found |= {
            "state": connection.state,
            "since": connection.since,
            "words": clean(connection.words),
            "peer_base_url": connection.peer_base_url and clean(connection.peer_base_url),
            "peer_version": connection.peer_version,
            "heartbeat_asked_of_us_s": connection.peer_required_heartbeat_s,
            "heartbeat_asked_of_partner_s": connection.our_required_heartbeat_s,
            "liveness_deadline": liveness_deadline(picture, config, partner_id),
            "measurements_asked_of_us": connection.peer_required_measurements,
            "measurements_withheld_since": connection.withheld_since,
            "first_acknowledged_at": connection.first_acknowledged_at,
        }
    return PartnerView.model_validate(found)


def partner_ids(desk: Desk) -> list[str]:
    """The configured partners, then those of which only a connection is left."""
    configured = [partner.id for partner in desk.config.current().partners]
    return configured + sorted(set(desk.pictures.current().connections) - set(configured))


@router.get("")
async def list_partners(_: Reader, desk: AtDesk) -> Items[PartnerView]:
    """All partners."""
    return Items(items=[partner_view(desk, partner_id) for partner_id in partner_ids(desk)])


@router.post("/{partner_id:path}/token", status_code=201, response_model=IssuedToken)
async def issue_token(caller: Actor, desk: AtDesk, partner_id: str) -> JSONResponse:
    """A new registration token (A), answered once the gateway accepts it, and never shown again."""
    issued = IssuedToken(partner_id=partner_id, token=await new_token(desk, caller, partner_id))
    return JSONResponse(issued.model_dump(), status_code=201)


async def new_token(desk: Desk, caller: Caller, partner_id: str) -> str:
    """A new registration token once the gateway accepts it. Raises Problem 404, Unavailable where the lifecycle does not answer."""
    command = await order(desk, caller, partner_id, CommandKind.ISSUE_TOKEN)
    await _accepted(desk, partner_id, desk.secrets.token_digest(partner_id, command.id))
    return desk.secrets.token(partner_id, command.id)


async def _accepted(desk: Desk, partner_id: str, token_digest: str) -> None:
    deadline = wall_seconds() + TOKEN_WITHIN_S
    while wall_seconds() < deadline:
        # The view follows by itself. The broker is not asked meanwhile: partners' requests would wait for that answer, too.
        connection = desk.connections.current().get(partner_id)
        if connection is not None and any(credential.digest == token_digest for credential in connection.credentials):
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    await desk.connections.catch_up(ASK_S)  # says so where it is the broker that does not answer
    words = f"no token yet: the lifecycle flow did not take the request within {TOKEN_WITHIN_S:g} s; see that it runs and ask again"
    raise Unavailable(words, TOKEN_WITHIN_S)


@router.post("/{partner_id:path}/register", status_code=202, openapi_extra=takes(RegisterRequest))
async def register(caller: Actor, desk: AtDesk, partner_id: str, request: Request) -> CommandView:
    """Start the registration from our side, with what the body says, else with `base_url` and `initial_token_file` of the
    configuration, else with what is known from before. The body may be left out."""
    body = parse(RegisterRequest, await read(request)) if await request.body() else RegisterRequest()
    return await order_registration(desk, caller, partner_id, body)


async def order_registration(desk: Desk, caller: Caller, partner_id: str, body: RegisterRequest) -> CommandView:
    """The command of a registration from our side; the first token travels as ciphertext. Raises Problem 400 (naming `base_url` and
    the cure, without its text), 404 and 409, Unavailable."""
    partner = desk.config.current().partner(partner_id)
    private = partner is not None and partner.allow_private_addresses
    if body.base_url is not None and (words := url_objection(body.base_url, allow_private=private)):
        raise Problem(400, "Invalid body", f"base_url: {words}", [FieldError(path="base_url", message=words)])
    token = body.token
    if token is None and partner is not None and partner.initial_token_file is not None:
        token = await asyncio.to_thread(_initial_token, Path(partner.initial_token_file))
    payload = {} if body.base_url is None else {"base_url": body.base_url}
    if token is not None:
        payload["peer_token"] = desk.secrets.encrypt(token, partner_id)
    return await order(desk, caller, partner_id, CommandKind.REGISTER, payload=json.dumps(payload))


def _initial_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        words = f"the partner's initial_token_file cannot be read: {path.name}; put the partner's token there"
        raise Problem(409, "No initial token", words) from None


@router.post("/{partner_id:path}/handshake", status_code=202)
async def handshake(caller: Actor, desk: AtDesk, partner_id: str) -> CommandView:
    """Send a handshake."""
    return await order(desk, caller, partner_id, CommandKind.HANDSHAKE)


@router.post("/{partner_id:path}/suspend", status_code=202)
async def suspend(caller: Actor, desk: AtDesk, partner_id: str) -> CommandView:
    """Stop sending to the partner; what it sends is still taken."""
    return await order(desk, caller, partner_id, CommandKind.SUSPEND)


@router.post("/{partner_id:path}/resume", status_code=202)
async def resume(caller: Actor, desk: AtDesk, partner_id: str) -> CommandView:
    """Send again, and try at once what failed or is held back."""
    return await order(desk, caller, partner_id, CommandKind.RESUME)


@router.post("/{partner_id:path}/deregister", status_code=202)
async def deregister(caller: Actor, desk: AtDesk, partner_id: str) -> CommandView:
    """End the connection."""
    return await order(desk, caller, partner_id, CommandKind.DEREGISTER)


router.include_router(api_timeline.router)  # before the path that takes all the rest


@router.get("/{partner_id:path}")
async def one_partner(_: Reader, desk: AtDesk, partner_id: str) -> PartnerView:
    """One partner."""
    return partner_view(desk, partner_id)
