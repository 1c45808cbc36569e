"""The simulated Capacity Provider's ear: who may speak, what is readable, and what is answered."""

import asyncio
import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urljoin

from pydantic import ValidationError

from gateway.simulator_config import SimulatorConfig, Switches
from gateway.simulator_ledger import Heard, Ledger, No
from schemas.facts import digest
from schemas.oscp.v20 import MODELS, PATHS, Action, Register, Wire

BASE_PATH = "/oscp/cp/2.0"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
ACTIONS = {path: Action(action) for action, path in PATHS.items()}
REGISTER_METHODS = ("POST", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: status, JSON body (None: empty), headers."""

    status: int
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """How the Flexibility Provider wants to be called: its base URL and the token it gave us."""

    base_url: str
    token: str = field(repr=False)


class Reception:
    """Answers every request; what it accepts goes to the ledger. Header names come in lower case.

    `token_b` is what it wants to hear. `registered` is set once the Flexibility Provider has sent its
    Register (then `peer` is known), `acknowledged` once it has acknowledged a handshake.
    """

    def __init__(self, config: SimulatorConfig, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        self.switches: Switches = config.switches.model_copy()
        self.token_b = secrets.token_urlsafe(32)
        self.peer: Peer | None = None
        self.registered = asyncio.Event()
        self.acknowledged = asyncio.Event()
        self.deregistered = False
        self.tokens_issued = 0
        self._bearers: dict[str, float] = {}
        self._accepted: dict[str, str] = {}

    def partner(self) -> Peer:
        """How to call the Flexibility Provider now; RuntimeError before it has registered."""
        if self.peer is None:
            raise RuntimeError("the Flexibility Provider has not registered")
        return self.peer

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer to a request below the base path. Does not block."""
        action = ACTIONS.get(path)
        if action is None or method not in (REGISTER_METHODS if action is Action.REGISTER else ("POST",)):
            self._ledger.problem(f"{method} {path} is nothing a Capacity Provider serves")
            return _error(404 if action is None else 405, "nothing is served here")
        refused = self._stranger(action, headers)
        if refused is not None:
            return refused
        request_id = headers.get("x-request-id", "")
        misbehaved = self._misbehave(action, request_id)
        if misbehaved is not None:
            return misbehaved
        if not request_id:
            return self._bad(action, "X-Request-ID is missing")
        message = None
        if body or method != "DELETE":
            found = self._readable(action, headers, body)
            if isinstance(found, Reply):
                return found
            message = found
        return self._accept(method, action, request_id, headers.get("x-correlation-id"), body, message)

    def _stranger(self, action: Action, headers: Mapping[str, str]) -> Reply | None:
        """The answer to whoever does not show the right headers and credentials, else None."""
        for name, value in self._config.required_headers.items():
            if headers.get(name.lower()) != value:
                self._ledger.problem(f"{action}: the header {name} is missing or wrong")
                return _error(403, f"the header {name} is missing or wrong")
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        if not credential:
            self._ledger.problem(f"{action}: no Authorization")
            return _error(401, "no Authorization", {"WWW-Authenticate": "Token"})
        if self._config.oauth is not None:
            ends = self._bearers.get(credential) if scheme == "Bearer" else None
            if ends is not None and ends < time.monotonic():
                return _error(401, "the access token has expired", {"WWW-Authenticate": 'Bearer error="invalid_token"'})
            known = ends is not None
        else:
            known = scheme == "Token" and hmac.compare_digest(credential.encode(), self.token_b.encode())
        if not known:
            self._ledger.problem(f"{action}: Authorization is not what we gave out")
            return _error(403, "invalid token")
        return None

    def _misbehave(self, action: Action, request_id: str) -> Reply | None:
        if not self.switches.concerns(action):
            return None
        if self.switches.fail_with_500:
            self.switches.fail_with_500 -= 1
            reply = _error(500, "told to fail")
        elif self.switches.too_many:
            self.switches.too_many -= 1
            reply = _error(429, "told to refuse", {"Retry-After": str(self.switches.retry_after_s)})
        else:
            return None
        if action is Action.HEARTBEAT:  # it is not sent again, the next one comes
            self._ledger.excuse()
        else:
            self._ledger.owed[request_id] = action
        return reply

    def _bad(self, action: Action, words: str, status: int = 400) -> Reply:
        self._ledger.problem(f"{action}: {words}")
        return _error(status, words)

    def _readable(self, action: Action, headers: Mapping[str, str], body: bytes) -> Wire | Reply:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return self._bad(action, "Content-Type is not application/json", 415)
        try:
            plain = json.loads(body)
            message = MODELS[action].model_validate(plain)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False))
            return self._bad(action, found)
        except ValueError:
            return self._bad(action, "the body is not JSON")
        if json.loads(message.wire()) != plain:
            self._ledger.problem(f"{action}: has properties OSCP 2.0 does not know, or times in another form than YYYY-MM-DDTHH:MM:SS.mmmZ")
        return message

    def _accept(self, method: str, action: Action, request_id: str, correlation_id: str | None, body: bytes, message: Wire | None) -> Reply:
        content = digest(body)
        known = self._accepted.get(request_id)
        if known == content:
            self._ledger.duplicates += 1
            return Reply(204)
        if known is not None:
            self._ledger.problem(f"{action}: X-Request-ID {request_id} came before with another body")
        if method == "DELETE":
            self.deregistered = True
        elif message is not None:
            no = self._ledger.take(Heard(action, message, request_id, correlation_id))
            if isinstance(no, No):
                return _error(no.status, no.words)
            if isinstance(message, Register):
                self.peer = Peer(urljoin(self._config.fp_base_url, message.version_url[0].base_url).rstrip("/"), message.token)
                self.registered.set()
            if action is Action.HANDSHAKE_ACKNOWLEDGE:
                self.acknowledged.set()
        self._accepted[request_id] = content
        self._ledger.owed.pop(request_id, None)
        return Reply(204)

    def token(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer of the token endpoint: OAuth 2.0 client credentials, by Basic or in the form (RFC 6749)."""
        oauth = self._config.oauth
        if oauth is None:
            return _error(404, "this Capacity Provider uses no OAuth")
        if any(headers.get(name.lower()) != value for name, value in self._config.required_headers.items()):
            self._ledger.problem("token request: a required header is missing or wrong")
            return _error(403, "a required header is missing or wrong")
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        client = _basic(headers.get("authorization", "")) or (form.get("client_id", ""), form.get("client_secret", ""))
        if client != (oauth.client_id, oauth.client_secret):
            self._ledger.problem("token request: the client is not known")
            return Reply(401, {"error": "invalid_client"}, {"WWW-Authenticate": "Basic", "Cache-Control": "no-store"})
        if form.get("grant_type") != "client_credentials":
            self._ledger.problem("token request: grant_type is not client_credentials")
            return Reply(400, {"error": "unsupported_grant_type"}, {"Cache-Control": "no-store"})
        token = secrets.token_urlsafe(32)
        self._bearers[token] = time.monotonic() + oauth.expires_in_s
        self.tokens_issued += 1
        return Reply(200, {"access_token": token, "token_type": "Bearer", "expires_in": oauth.expires_in_s}, {"Cache-Control": "no-store"})


def _error(status: int, words: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"message": words}, headers or {})


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return unquote(name), unquote(password)
