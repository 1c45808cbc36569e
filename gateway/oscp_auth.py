"""Who sends a request to the OSCP listener: its token against the digests on `derms.connections` (semantics 6.2, 6.3, 6.6)."""

import asyncio
import hmac
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from gateway.oscp_refusals import Refusal
from gateway.rate import Buckets
from pipelines.views import View
from schemas.clock import wall_seconds
from schemas.config import Configuration, Legacy, Partner
from schemas.connection import Connection
from schemas.facts import digest
from sinks.errors import OutsideError

CATCH_UP_S = 1.0
"""So long we read on in `derms.connections` before a token counts as unknown: it may have been issued a moment ago."""
FRESH_S = 0.25
"""So old (wall) may be what we know of the connections when a token is taken for valid. Another gateway may have ended it since:
that one answers so much later than it sees the end itself, so that by its answer nobody goes by what was before (6.3)."""
STRANGERS_RATE, STRANGERS_BURST = 50.0, 100.0
RETRY_AFTER_S = 5
PAUSE_S = 1.0
"""A 429 is held back for so long (wall): a caller that repeats at once, whatever it is told, costs little then."""
MOST_PAUSED = 2_000
"""So many are held back at a time; more are answered at once, since held requests cost memory."""


class ConnectionsView(View[Mapping[str, Connection]], Protocol):
    """`pipelines.views.ConnectionsView`: every partner's connection."""

    async def catch_up(self, timeout_s: float) -> None:
        """Read to the topic's present end, at most `timeout_s` wall seconds."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A partner that showed a valid token, of which only the digest is kept."""

    partner: Partner
    connection: Connection
    credential_digest: str


class HeldBack(Refusal):
    """429 for a partner, above its `inbound_rate`."""

    def __init__(self, peer: Peer, wait_s: int) -> None:
        super().__init__(429, _too_many(wait_s), headers={"Retry-After": str(wait_s)})
        self.peer = peer


class Holders:
    """Whose token it is, by its digest, over all partners' credentials; made anew when the connections are others.

    A look into a table takes a time that depends on the digest, of which a caller can choose no part: what the time tells
    is about the digest of a guess, never about a token. The comparison itself takes the same time for any two.
    """

    def __init__(self) -> None:
        self._of: Mapping[str, Connection] | None = None
        self._partners: dict[str, str] = {}

    def find(self, connections: Mapping[str, Connection], token_digest: str) -> str | None:
        """The partner whose token has that digest."""
        if connections is not self._of:
            self._partners = {
                credential.digest: partner_id for partner_id, connection in connections.items() for credential in connection.credentials
            }
            self._of = connections
        partner_id = self._partners.get(token_digest)
        known = () if partner_id is None else connections[partner_id].credentials
        same = [credential for credential in known if hmac.compare_digest(credential.digest, token_digest)]
        return partner_id if same else None


