"""A new installation secret in place of the old one (semantics 6.2), in two steps, so that nothing made with either is lost.

First the new secret is written and the old one put beside it; processes that start then make everything with the new one and
still understand the old one, and the lifecycle encrypts anew what it keeps. When no connection is left under the old
one, it is removed: what old messages on Kafka still hold of partners' tokens can be read by nobody any more.
"""

import base64
import os
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
    try:
        old = secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(str(secret_file), "cannot be read", "name the file that has the installation secret") from None
    Secrets.from_base64(old)  # what is no secret is not put aside as one
    try:
        # Of two who begin at once one is refused; and at no instant is the old secret nowhere.
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(old)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise Misconfigured(str(aside), "is there: the last rotation is not finished", FINISH) from None
    fresh = base64.b64encode(random.token_bytes(KEY_BYTES)).decode()
    write_private(secret_file, fresh)
    return Secrets.from_base64(fresh, old)


def demand_used(secret_file: Path, in_use: Mapping[str, str]) -> None:
    """Refuse to change a secret that those who run do not use. Raises Misconfigured, naming them; `in_use` are key ids by process."""
    key_id = key_of(secret_file)
    others = sorted(process for process, used in in_use.items() if used != key_id)
    if others:
        problem = f"is not the secret that {', '.join(others)} works with"
        raise Misconfigured(str(secret_file), problem, "name that one's file, or restart what runs with an old one")


def key_of(secret_file: Path) -> str:
    """The key id of the secret in a file. Raises Misconfigured where there is none."""
    try:
        return Secrets.from_base64(secret_file.read_text(encoding="utf-8")).key_id
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(str(secret_file), "cannot be read", "name the file that has the installation secret") from None


def under_another(connections: Mapping[str, Connection], key_id: str) -> list[str]:
    """The partners whose token is not kept under the secret named."""
    return sorted(
        partner_id
        for partner_id, connection in connections.items()
        if connection.peer_token is not None and key_id_of(connection.peer_token) != key_id
    )


def still_needed(connections: Mapping[str, Connection], in_use: Mapping[str, str], key_id: str) -> str | None:
    """Why the secret before the one named cannot go yet, in words; None when nothing needs it."""
    processes = sorted(process for process, used in in_use.items() if used != key_id)
    if processes:
        return f"{', '.join(processes[:10])} still works with it"
    left = under_another(connections, key_id)
    return f"{len(left)} partners' tokens are still kept under it: {', '.join(left[:10])}" if left else None


def finish(secret_file: Path, connections: Mapping[str, Connection], in_use: Mapping[str, str]) -> None:
    """Remove the old secret. Raises Misconfigured, saying what needs it, while something does."""
    if (why := still_needed(connections, in_use, key_of(secret_file))) is not None:
        cure = f"restart the flows and gateways with both secrets, then: {FINISH}"
        raise Misconfigured(str(previous_of(secret_file)), why, cure)
    previous_of(secret_file).unlink(missing_ok=True)
