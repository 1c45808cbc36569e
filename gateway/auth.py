"""Who may use the operations side: operators, their roles and tokens, and what they may do (contract 5).

Tokens are random, shown once and kept as SHA-256 digests only. The operators file is read again whenever it
changes, and every request looks its operator up in it: taking someone out ends tokens and sessions at once.
"""

import fcntl
import hmac
import json
import logging
import os
import secrets as random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.instance_files import write_private
from schemas.facts import digest
from schemas.topology import Identifier
from sinks.errors import Misconfigured

log = logging.getLogger(__name__)

SETTING = "DERMS_OPERATORS_FILE"


class Role(StrEnum):
    """What someone is to the system."""

    VIEWER = "viewer"
    PRODUCER = "producer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Right(StrEnum):
    """What a request needs."""

    READ = "read"
    TELEMETRY = "telemetry"
    ACT = "act"
    CONFIGURE = "configure"


RIGHTS: dict[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.PRODUCER: frozenset({Right.TELEMETRY}),
    Role.OPERATOR: frozenset({Right.READ, Right.ACT}),
    Role.ADMIN: frozenset(Right),
}


class Operator(BaseModel):
    """One entry of the operators file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier
    role: Role
    token_sha256: str

    def may(self, right: Right) -> bool:
        """Whether the role has the right."""
        return right in RIGHTS[self.role]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    operators: tuple[Operator, ...] = ()


def read_operators(path: Path) -> tuple[Operator, ...]:
    """The operators of a JSON or YAML file; none if there is no file. Raises Misconfigured if it cannot be understood."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _File.model_validate({} if plain is None else plain).operators
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Misconfigured(SETTING, f"{path} cannot be read ({type(error).__name__})", "make it with: derms operator add") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Misconfigured(SETTING, f"{path}, {where}: {first['msg']}", "make it with: derms operator add") from None


def add_operator(path: Path, name: str, role: Role | str) -> str:
    """Enter `name` with `role` and return a new token, which is kept nowhere. A name that is there gets the new role and token.

    Blocks for a lock beside the file. Raises Misconfigured for a bad name, role or file.
    """
    token = random.token_urlsafe(32)
    try:
        entry = Operator(name=name, role=Role(role), token_sha256=digest(token))
    except ValueError:
        roles = ", ".join(Role)
        raise Misconfigured("operator", f"{name!r} as {role!r} is not possible", f"a name without spaces, a role of {roles}") from None
    with _locked(path):
        _write(path, (*(other for other in read_operators(path) if other.name != name), entry))
    return token


def remove_operator(path: Path, name: str) -> bool:
    """Take `name` out; False if it was not there. Its tokens and sessions are dead at once."""
    with _locked(path):
        known = read_operators(path)
        kept = tuple(other for other in known if other.name != name)
        if len(kept) == len(known):
            return False
        _write(path, kept)
    return True


def _write(path: Path, operators: tuple[Operator, ...]) -> None:
    write_private(path, json.dumps(_File(operators=operators).model_dump(mode="json"), indent=2))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class Operators:
    """The operators file, read again when it has changed. A file that cannot be understood lets nobody in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._known: tuple[Operator, ...] = ()

    def _current(self) -> tuple[Operator, ...]:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            seen = None
        if seen is None or seen != self._seen:
            self._seen = seen
            try:
                self._known = read_operators(self._path)
            except Misconfigured as error:
                self._known = ()
                log.error("nobody can sign in: %s", error)
        return self._known

    def by_token(self, token: str) -> Operator | None:
        """Whose token this is. Looks at every entry, so that time says nothing."""
        presented, found = digest(token), None
        for operator in self._current():
            if hmac.compare_digest(operator.token_sha256, presented):
                found = operator
        return found

    def still(self, name: str, token_sha256: str) -> Operator | None:
        """The operator as it is now, if it still has the token that was used to sign in."""
        for operator in self._current():
            if operator.name == name and hmac.compare_digest(operator.token_sha256, token_sha256):
                return operator
        return None
