"""A new installation secret: what a connection keeps under the previous one is encrypted anew (semantics 6.2)."""

from pipelines.rules.lifecycle_state import Owed, PartnerState
from pipelines.rules.lifecycle_turn import Turn
from schemas.connection import Severity


def stale(state: PartnerState, key_id: str) -> bool:
    """Whether a ciphertext of the state (version, secret's id and rest, with dots between) was made by another secret than the one
    named, and that was not found beyond help before."""
    if not key_id or not state.touched or state.unrenewed == key_id:
        return False
    former = state.notes.former_peer
    kept = (state.peer_token, former[1] if former else None)
    return any(text.split(".")[1:2] != [key_id] for text in kept if text is not None)


def renew(turn: Turn) -> None:
    """Encrypt the partner's tokens anew. A Register of ours that is still on its way may carry a token of either secret."""
    state, notes, around = turn.state, turn.notes, turn.around
    if not stale(state, around.key_id):
        return
    try:
        if notes.former_peer is not None and notes.former_peer[1] is not None:
            notes.former_peer = (notes.former_peer[0], around.renewed(notes.former_peer[1], state.partner_id))
        if state.peer_token is not None:
            state.peer_token = around.renewed(state.peer_token, state.partner_id)
    except ValueError as unreadable:
        state.unrenewed = around.key_id
        turn.say("secret.missing", f"the token of {turn.name} cannot be read: {unreadable}", Severity.ALARM)
        return
    for owed in (notes.answer, notes.opening):
        if owed is not None:
            _also(turn, owed)
    turn.say("secret.renewed", f"the token of {turn.name} is kept under the new installation secret")


def _also(turn: Turn, owed: Owed) -> None:
    """The token in `owed` counts as made by the new secret, too."""
    state = turn.state
    digest = turn.around.token_digest(state.partner_id, owed.about)
    for index, credential in enumerate(state.credentials):
        if credential.cause == owed.about and all(known.digest != digest for known in state.credentials):
            state.credentials.insert(index + 1, credential.model_copy(update={"digest": digest}))
            return
