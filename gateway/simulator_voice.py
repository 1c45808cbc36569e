"""The simulated Capacity Provider's mouth: sends messages, in its manners, and keeps what became of them."""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.simulator_ledger import Ledger
from gateway.simulator_reception import Peer
from gateway.simulator_switches import Switches
from schemas.oscp.v20 import PATHS, Action
from sinks.errors import Refused, Unavailable
from sinks.http import HttpClient

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message of ours: a JSON object, or bytes as they are. `expected` is the status a good answer has."""

    action: Action
    body: Mapping[str, Any] | bytes
    request_id: str
    correlation_id: str | None = None
    method: str = "POST"
    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    expected: int = 204

    def content(self, *, unknown: bool, another: bool) -> bytes:
        """The bytes to send; `unknown` adds a property nobody knows, `another` makes it another body than the usual one."""
        if isinstance(self.body, bytes):
            return self.body
        more: dict[str, Any] = {"x_vendor": {"region": ["north", 7]}} if unknown else {}
        if another:
            more["x_again"] = True
        return json.dumps({**self.body, **more}).encode()


class Voice:
    """Sends to the Flexibility Provider; counts the answers by `<Action> <status>` in the ledger's `said`. `newest` is where and with
    which token it wants to be spoken to by now."""

    def __init__(self, ledger: Ledger, switches: Callable[[], Switches], newest: Callable[[], Peer | None] = lambda: None) -> None:
        self._ledger, self._switches, self._newest = ledger, switches, newest
        self._client = HttpClient(allow_private=True)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def tell(self, message: Message, to: Peer) -> None:
        """Send until it is answered, always with this request id: connection trouble, 5xx and 429 are tried again.

        Any other answer than the expected one is a problem, and the message is given up. Waits as long as that takes. One that was
        taken is repeated as the switches say, and must be taken again. One that was on its way when it told us another token goes again
        with that; a registration does not: it has happened.
        """
        pause = FIRST_PAUSE_S
        while True:
            status, retry_after_s = await self._send(message, to)
            newest = self._overtaken(status, to)
            if newest is not None and message.action is not Action.REGISTER:
                to = newest
            elif status is not None and not _again(status):
                break
            await asyncio.sleep(max(pause, retry_after_s))
            pause = min(2 * pause, LONGEST_PAUSE_S)
        manners = self._switches()
        if status == 204 and manners.request_ids:
            if manners.repeat and manners.other_body:
                self._ledger.reused.setdefault(message.request_id, "")
            for _ in range(manners.repeat):
                await self._send(message, to, another=manners.other_body)

    def _overtaken(self, status: int | None, used: Peer) -> Peer | None:
        """Where a refusal was for the token alone, and we were told another meanwhile: whom to speak to."""
        newest = self._newest()
        return newest if status in (401, 403) and newest is not None and newest.token != used.token else None

    async def say(self, message: Message, to: Peer) -> None:
        """Send once, whatever becomes of it."""
        await self._send(message, to)

    async def _send(self, message: Message, to: Peer, *, another: bool = False) -> tuple[int | None, float]:
        """The answer's status (None: nobody answered) and its Retry-After in wall seconds."""
        manners, action = self._switches(), message.action
        content = message.content(unknown=manners.unknown_properties, another=another)
        headers = {"Authorization": f"{manners.scheme} {to.token}".strip(), "Content-Type": "application/json"}
        if manners.request_ids:
            headers["X-Request-ID"] = message.request_id
        else:
            self._ledger.unnamed.add(action)
        if message.correlation_id is not None and manners.correlation_ids:
            headers["X-Correlation-ID"] = message.correlation_id
        url = to.base_url + (message.path or PATHS[action])
        try:
            answer = await self._client.request(
                message.method, url, headers={**headers, **message.headers}, content=content, timeout_s=TIMEOUT_S
            )
        except Unavailable as trouble:
            log.info("%s: %s", action, trouble.words)
            self._ledger.said[f"{action} unavailable"] += 1
            return None, 0.0
        except Refused as refusal:
            self._ledger.problem(f"our {action}: {refusal.words}")
            return refusal.status, 0.0
        self._ledger.said[f"{action} {answer.status}"] += 1
        if answer.status != message.expected and not _again(answer.status) and self._overtaken(answer.status, to) is None:
            self._ledger.problem(f"our {action} was answered {answer.status}: {_words(answer.body)}")
        elif answer.status == 204 and answer.body:
            self._ledger.problem(f"our {action} was answered 204 with a body")
        retry_after = answer.headers.get("retry-after", "")
        return answer.status, float(retry_after) if retry_after.isdigit() else 0.0


def new_id() -> str:
    """A fresh X-Request-ID."""
    return str(uuid.uuid4())


def _again(status: int) -> bool:
    return status >= 500 or status == 429


def _words(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:300]
    except (ValueError, LookupError, TypeError):
        return "an error body without message"
