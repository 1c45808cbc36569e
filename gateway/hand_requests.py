"""What operators asked for and what became of it, as rows of a page. Pure."""

import json
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway.asked import AskedState, standing_of
from gateway.hand_model import AskedRow
from gateway.page_model import State
from gateway.partner_card import when
from gateway.picture import Picture
from gateway.redaction import without_secrets
from schemas.config import Configuration
from schemas.connection import Command, CommandKind

WHAT = {
    CommandKind.ISSUE_TOKEN: "Issue a token",
    CommandKind.REGISTER: "Register",
    CommandKind.HANDSHAKE: "Send a handshake",
    CommandKind.SUSPEND: "Suspend",
    CommandKind.RESUME: "Resume",
    CommandKind.DEREGISTER: "Deregister",
    CommandKind.ADJUST: "Ask for another capacity",
    CommandKind.COMPLIANCE_ERROR: "Tell of a limit that cannot be kept",
    CommandKind.RETRY_MESSAGE: "Try a message again",
    CommandKind.DROP_MESSAGE: "Give a message up",
    CommandKind.ENVELOPE: "Limit a scope",
}
LOOKS = {
    AskedState.ASKED: "quiet",
    AskedState.WAITING: "quiet",
    AskedState.DELIVERED: "good",
    AskedState.ANSWERED: "good",
    AskedState.IN_FORCE: "good",
    AskedState.COMING: "quiet",
    AskedState.LIFTED: "quiet",
    AskedState.OVER: "quiet",
    AskedState.REFUSED: "bad",
    AskedState.EXPIRED: "risk",
}
LONGEST = 4000


def rows_of(picture: Picture, config: Configuration, zone: ZoneInfo, now: datetime) -> tuple[AskedRow, ...]:
    """The last requests, newest first; times in `zone`."""
    return tuple(_row(picture, config, command, zone, now) for command in sorted(picture.commands, key=lambda one: one.at, reverse=True))


def _row(picture: Picture, config: Configuration, command: Command, zone: ZoneInfo, now: datetime) -> AskedRow:
    found = standing_of(picture, command, now)
    about, path = _about(config, command)
    return AskedRow(
        id=command.event_id,
        at=when(command.at, zone, now),
        by=command.by,
        what=WHAT[command.kind],
        about=about,
        about_path=path,
        state=State(found.state.value.lower().replace("_", " "), LOOKS[found.state]),
        words=found.words,
        since=None if found.since is None else when(found.since, zone, now),
        message_id=found.message_id or "",
        answer=found.answer or "",
        details=_details(command),
    )


def _about(config: Configuration, command: Command) -> tuple[str, str]:
    """Whom or what a request is about, and the page of it."""
    if command.scope_id is not None:
        return command.scope_id, f"/scopes/{command.scope_id}"
    group = config.group_by_id(command.group_id) if command.group_id is not None else None
    if group is not None:
        return f"{group.group_id} of {group.partner_id}", f"/scopes/{group.scope_id}"
    return command.partner_id, f"/partners/{command.partner_id}"


def _details(command: Command) -> str:
    """What was asked, without secrets."""
    plain = {name: without_secrets(value) for name, value in json.loads(command.payload).items() if name != "peer_token"}
    text = json.dumps(plain, indent=1, ensure_ascii=False) if plain else ""
    return text if len(text) <= LONGEST else text[:LONGEST] + "\u2026"
