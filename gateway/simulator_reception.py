"""The simulated Capacity Provider's ear: what is readable, what is answered, what it misbehaves at."""

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from pydantic import ValidationError

from gateway.simulator_config import SimulatorConfig
from gateway.simulator_credentials import Credentials
from gateway.simulator_ledger import Heard, Ledger, No
from gateway.simulator_reply import Reply, error, misbehaving
from gateway.simulator_segments import Assembly, Whole
from gateway.simulator_switches import Behaviour
from schemas.facts import digest
from schemas.oscp.v20 import MODELS, PATHS, Action, Register, Wire
from schemas.oscp.wire import NAIVE_FORMAT
from schemas.units import rfc3339

BASE_PATH = "/oscp/cp/2.0"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
REGISTER_METHODS = ("POST", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Peer:
    """How the Flexibility Provider wants to be called: its base URL and the token it gave us."""

    base_url: str
    token: str = field(repr=False)


class Reception:
    """Answers every request; what it accepts goes to the ledger. Header names come in lower case.

    `registered` is set once the Flexibility Provider and we have exchanged tokens (`peer` is known), `acknowledged` once it has
    acknowledged a handshake.
    """

    def __init__(self, config: SimulatorConfig, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        self.credentials = Credentials(config, ledger)
        self.switches = config.switches.model_copy(deep=True)
        self.peer: Peer | None = None
        self.registered = asyncio.Event()
        self.acknowledged = asyncio.Event()
        self.deregistered = False
        self._actions = {config.paths.get(action, PATHS[action]): action for action in Action}
        self._accepted: dict[str, str] = {}
        self._assembly = Assembly(ledger)

    def partner(self) -> Peer:
        """How to call the Flexibility Provider now; RuntimeError before it has registered."""
        if self.peer is None:
            raise RuntimeError("the Flexibility Provider has not registered")
        return self.peer

    def forget(self) -> None:
        """Lose every token and address, theirs and ours, as peers do that keep none through a restart. The ledger stays."""
        self.credentials.forget()
        self.peer = None
        self.registered.clear()
        self.acknowledged.clear()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer to a request below the base path. Does not block."""
        action = self._actions.get(path)
        if action is None or method not in (REGISTER_METHODS if action is Action.REGISTER else ("POST",)):
            self._ledger.problem(f"{method} {path} is nothing a Capacity Provider serves")
            return error(404 if action is None else 405, "nothing is served here")
        request_id = headers.get("x-request-id", "")
        refused = self.credentials.refusal(action, headers, bare=not self.switches.scheme)
        if refused is not None:
            if refused.excused:
                self._owe(action, request_id, comes_again=True)
            return refused
        manner = self.switches.misanswer(action)
        if manner is not None and not manner.takes:
            self._owe(action, request_id, comes_again=manner.comes_again)
            if not manner.comes_again:
                self._assembly.give_up(request_id, headers.get("x-correlation-id"))
            return misbehaving(manner)
        reply = self._heard(method, action, request_id, headers, body)
        if manner is None or reply.status != 204:
            return reply
        if manner.comes_again:
            self._owe(action, request_id, comes_again=True)
        status = manner.status if manner.kind == "STATUS" else reply.status
        return dataclasses.replace(reply, status=status, manner=manner)

    def _owe(self, action: Action, request_id: str, *, comes_again: bool) -> None:
        """We misbehaved at a message: it has to come again, or is given up. Of heartbeats the next one comes."""
        if action is Action.HEARTBEAT:
            self._ledger.excuse()
        elif comes_again:
            self._ledger.owed[request_id] = action
        else:
            self._ledger.refused[request_id] = action

    def _bad(self, action: Action, words: str, status: int = 400) -> Reply:
        self._ledger.problem(f"{action}: {words}")
        return error(status, words)

    def _heard(self, method: str, action: Action, request_id: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if not request_id:
            return self._bad(action, "X-Request-ID is missing")
        if self.switches.max_body is not None and len(body) > self.switches.max_body:
            return self._bad(action, f"the body has {len(body)} bytes, more than {self.switches.max_body}", 413)
        correlation_id = headers.get("x-correlation-id")
        if not body and method == "DELETE":
            return self._accept(method, action, request_id, correlation_id, body, None)
        message = self._readable(action, headers, body)
        if isinstance(message, Reply):
            return message
        match self._assembly.take(action, method, request_id, headers, body):
            case Reply() as reply:
                return reply
            case Whole() as whole:
                message = MODELS[action].model_validate_json(whole.body)
                return self._accept(method, action, whole.request_id, whole.correlation_id, whole.body, message)
            case None:
                return self._accept(method, action, request_id, correlation_id, body, message)

    def _readable(self, action: Action, headers: Mapping[str, str], body: bytes) -> Wire | Reply:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return self._bad(action, "Content-Type is not application/json", 415)
        try:
            plain = json.loads(body)
            if action is Action.HEARTBEAT and self.switches.naive_times:
                plain = _zoned(plain)
            message = MODELS[action].model_validate(plain)
        except ValidationError as problem:
            found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problem.errors(include_input=False))
            return self._bad(action, found)
        except ValueError:
            return self._bad(action, "the body is not JSON")
        flat = action is Action.HANDSHAKE_ACKNOWLEDGE and self.switches.handshake is Behaviour.FLAT
        if not flat and json.loads(message.wire()) != plain:
            self._ledger.problem(f"{action}: has properties OSCP 2.0 does not know, or times in another form than YYYY-MM-DDTHH:MM:SS.mmmZ")
        return message

    def _accept(self, method: str, action: Action, request_id: str, correlation_id: str | None, body: bytes, message: Wire | None) -> Reply:
        content = digest(body)
        known = self._accepted.get(request_id)
        if known == content:
            self._ledger.duplicates += 1
            self._ledger.owed.pop(request_id, None)
            return Reply(204)
        if known is not None:
            self._ledger.problem(f"{action}: X-Request-ID {request_id} came before with another body")
        heard = None if message is None else Heard(action, message, request_id, correlation_id)
        if method == "DELETE":
            self.deregistered = True
        elif heard is not None:
            if action is Action.HANDSHAKE and self.switches.takes_handshakes:
                self._ledger.heard[action] += 1
            elif isinstance(no := self._ledger.take(heard), No):
                return error(no.status, no.words)
            self._ledger.once(action, request_id, correlation_id, content)
            if isinstance(heard.message, Register):
                register = heard.message
                self.peer = Peer(urljoin(self._config.fp_base_url, register.version_url[0].base_url).rstrip("/"), register.token)
            if action is Action.HANDSHAKE_ACKNOWLEDGE:
                self.acknowledged.set()
        self._accepted[request_id] = content
        self._ledger.owed.pop(request_id, None)
        return Reply(204, heard=None if method == "DELETE" else heard)


def _zoned(heartbeat: Any) -> Any:
    """A heartbeat in local time without a zone, as we want it then, with its zone. ValueError where it has another form."""
    if not isinstance(heartbeat, dict):
        return heartbeat
    local = datetime.strptime(str(heartbeat.get("offline_mode_at")), NAIVE_FORMAT).astimezone()
    return {**heartbeat, "offline_mode_at": rfc3339(local)}
