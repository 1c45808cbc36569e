"""The simulated Capacity Provider's mouth: sends messages and keeps what became of them."""

import asyncio
import json
import logging
import uuid

from gateway.simulator_ledger import Ledger
from gateway.simulator_reception import Peer
from schemas.oscp.v20 import PATHS, Action, Wire
from sinks.errors import Refused, Unavailable
from sinks.http import HttpClient

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
TIMEOUT_S = 10.0


class Voice:
    """Sends to the Flexibility Provider; counts the answers by `<Action> <status>` in the ledger's `said`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._client = HttpClient(allow_private=True)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def tell(self, action: Action, message: Wire, to: Peer, request_id: str) -> None:
        """Send until it is answered, always with this request id: connection trouble, 5xx and 429 are tried again.

        Any other answer than 204 is a problem, and the message is given up. Waits as long as that takes.
        """
        pause = FIRST_PAUSE_S
        while True:
            status, retry_after_s = await self._send(action, message, to, request_id)
            if status is not None and not _again(status):
                return
            await asyncio.sleep(max(pause, retry_after_s))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def say(self, action: Action, message: Wire, to: Peer) -> None:
        """Send once, under an id of its own, whatever becomes of it."""
        await self._send(action, message, to, new_id())

    async def _send(self, action: Action, message: Wire, to: Peer, request_id: str) -> tuple[int | None, float]:
        """The answer's status (None: nobody answered) and its Retry-After in wall seconds."""
        headers = {"Authorization": f"Token {to.token}", "Content-Type": "application/json", "X-Request-ID": request_id}
        try:
            answer = await self._client.request(
                "POST", to.base_url + PATHS[action], headers=headers, content=message.wire().encode(), timeout_s=TIMEOUT_S
            )
        except Unavailable as trouble:
            log.info("%s: %s", action, trouble.words)
            self._ledger.said[f"{action} unavailable"] += 1
            return None, 0.0
        except Refused as refusal:
            self._ledger.problem(f"our {action}: {refusal.words}")
            return refusal.status, 0.0
        self._ledger.said[f"{action} {answer.status}"] += 1
        if answer.status != 204 and not _again(answer.status):
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
