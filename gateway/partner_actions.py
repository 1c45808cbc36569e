"""What an operator can do about a partner from its page: which buttons make sense now, and what each means. Pure."""

from dataclasses import dataclass

from schemas.connection import CommandKind, ConnectionState

S = ConnectionState


@dataclass(frozen=True, slots=True)
class Action:
    """A button. `question` is what a person is asked first, empty where the action needs no second thought."""

    name: str
    label: str
    words: str
    kind: CommandKind
    done: str
    question: str = ""


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "token",
            "Issue a token",
            "a new token for the partner to register with",
            CommandKind.ISSUE_TOKEN,
            "",
            "A new registration token is made and shown once, on the next page. The partner registers with it; a token issued "
            "before it and not used yet is no longer accepted.",
        ),
        Action(
            "register",
            "Register",
            "begins the registration from our side",
            CommandKind.REGISTER,
            "The registration was asked for.",
        ),
        Action(
            "handshake",
            "Send a handshake",
            "asks the partner anew and says again what we ask",
            CommandKind.HANDSHAKE,
            "A handshake was asked for.",
        ),
        Action(
            "suspend",
            "Suspend",
            "stops sending; what the partner sends is still taken",
            CommandKind.SUSPEND,
            "Suspending was asked for.",
        ),
        Action(
            "resume",
            "Resume",
            "sends again, and tries at once what failed or is held back",
            CommandKind.RESUME,
            "Resuming was asked for.",
        ),
        Action(
            "deregister",
            "Deregister",
            "ends the connection and tells the partner",
            CommandKind.DEREGISTER,
            "The end of the connection was asked for.",
            "The partner is told, all tokens of both sides end, and its fallback forecasts hold. To connect again the partner needs a "
            "new token, or has to be registered with by us.",
        ),
    )
}

STATE_WORDS = {
    S.NEW: "Nothing has passed between us yet.",
    S.AWAITING_REGISTER: "A token was issued; the partner has to register with it.",
    S.REPLYING: "The partner has registered; our answer with its new token is on its way.",
    S.SENDING_REGISTER: "We are registering with the partner.",
    S.AWAITING_REGISTER_REPLY: "The partner took our registration; it has to answer with its own.",
    S.REGISTERED: "Both sides have each other's token; a handshake has to follow.",
    S.ACKING: "A handshake came; our acknowledgement is on its way.",
    S.ONLINE: "Connected: both sides have shaken hands.",
    S.OFFLINE: "The partner has been silent for too long; its fallback forecasts hold until it is back. What it is owed is kept.",
    S.SUSPENDED: "Nothing is sent until someone resumes; what the partner sends is still taken.",
    S.DEREGISTERED: "The connection was ended.",
    S.FAILED: "We have given up sending; what the partner sends is still taken.",
}

_BEFORE = frozenset({S.NEW, S.AWAITING_REGISTER, S.DEREGISTERED})


def sensible(state: ConnectionState, *, reachable: bool, held: bool) -> list[Action]:
    """The actions that make sense in a state, in the order of a connection's life.

    `reachable` says whether an address is known; `held`, whether something we owe is held back until it is mended.
    """
    names = ["token", "register"]
    if state not in _BEFORE and reachable:
        names.append("handshake")
    if held or state in (S.SUSPENDED, S.FAILED):
        names.append("resume")
    if state is not S.SUSPENDED and state not in _BEFORE:
        names.append("suspend")
    if state not in (S.NEW, S.DEREGISTERED):
        names.append("deregister")
    return [ACTIONS[name] for name in names]


def advised(state: ConnectionState, *, refused: bool, held: bool, we_register: bool) -> str:
    """The action to be made prominent; empty where none is.

    A partner that answers 401 or 403 (`refused`) has to be registered with anew by whoever began: by us only where that needs no
    token it has forgotten (`we_register`). What is held back for another reason, or failed, is tried again once that is corrected.
    """
    if refused:
        return "register" if we_register else "token"
    if held:
        return "resume"
    return {S.NEW: "token", S.FAILED: "resume", S.DEREGISTERED: "token", S.SUSPENDED: "resume"}.get(state, "")