class Doorkeeper:
    """Names the sender of a request, or refuses it: 401 without a token, 403 with a wrong one, 429 above the rate."""

    def __init__(
        self,
        config: View[Configuration],
        connections: ConnectionsView,
        buckets: Buckets,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_s: Callable[[], float] = wall_seconds,
    ) -> None:
        self._config, self._connections, self._buckets, self._pause, self._now_s = config, connections, buckets, pause, now_s
        self._holders, self._paused = Holders(), 0
        self._began_s = self._known_s = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._to_read: asyncio.Task[None] | None = None

    async def admit(self, request: Request) -> Peer:
        """The peer. Raises Refusal; waits at most `CATCH_UP_S` for a token nobody knows, or to be sure of one it knows."""
        scheme, token = _presented(request)
        stranger = request.client.host if request.client else "unknown"
        if token is None:
            await self._hold_back(f"stranger {stranger}")
            raise _unauthorised()
        token_digest = digest(token)
        peer = self._known(token_digest)
        age_s = self._now_s() - self._known_s
        if peer is not None and age_s > FRESH_S:
            await self._keep_up()
            peer = self._known(token_digest)
        elif peer is not None and age_s > FRESH_S / 2:
            self._next_reading()  # ahead of need: while requests come, none has to wait for it
        if peer is None:
            await self._hold_back(f"stranger {stranger}")
            await self.catch_up()
            peer = self._known(token_digest)
        if peer is None:
            raise _unauthorised() if scheme is None else Refusal(403, "the token is not valid")
        if scheme is None and Legacy.BARE_TOKEN not in peer.partner.legacy:
            raise _unauthorised()
        rate = peer.partner.inbound_rate
        if (wait_s := self._buckets.take(f"partner {peer.partner.id}", rate, 2 * rate)) is not None:
            await self._pause_a_while()
            raise HeldBack(peer, wait_s)
        return peer

    def _known(self, token_digest: str) -> Peer | None:
        connections = self._connections.current()
        partner_id = self._holders.find(connections, token_digest)
        partner = None if partner_id is None else self._config.current().partner(partner_id)
        return None if partner_id is None or partner is None else Peer(partner, connections[partner_id], token_digest)

    async def catch_up(self) -> None:
        """Read on in the connections from now. Who comes while that is under way shares the next: however many unknown tokens
        come, the broker is asked once at a time."""
        try:
            await asyncio.shield(self._next_reading())
        except OutsideError:
            # Whether the token is good cannot be known now; refusing it might make the peer throw it away.
            raise unavailable() from None

    async def _keep_up(self) -> None:
        """As `_catch_up`, but a reading that is under way will do, and where the broker does not answer what is known counts:
        nothing is said to be ended meanwhile by who does not reach it, and a partner that is known is not turned away."""
        under_way = self._reading is not None and not self._reading.done() and self._now_s() - self._began_s <= FRESH_S
        with suppress(OutsideError):
            await asyncio.shield(self._reading if under_way and self._reading is not None else self._next_reading())

    def _next_reading(self) -> "asyncio.Task[None]":
        if self._to_read is None:
            self._to_read = asyncio.create_task(self._read_on(self._reading))
            self._to_read.add_done_callback(lambda read: read.cancelled() or read.exception())  # seen, also where nobody waits
        return self._to_read

    async def _read_on(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None and not before.done():
            await asyncio.wait({before})
        self._reading, self._to_read = self._to_read, None
        self._began_s = self._now_s()
        try:
            await self._connections.catch_up(CATCH_UP_S)
        finally:
            self._known_s = self._began_s

    async def _hold_back(self, stranger: str) -> None:
        if (wait_s := self._buckets.take(stranger, STRANGERS_RATE, STRANGERS_BURST)) is not None:
            await self._pause_a_while()
            raise Refusal(429, _too_many(wait_s), headers={"Retry-After": str(wait_s)})

    async def _pause_a_while(self) -> None:
        if self._paused < MOST_PAUSED:
            self._paused += 1
            try:
                await self._pause(PAUSE_S)
            finally:
                self._paused -= 1


def _too_many(wait_s: int) -> str:
    return f"too many requests; try again in {wait_s} s"


def unavailable(retry_after_s: float | None = None) -> Refusal:
    """503: nothing is wrong with the request, it could not be kept."""
    wait = str(max(1, round(retry_after_s or RETRY_AFTER_S)))
    return Refusal(503, "the message could not be stored now; send it again", headers={"Retry-After": wait})


def _presented(request: Request) -> tuple[str | None, str | None]:
    """Scheme and token of `Authorization: Token x` (in any case); scheme None for a bare token; token None for anything else."""
    parts = request.headers.get("authorization", "").split()
    if len(parts) == 2 and parts[0].lower() == "token":
        return "Token", parts[1]
    if len(parts) == 1 and parts[0].lower() != "token":
        return None, parts[0]
    return None, None


def _unauthorised() -> Refusal:
    words = "Authorization is missing or malformed; send: Authorization: Token <token>"
    return Refusal(401, words, headers={"WWW-Authenticate": "Token"})
