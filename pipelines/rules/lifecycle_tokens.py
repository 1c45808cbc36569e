"""Which of our tokens a partner may present (semantics 6.2, 6.3). Digests only; pure functions over lists in order of issue.

A token stays valid until a later one is known to have arrived: the partner used it, or answered 2xx to the
Register that carried it. So a partner always has one that works, whatever was lost on the way.
"""

from schemas.connection import Credential

REGISTRATION, CURRENT, PREVIOUS = "A", "CURRENT", "PREVIOUS"
MOST_UNPROVEN = 16
"""Never more than so many tokens beside the one in use; a partner that registers again and again drops the oldest unused."""


def with_registration_token(credentials: list[Credential], digest: str, cause: str) -> list[Credential]:
    """A new token A, given out by hand. An unused earlier A is void; tokens in use stay."""
    kept = [credential for credential in credentials if credential.role != REGISTRATION]
    return [*kept, Credential(digest=digest, cause=cause, role=REGISTRATION)]


def with_exchange_token(credentials: list[Credential], digest: str, cause: str) -> list[Credential]:
    """A new token C, about to be sent in a Register. All others stay valid until it is `proven`."""
    earlier = [c.model_copy(update={"role": PREVIOUS}) if c.role == CURRENT else c for c in credentials if c.cause != cause]
    while len(earlier) > MOST_UNPROVEN:
        # The first is the one in use, and A may be all the partner has: neither is dropped.
        del earlier[next(index for index in range(1, len(earlier)) if earlier[index].role != REGISTRATION)]
    return [*earlier, Credential(digest=digest, cause=cause, role=CURRENT)]


def proven(credentials: list[Credential], cause: str) -> list[Credential]:
    """The tokens after the one made from `cause` is known to have arrived: all issued before it are void.

    A registration token proves nothing by being used: the exchange it starts may fail, so it voids nothing.
    """
    for index, credential in enumerate(credentials):
        if credential.cause == cause and credential.role != REGISTRATION:
            return credentials[index:]
    return credentials


def presented(credentials: list[Credential], digest: str) -> Credential | None:
    """The credential a message came with, or None if it is not valid any more."""
    return next((credential for credential in credentials if credential.digest == digest), None)
