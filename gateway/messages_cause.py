"""What made a message owed, in words, as far as the live picture shows it. Pure."""

from gateway.picture import MessageLine, Picture
from schemas.oscp.v20 import Action

_WORDS = {
    Action.UPDATE_ASSET_MEASUREMENTS: "a closed or revised quarter hour of its group",
    Action.UPDATE_GROUP_MEASUREMENTS: "a closed or revised quarter hour of its group",
    Action.HEARTBEAT: "the interval the partner asked for in its handshake",
    Action.HANDSHAKE_ACKNOWLEDGE: "the partner's handshake",
}


def cause_of(line: MessageLine, picture: Picture) -> str:
    """What it follows from; empty where that is not known."""
    message = line.message
    if message is None:
        return ""
    command = next((each for each in picture.commands if each.event_id == message.cause_id), None)
    if command is not None:
        return f"asked for by {command.by}"
    if message.action == Action.GROUP_CAPACITY_COMPLIANCE_ERROR:
        return f"a quarter hour outside the limit of forecast {message.correlation_id}"
    if message.correlation_id is not None:
        return f"the partner's message {message.correlation_id}"
    return _WORDS.get(Action(message.action), "") if message.action in list(Action) else ""
