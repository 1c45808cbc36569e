"""Operators' commands to dispatch: retry or drop a single message; resume, which also tries at once what is held back."""

import json
from datetime import datetime

from schemas.connection import Command, CommandKind, Event, refused_command
from sinks.oscp.partner_run import PartnerRun

KINDS = frozenset({CommandKind.RETRY_MESSAGE, CommandKind.DROP_MESSAGE, CommandKind.RESUME})
"""The commands dispatch obeys; the others are for other flows."""


def message_id_of(command: Command) -> str:
    """The `message_id` of the command's payload; empty where there is none."""
    try:
        wanted = json.loads(command.payload)
    except ValueError:
        return ""
    return str(wanted.get("message_id", "")) if isinstance(wanted, dict) else ""


async def carry_out(command: Command, run: PartnerRun) -> bool:
    """Do what the command asks with the partner's queue; whether the message waits there, where it is about one."""
    if command.kind is CommandKind.RESUME:
        run.try_now()
        return True
    act = run.retry if command.kind is CommandKind.RETRY_MESSAGE else run.drop
    return await act(message_id_of(command), command.by, command.event_id)


def refusal(command: Command, at: datetime) -> Event:
    """The event that tells why a command came to nothing."""
    why = f"no message {message_id_of(command)!r} waits for this partner"
    return refused_command(command, why, at)
