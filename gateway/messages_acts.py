"""What an operator can do about one message: have it sent again, or give it up (semantics 8.3). Dispatch does it."""

import json

from gateway.api_body import Problem
from gateway.desk import Desk
from gateway.guard import Caller
from gateway.messages_model import LONGEST_ID, is_final
from gateway.messages_reading import read_message
from gateway.orders import CommandView, order
from schemas.connection import CommandKind
from sinks.errors import Unavailable


async def asked_about(desk: Desk, caller: Caller, kind: CommandKind, message_id: str, partner_id: str = "") -> CommandView:
    """Ask dispatch for it. `partner_id` lets pass a message that neither the picture nor the history knows, or none of them just now.

    Raises Problem 404 for an unknown message (or one of another partner than named), 409 for one that is over; Unavailable where the
    broker does not take it, and where only the history could say whose message it is, and does not answer.
    """
    try:
        found = await read_message(desk, message_id)
    except Unavailable as error:
        if not partner_id:
            raise Unavailable(f"{error.words} Name the message's partner to ask for it all the same", error.retry_after_s) from error
        found = None
    if found is None and len(message_id) > LONGEST_ID:
        raise Problem(404, "Unknown message", f"no message has an id of {len(message_id)} characters")
    if found is None and not partner_id:
        raise Problem(
            404, "Unknown message", f"{message_id!r} is no message that is known here; naming its partner lets dispatch look for it"
        )
    if found is not None:
        whose = found.line.about.partner_id
        if partner_id not in ("", whose):
            raise Problem(404, "Unknown message", f"{message_id!r} is no message to {partner_id!r}")
        if is_final(found.line) and found.line.delivery is not None:
            outcome = found.line.delivery.outcome.value.lower()
            raise Problem(409, "Message is over", f"{message_id!r} is {outcome} already: nothing more becomes of it")
        partner_id = whose
    return await order(desk, caller, partner_id, kind, payload=json.dumps({"message_id": message_id}))
