"""How a person stays signed in: sessions as encrypted cookies, and one-time links (contract 5).

Both end on the machine's own clock, not on the scaled one, and both look their operator up at each use.
"""

import json
import secrets as random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from gateway.auth import Operator, Operators
from schemas.clock import Clock
from schemas.facts import digest

SESSION_LASTS = timedelta(hours=12)
LINK_LASTS = timedelta(hours=1)
MAX_LINKS = 100
_CONTEXT = "operations session"
"""What sessions are encrypted for; no partner id has a space, so no partner's secret can be passed off as a session."""


class Sealer(Protocol):
    """The part of `sinks.secrets.Secrets` that sessions need."""

    @property
    def key_id(self) -> str:
        """Which secret this is."""

    def encrypt(self, text: str, context: str) -> str:
        """Text nobody without the secret can read or make."""

    def decrypt(self, text: str, context: str) -> str:
        """The text again; raises ValueError for anything else."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person signed in: `csrf` has to come with every form or request that changes something."""

    operator: Operator
    csrf: str


class Sessions:
    """Sessions as encrypted cookies: the server keeps none."""

    def __init__(self, secrets: Sealer, operators: Operators, wall: Clock) -> None:
        self._secrets, self._operators, self._wall = secrets, operators, wall
        # Cookies know no ports: instances side by side on one host must not overwrite each other's.
        self.cookie_name = "derms-" + digest(secrets.key_id)[:8]

    def open(self, operator: Operator) -> str:
        """The cookie of a new session."""
        ends = (self._wall.now() + SESSION_LASTS).timestamp()
        plain = {"name": operator.name, "token": operator.token_sha256, "csrf": random.token_urlsafe(24), "ends": ends}
        return self._secrets.encrypt(json.dumps(plain), _CONTEXT)

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None if it is not ours, is over, or its operator is no more."""
        try:
            plain = json.loads(self._secrets.decrypt(cookie, _CONTEXT))
            if plain["ends"] <= self._wall.now().timestamp():
                return None
            operator = self._operators.still(plain["name"], plain["token"])
            return None if operator is None else Session(operator, plain["csrf"])
        except (ValueError, KeyError, TypeError):
            return None


class SignInLinks:
    """One-time codes that open a session for an operator: good once, for `LINK_LASTS`, forgotten with the process."""

    def __init__(self, operators: Operators, wall: Clock) -> None:
        self._operators, self._wall = operators, wall
        self._codes: dict[str, tuple[Operator, datetime]] = {}

    def issue(self, operator: Operator) -> str:
        """A new code for `operator`."""
        code = random.token_urlsafe(24)
        if len(self._codes) >= MAX_LINKS:
            del self._codes[next(iter(self._codes))]
        self._codes[digest(code)] = (operator, self._wall.now() + LINK_LASTS)
        return code

    def redeem(self, code: str) -> Operator | None:
        """The operator the code was for, once; None afterwards, or if it is too old or the operator is no more."""
        found = self._codes.pop(digest(code), None)
        if found is None or found[1] <= self._wall.now():
            return None
        return self._operators.still(found[0].name, found[0].token_sha256)
