"""An operator's request becomes a command on `derms.commands`; what follows is the flows' business."""

import json
import uuid
from typing import Any

from pydantic import BaseModel

from gateway.api_body import Problem
from gateway.desk import Desk
from gateway.guard import Caller
from gateway.redaction import without_secrets
from schemas.capacity import EnvelopeCommand
from schemas.connection import Command, CommandKind
from schemas.facts import derived_id
from schemas.topics import COMMANDS
from schemas.units import Instant


class CommandView(BaseModel):
    """A command: what was asked, by whom and when."""

    id: str
    at: Instant
    partner_id: str
    kind: CommandKind
    by: str
    group_id: str | None
    scope_id: str | None
    payload: dict[str, Any]


def command_view(command: Command) -> CommandView:
    """A command as the API shows it."""
    return CommandView(
        id=command.event_id,
        at=command.at,
        partner_id=command.partner_id,
        kind=command.kind,
        by=command.by,
        group_id=command.group_id,
        scope_id=command.scope_id,
        payload={name: without_secrets(value) for name, value in json.loads(command.payload).items() if name != "peer_token"},
    )


async def order(
    desk: Desk,
    caller: Caller,
    partner_id: str,
    kind: CommandKind,
    *,
    group_id: str | None = None,
    payload: str = "{}",
    command_id: str | None = None,
) -> CommandView:
    """Append a command and return it once the broker has it. A person's act has no cause to derive an id from: it is random, or
    the one under which it was looked at first, so that sending a form twice asks once.

    Raises Problem 404 for an unknown partner or group, Unavailable if the broker does not take it.
    """
    if desk.config.current().partner(partner_id) is None and partner_id not in desk.connections.current():
        raise Problem(404, "Unknown partner", f"there is no partner {partner_id!r}")
    if group_id is not None and desk.config.current().group(partner_id, group_id) is None:
        raise Problem(404, "Unknown group", f"partner {partner_id!r} has no group {group_id!r}")
    command = commanded(desk, caller, partner_id, kind, group_id=group_id, payload=payload, command_id=command_id)
    await desk.appender.append(COMMANDS, partner_id, command)
    return command_view(command)


def commanded(
    desk: Desk,
    caller: Caller,
    partner_id: str,
    kind: CommandKind,
    *,
    group_id: str | None = None,
    payload: str = "{}",
    command_id: str | None = None,
) -> Command:
    """The command as it would be appended now. Asked under a `command_id`, its id follows from that and from what is asked: the
    same again is the same command, and another wish under the same id is another one, which is listed and followed by itself."""
    event_id = str(uuid.uuid4()) if command_id is None else derived_id("asked", command_id, kind, partner_id, group_id, payload)
    return Command(
        event_id=event_id,
        at=desk.clock.now(),
        partner_id=partner_id,
        kind=kind,
        by=caller.operator.name,
        group_id=group_id,
        payload=payload,
    )


async def order_limit(desk: Desk, caller: Caller, asked: EnvelopeCommand, command_id: str | None = None) -> CommandView:
    """Append an operator's own limit (semantics 3.3) and return it once the broker has it. Raises Problem 404, Unavailable."""
    if desk.config.current().scope(asked.scope_id) is None:
        raise Problem(404, "Unknown scope", f"there is no scope {asked.scope_id!r}")
    payload = asked.model_dump_json()
    command = commanded(desk, caller, "", CommandKind.ENVELOPE, payload=payload, command_id=command_id).model_copy(
        update={"scope_id": asked.scope_id}
    )
    await desk.appender.append(COMMANDS, asked.scope_id, command)
    return command_view(command)
