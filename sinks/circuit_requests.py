"""One request to the legacy platform, and what its answer means (semantics 4)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote

from sinks.circuit_queue import Outcome, Sent
from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.http import Answer, HttpClient, tls_context
from sinks.lease import Lease
from sinks.oscp.answers import Unsaid, retry_after_of, words_of
from sinks.settings import CircuitsSettings

IN_FLIGHT = 8
"""How many writes travel at once over all circuits."""
_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_DOTS = {".": "%2E", "..": "%2E%2E"}
_DOUBTFUL = "cut off: it was not certain any more that this circuit writer is the only one"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one attempt. `words` are for people and hold no secrets; `retry_after_s` is wall time, as the platform asked."""

    outcome: Outcome
    status: int | None = None
    words: str = ""
    retry_after_s: float | None = None
    duration_ms: int = 0


class Platform(Protocol):
    """Where changes go; `LegacyPlatform` is the real one."""

    async def write(self, sent: Sent) -> Judgement:
        """Make one attempt; does not raise for what happens outside."""

    async def aclose(self) -> None:
        """End all connections."""


MakePlatform = Callable[[], Platform]
"""Makes the platform's client within the event loop that uses it."""


def checked(settings: CircuitsSettings) -> MakePlatform:
    """What makes the platform of the settings. Raises Misconfigured where the CA file cannot be used. Reads it."""
    try:
        tls_context(str(settings.ca_file) if settings.ca_file else None, None, None)
    except Misconfigured as error:
        raise Misconfigured("DERMS_CIRCUITS__CA_FILE", error.problem, error.cure) from None
    return partial(LegacyPlatform, settings)


class LegacyPlatform:
    """The legacy platform at `settings.url`. Use within one event loop."""

    def __init__(self, settings: CircuitsSettings) -> None:
        self._url = (settings.url or "").rstrip("/")
        token = settings.token.get_secret_value() if settings.token else ""
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._unsaid = Unsaid(secrets=(token,) if token else ())
        # The address is the operators' own word, so it may be on this machine or in the house.
        self._client = HttpClient(
            ca_file=str(settings.ca_file) if settings.ca_file else None, allow_private=True, max_connections=IN_FLIGHT
        )

    async def write(self, sent: Sent) -> Judgement:
        """As `Platform.write`: PATCH {url}/circuits/{id}, redirects not followed. The head of a 2xx will do, whatever comes of its body."""
        headers = self._headers | {"Idempotency-Key": sent.key}
        url = f"{self._url}/circuits/{segment(sent.lane.circuit_id)}"
        try:
            answer = await self._client.request(
                "PATCH", url, headers=headers, content=sent.write.body, timeout_s=sent.within_s, head_will_do=True
            )
        except Unavailable as problem:
            return Judgement(Outcome.RETRY, None, problem.words)
        except Refused as problem:
            return Judgement(Outcome.REFUSED, None, problem.words)
        return judged(answer, unsaid=self._unsaid, now=datetime.now(UTC))

    async def aclose(self) -> None:
        """As `Platform.aclose`."""
        await self._client.aclose()


def segment(circuit_id: str) -> str:
    """A circuit's id as one segment of a path; also one that would mean this or the parent directory."""
    return _DOTS.get(circuit_id) or quote(circuit_id, safe="")


def judged(answer: Answer, *, unsaid: Unsaid, now: datetime) -> Judgement:
    """The meaning of an answer. Any 2xx is done. 408, 425, 429 and 5xx are to be tried again, and so is a redirect, which is not
    followed: it is more likely a mistake on the way than an answer. Every other 4xx is a refusal. `now` (wall) is for a Retry-After
    that is a date; what is `unsaid` is blanked in the platform's words."""
    status = answer.status
    said = words_of(answer, unsaid)
    words = f"answered {status}" + (f": {said}" if said else "")
    if 200 <= status < 300:
        return Judgement(Outcome.WRITTEN, status, f"answered {status}", None, answer.duration_ms)
    if 400 <= status < 500 and status not in _AGAIN:
        return Judgement(Outcome.REFUSED, status, words, None, answer.duration_ms)
    if 300 <= status < 400:
        words = f"answered {status}, which is not followed: DERMS_CIRCUITS__URL has to be the platform's own address"
    return Judgement(Outcome.RETRY, status, words, retry_after_of(answer, now), answer.duration_ms)


class FencedPlatform:
    """A `Platform` that is written to only while `lease` is held: a request begins only then and is cut off before the lease may
    end, so that nobody else's request is on its way at the same time (semantics 8.1). Use within one event loop."""

    def __init__(self, platform: Platform, lease: Lease) -> None:
        self._platform, self._lease = platform, lease

    async def write(self, sent: Sent) -> Judgement:
        """As `Platform.write`; CUT_OFF where the lease is not known to be good, or not until the end."""
        if not self._lease.held():
            return Judgement(Outcome.CUT_OFF, None, _DOUBTFUL)
        task = asyncio.ensure_future(self._platform.write(sent))
        try:
            while (left := self._lease.good_for()) > 0.0:
                done, _ = await asyncio.wait({task}, timeout=min(left, 60.0))
                if done:
                    return task.result()
        finally:
            if not task.done():
                task.cancel()
        await asyncio.wait({task})
        return Judgement(Outcome.CUT_OFF, None, _DOUBTFUL) if task.cancelled() else task.result()

    async def aclose(self) -> None:
        """As `Platform.aclose`."""
        await self._platform.aclose()
