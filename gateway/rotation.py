"""A new installation secret in place of the old one (semantics 6.2), in two steps, so that nothing made with either is lost.

First the new secret is written and the old one put beside it; processes that start then make everything with the new one and
still understand the old one, and the lifecycle encrypts anew what it keeps. When no connection is left under the old
one, it is removed: what old messages on Kafka still hold of partners' tokens can be read by nobody any more.
"""

import base64
import secrets as random
from collections.abc import Mapping
from pathlib import Path

from gateway.instance_files import write_private
from schemas.connection import Connection
from sinks.errors import Misconfigured
from sinks.secrets import KEY_BYTES, Secrets, key_id_of

PREVIOUS = ".previous"
FINISH = "derms secret rotate --finish"


def previous_of(secret_file: Path) -> Path:
    """Where the secret before the one in `secret_file` is, while a rotation is under way."""
    return secret_file.with_name(secret_file.name + PREVIOUS)


def begin(secret_file: Path) -> Secrets:
    """Write a new secret into `secret_file`, and the old one beside it. Raises Misconfigured where a rotation is under way already,
    or there is no secret to replace."""
    aside = previous_of(secret_file)
    if aside.exists():
        raise Misconfigured(str(aside), "is there: the last rotation is not finished", FINISH)
    try:
        old = secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(str(secret_file), "cannot be read", "name the file that has the installation secret") from None
    Secrets.from_base64(old)  # what is no secret is not put aside as one
    fresh = base64.b64encode(random.token_bytes(KEY_BYTES)).decode()
    write_private(aside, old)  # first: at no instant is the old one nowhere
    write_private(secret_file, fresh)
    return Secrets.from_base64(fresh, old)


def under_another(connections: Mapping[str, Connection], key_id: str) -> list[str]:
    """The partners whose token is not kept under the secret named."""
    return sorted(
        partner_id
        for partner_id, connection in connections.items()
        if connection.peer_token is not None and key_id_of(connection.peer_token) != key_id
    )


def finish(secret_file: Path, connections: Mapping[str, Connection]) -> None:
    """Remove the old secret. Raises Misconfigured, with the partners' ids, while it is still needed."""
    secrets = Secrets.from_base64(secret_file.read_text(encoding="utf-8"))
    left = under_another(connections, secrets.key_id)
    if left:
        words = f"{len(left)} partners' tokens are still kept under it: {', '.join(left[:10])}"
        raise Misconfigured(str(previous_of(secret_file)), words, f"restart the lifecycle flow with both secrets, then: {FINISH}")
    previous_of(secret_file).unlink(missing_ok=True)
