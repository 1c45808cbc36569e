"""Partners that answer after a while, as a distant one does, and write down what they were told and over how many connections."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from functools import partial

from tests.benchmarks.front_door.fleet import PEER_PATH, Fleet
from tests.benchmarks.front_door.http_lines import NO_CONTENT, Answering, Request

MEASUREMENTS = "update_asset_measurements"


@dataclass(frozen=True, slots=True)
class Accepted:
    """One message: when (s since 1970) it had come, and when it was answered."""

    peer: int
    came: float
    answered: float
    request: Request


@dataclass
class Told:
    """Everything that came while it was looked at; `connections` at most at once, by peer."""

    accepted: list[Accepted] = field(default_factory=list)
    connections: dict[int, int] = field(default_factory=dict)

    def values(self) -> dict[str, list[float]]:
        """The values of each asset in the order they came, Wh."""
        found: dict[str, list[float]] = {}
        for one in self.accepted:
            for entry in json.loads(one.request.body)["measurements"]:
                energy = entry["energy_measurement"]
                found.setdefault(entry["asset_id"], []).append(energy["value"] * (1000.0 if energy["unit"] == "KWH" else 1.0))
        return found


class _Slow(Answering):
    """Answers measurements after `after_s`; everything else at once."""

    def __init__(self, partners: "Partners") -> None:
        super().__init__(partners._heard)
        self._partners, self._peer = partners, -1

    def on_message_complete(self) -> None:
        request = self._request
        if not request.path.endswith(MEASUREMENTS):
            super().on_message_complete()
            return
        peer = int(request.path.removeprefix(PEER_PATH).partition("/")[0])
        if self._peer != peer:
            self._peer = peer
            self._partners.opened(peer, 1)
        asyncio.get_running_loop().call_later(self._partners.after_s, partial(self._answer, peer, time.time(), request))

    def _answer(self, peer: int, came: float, request: Request) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(NO_CONTENT)
            self._partners.told.accepted.append(Accepted(peer, came, time.time(), request))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._peer >= 0:
            self._partners.opened(self._peer, -1)


class Partners(Fleet):
    """The front door's fleet, told measurements."""

    after_s = 0.05

    def begin(self) -> Told:
        """Forget what was told so far."""
        self.told = Told()
        return self.told

    async def serve(self) -> None:
        """Listen on a free port."""
        self.begin()
        self._open: dict[int, int] = {}
        server = await asyncio.get_running_loop().create_server(lambda: _Slow(self), "127.0.0.1", 0, backlog=4096)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def opened(self, peer: int, more: int) -> None:
        """A connection by which measurements came, or its end."""
        self._open[peer] = self._open.get(peer, 0) + more
        self.told.connections[peer] = max(self.told.connections.get(peer, 0), self._open[peer])
