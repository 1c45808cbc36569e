"""Many simulated Capacity Providers in one event loop: they register, shake hands, beat, and write down when they hear our beats."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from schemas.oscp.v20 import BASE_PATH
from schemas.units import rfc3339
from tests.benchmarks.front_door.http_lines import Answering, Line, Request, line_to, request_bytes

HORIZON = 3
CONNECTING_EVERY_S = 0.02
"""Peers begin one after the other: many who began at the same instant would also beat at the same instants for ever."""
PEER_PATH = "/p/"


@dataclass(slots=True)
class Peer:
    """One provider: its token A, the C it was given, its connection to the gateway, and what it saw."""

    number: int
    partner_id: str
    token: str
    line: Line | None = None
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)
    vouched_until: float = 0.0


@dataclass
class Seen:
    """What was measured: seconds. `late` by how much our beats came after they were due, `answers` how long theirs took,
    `missed` beats of ours that came after what the one before had promised."""

    late: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    missed: int = 0
    statuses: dict[int, int] = field(default_factory=dict)


class Fleet:
    """`peers` providers that ask for heartbeats every `interval_s`; `seen` is filled while `watching`."""

    def __init__(self, tokens: dict[str, str], gateway_port: int, interval_s: float) -> None:
        self.peers = [Peer(number, partner_id, token) for number, (partner_id, token) in enumerate(tokens.items())]
        self.gateway_port, self.interval_s = gateway_port, interval_s
        self.seen, self.watching = Seen(), False
        self.url = ""
        self._chance = random.Random(1)
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """Listen on a free port."""
        server = await asyncio.get_running_loop().create_server(lambda: Answering(self._heard), "127.0.0.1", 0, backlog=4096)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def connect(self) -> None:
        """Register all and shake hands with all, one after the other. Blocks until every handshake is acknowledged."""

        async def one(peer: Peer) -> None:
            await asyncio.sleep(peer.number * CONNECTING_EVERY_S)
            peer.line = await line_to(self.gateway_port)
            base = f"{self.url}{PEER_PATH}{peer.number}"
            await self._told(peer, "/register", {"token": f"B{peer.number}", "version_url": [{"version": "2.0", "base_url": base}]})
            await peer.registered.wait()
            wanted = {"heartbeat_interval": self.interval_s, "measurement_configuration": ["INTERMITTENT"]}
            await self._told(peer, "/handshake", {"required_behaviour": wanted})
            await peer.acknowledged.wait()
            self._tasks.append(asyncio.create_task(self._beat(peer)))

        await asyncio.gather(*(one(peer) for peer in self.peers))

    async def _told(self, peer: Peer, path: str, body: dict[str, object]) -> None:
        for attempt in range(20):
            status = await self.ask(peer, path, body, f"{peer.number}{path}{attempt}")
            if status == 204:
                return
            await asyncio.sleep(0.5)
        raise RuntimeError(f"{path} of {peer.partner_id} is not taken: {status}")

    async def ask(self, peer: Peer, path: str, body: dict[str, object], request_id: str) -> int:
        """The status of one message."""
        return await self.send(peer, path, json.dumps(body).encode(), request_id)

    async def send(self, peer: Peer, path: str, body: bytes, request_id: str, line: Line | None = None) -> int:
        """As `ask`, with the bytes of the body, over the peer's own connection or another `line`."""
        headers = {"Authorization": f"Token {peer.token}", "Content-Type": "application/json", "X-Request-ID": request_id}
        if line is None:
            if peer.line is None or not peer.line.open:
                peer.line = await line_to(self.gateway_port)
            line = peer.line
        return await line.ask(request_bytes("POST", BASE_PATH + path, headers, body))

    def _heard(self, request: Request) -> None:
        number, _, path = request.path.removeprefix(PEER_PATH).partition("/")
        peer = self.peers[int(number)]
        match path:
            case "register":
                peer.token = json.loads(request.body)["token"]
                peer.registered.set()
            case "handshake_acknowledge":
                peer.acknowledged.set()
            case "heartbeat":
                self._beat_came(peer, json.loads(request.body)["offline_mode_at"])

    def _beat_came(self, peer: Peer, offline_mode_at: str) -> None:
        now, until = time.time(), datetime.fromisoformat(offline_mode_at).timestamp()
        if self.watching:
            self.seen.late.append(now - (until - HORIZON * self.interval_s))
            self.seen.missed += peer.vouched_until != 0.0 and now > peer.vouched_until
        peer.vouched_until = until

    async def _beat(self, peer: Peer) -> None:
        """Every interval, whatever the last one took, from some instant of the first one on: partners were not all connected at once."""
        due, number = time.monotonic() - self._chance.random() * self.interval_s, 0
        while True:
            due += self.interval_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            until = datetime.now(UTC) + timedelta(seconds=HORIZON * self.interval_s)
            began = time.monotonic()
            status = await self.ask(peer, "/heartbeat", {"offline_mode_at": rfc3339(until)}, f"{peer.number}-{number}")
            if self.watching:
                self.seen.answers.append(time.monotonic() - began)
                self.seen.statuses[status] = self.seen.statuses.get(status, 0) + 1
            number += 1

    async def stop(self) -> None:
        """No more beats."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
