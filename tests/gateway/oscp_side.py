"""The OSCP listener for tests: the app with a broker in memory, and callers."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import httpx

from gateway.oscp_v20 import oscp_app
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.connection import EXCHANGE, Connection, ConnectionState, Credential, Event, InboundMessage
from schemas.facts import Value, digest
from schemas.oscp.v20 import BASE_PATH
from schemas.topics import EVENTS, Topic
from sinks.errors import Refused, Unavailable
from tests.builders import T0, configuration

TOKEN = "C-token-of-vector"
PEER_URL = "https://cp.example/oscp/cp/2.0"


def connection(partner_id: str = "vector", *tokens: str, **changes: Any) -> Connection:
    credentials = [Credential(digest=digest(token), cause=f"cause of {token}", role="CURRENT") for token in tokens]
    plain: dict[str, Any] = {"event_id": "e", "at": T0, "partner_id": partner_id, "state": ConnectionState.ONLINE, "since": T0}
    return Connection(**{**plain, "credentials": credentials, **changes})


class Connections:
    """`ConnectionsView` in memory; `next` is what catching up will bring."""

    def __init__(self, *known: Connection) -> None:
        self.known: Mapping[str, Connection] = {c.partner_id: c for c in known}
        self.next: Mapping[str, Connection] | None = None
        self.asked = 0
        self.away = False

    def current(self) -> Mapping[str, Connection]:
        return self.known

    async def catch_up(self, timeout_s: float) -> None:
        assert 0 < timeout_s <= 1
        self.asked += 1
        if self.away:
            raise Unavailable("no broker")
        self.known = self.next or self.known


class Broker:
    """Keeps what is appended. `away` makes it refuse; `effect` is what the lifecycle does about a message."""

    def __init__(self) -> None:
        self.inbound: list[InboundMessage] = []
        self.events: list[Event] = []
        self.exchanges: list[Event] = []
        self.strangers: list[Event] = []
        self.away: Unavailable | Refused | None = None
        self.effect: Any = None

    async def append(self, topic: Topic, key: str, value: Value) -> None:
        if self.away is not None:
            raise self.away
        assert isinstance(value, topic.records)
        if isinstance(value, InboundMessage):
            assert key == value.partner_id
            self.inbound.append(value)
            if self.effect:
                self.effect(value)
        elif isinstance(value, Event):
            self.events.append(value)

    def post(self, topic: Topic, key: str, value: Value) -> None:
        assert topic is EVENTS
        assert isinstance(value, Event)
        if self.away is None:
            (self.exchanges if value.kind == EXCHANGE else self.strangers).append(value)


class Cipher:
    def encrypt(self, text: str, context: str) -> str:
        return f"sealed({len(text)}) for {context}"


class ConfigView:
    def __init__(self, value: Configuration) -> None:
        self.value = value

    def current(self) -> Configuration:
        return self.value


class Side:
    """Everything around the app. `post` and `send` go as partner `vector` with its token unless told otherwise."""

    def __init__(self, *known: Connection, config: Configuration | None = None, **partner: Any) -> None:
        plain = {"id": "vector", "name": "Vector", "allow_private_addresses": True, **partner}
        self.config = config or configuration(partners=[plain])
        self.connections = Connections(*(known or (connection("vector", TOKEN, peer_base_url=PEER_URL),)))
        self.broker = Broker()
        self.clock = FrozenClock(T0)
        self.wall_s = 0.0
        self.paused: list[float] = []
        self.resolved: list[tuple[str, int, bool]] = []
        self.verdict: Exception | None = None
        self.app = oscp_app(
            config=ConfigView(self.config),
            connections=self.connections,
            appender=self.broker,
            secrets=Cipher(),
            clock=self.clock,
            public_url="https://derms.example",
            local_zone=UTC,
            effect_within_s=0.1,
            resolve=self._resolver,
            now_s=lambda: self.wall_s,
            pause=self._pause,
        )

    def _resolver(self, allow_private: bool) -> Any:
        async def resolve(host: str, port: int) -> None:
            self.resolved.append((host, port, allow_private))
            if self.verdict is not None:
                raise self.verdict

        return resolve

    async def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: Any = None,
        token: str | None = f"Token {TOKEN}",
        headers: Mapping[str, str] | None = None,
        request_id: str | None = "r-1",
    ) -> httpx.Response:
        found = {"Content-Type": "application/json"} if (body is not None or content is not None) else {}
        if token is not None:
            found["Authorization"] = token
        if request_id is not None:
            found["X-Request-ID"] = request_id
        found |= headers or {}
        raw = content if content is not None else None if body is None else json.dumps(body).encode()
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=("192.0.2.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="https://derms.example") as client:
            return await client.request(method, BASE_PATH + path, content=raw, headers=found)

    async def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.send("POST", path, body, **more)


def register_body(token: str = "B-token", url: str = PEER_URL, version: str = "2.0") -> dict[str, Any]:
    return {"token": token, "version_url": [{"version": version, "base_url": url}]}


def forecast_body(**changes: Any) -> dict[str, Any]:
    block = {
        "capacity": 40,
        "phase": "ALL",
        "unit": "KW",
        "start_time": "2026-10-20T10:00:00Z",
        "end_time": "2026-10-20T11:00:00Z",
    }
    plain = {"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": [block]}
    return {**plain, **changes}


def block(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = forecast_body()["forecasted_blocks"][0]
    return {**found, **changes}


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def refused(answer: httpx.Response, status: int, words: str = "") -> dict[str, Any]:
    """A refusal: its status, OSCP's error body, `words` in it."""
    body: dict[str, Any] = answer.json()
    assert answer.status_code == status, body
    assert isinstance(body["message"], str)
    assert words in json.dumps(body)
    return body
