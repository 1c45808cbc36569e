"""The operations application with fakes in the place of Kafka, and callers of every role."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.auth import Operators, Role, add_operator
from gateway.operations import operations_app
from gateway.projection import Projection
from pipelines.records import Out, Record
from pipelines.rules.configuration import configuration_of, key_of
from schemas.clock import FrozenClock
from schemas.config import ConfigChange, Configuration
from schemas.connection import Command, CommandKind, Connection, ConnectionState, Credential
from schemas.facts import Value
from schemas.topics import Topic
from sinks.errors import Unavailable
from sinks.secrets import Secrets
from tests.gateway import story
from tests.gateway.facts import NOW, WALL, connection

HOST = "http://127.0.0.1:8481"


class FakeConfig:
    """A configuration that is there, and follows what is appended to its topic."""

    def __init__(self, configuration: Configuration, changes: Mapping[str, ConfigChange] | None = None) -> None:
        self.configuration = configuration
        self.changes_known = dict(changes or {})

    def current(self) -> Configuration:
        return self.configuration

    def changes(self) -> Mapping[str, ConfigChange]:
        return dict(self.changes_known)

    def take(self, _: str, value: Value) -> None:
        """Follow one value of the topic."""
        if isinstance(value, ConfigChange):
            self.changes_known[key_of(value)] = value
            self.configuration = configuration_of(self.changes_known)


class FakeConnections:
    """Connections that show what was appended once they catch up."""

    def __init__(self, connections: Iterable[Connection] = ()) -> None:
        self.known = {each.partner_id: each for each in connections}
        self.caught_up = 0
        self.away = False

    def current(self) -> Mapping[str, Connection]:
        return self.known

    async def catch_up(self, timeout_s: float) -> None:
        self.caught_up += 1
        if self.away:
            raise Unavailable("the broker does not answer")


class FakeAppender:
    """Keeps what is appended; `then` sees each, `away` refuses."""

    def __init__(self) -> None:
        self.appended: list[tuple[str, str, Value]] = []
        self.then: Callable[[str, Value], None] = lambda topic, value: None
        self.away = False

    async def append(self, topic: Topic, key: str, value: Value) -> None:
        await self.append_many([Out(topic, key, value)])

    async def append_many(self, items: Sequence[Out]) -> None:
        if self.away:
            raise Unavailable("the broker does not answer", 2)
        for item in items:
            self.appended.append((item.topic.name, item.key, item.value))
            self.then(item.topic.name, item.value)

    def values(self, topic: Topic) -> list[Any]:
        return [value for name, _, value in self.appended if name == topic.name]


class World:
    """The application and everything behind it."""

    def __init__(
        self, directory: Path, *, records: Iterable[Record] | None = None, configuration: Configuration | None = None, **extra: Any
    ) -> None:
        self.clock = FrozenClock(NOW)
        self.wall = FrozenClock(WALL)
        self.secrets = Secrets(b"k" * 32)
        self.projection = Projection(self.clock)
        self.projection.take(story.records() if records is None else records)
        self.config = FakeConfig(configuration or story.configuration())
        self.connections = FakeConnections(self.projection.current().connections.values())
        self.appender = FakeAppender()
        self.operators_file = directory / "operators.json"
        self.tokens = {role: add_operator(self.operators_file, f"{role}-1", role) for role in Role}
        self.app: FastAPI = operations_app(
            projection=self.projection,
            config=self.config,
            config_changes=self.config.changes,
            connections=self.connections,
            appender=self.appender,
            secrets=self.secrets,
            clock=self.clock,
            operators=Operators(self.operators_file),
            wall=self.wall,
            **extra,
        )

    def ask(
        self,
        method: str,
        path: str,
        role: Role | None = None,
        *,
        address: str = "127.0.0.1",
        host: str = HOST,
        headers: Mapping[str, str] | None = None,
        cookies: dict[str, str] | None = None,
        **content: Any,
    ) -> httpx.Response:
        """One request as a role's token, as cookies say, or as nobody."""
        sent = dict(headers or {})
        if role is not None:
            sent["Authorization"] = f"Bearer {self.tokens[role]}"

        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 5000))
            async with httpx.AsyncClient(transport=transport, base_url=host, headers=sent, cookies=cookies) as client:
                return await client.request(method, path, **content)

        return asyncio.run(once())

    def signed_in(self, role: Role) -> tuple[dict[str, str], str]:
        """The cookies of a browser that has signed in, and the token its forms carry."""
        answer = self.ask("POST", "/sign-in", data={"token": self.tokens[role]})
        cookies = dict(answer.cookies)
        page = self.ask("GET", "/", cookies=cookies).text
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        return cookies, found.group(1) if found else ""

    def lifecycle_answers(self) -> None:
        """Let issued tokens appear on the connection, as the lifecycle flow does."""

        def then(_: str, value: Value) -> None:
            if isinstance(value, Command) and value.kind is CommandKind.ISSUE_TOKEN:
                digest = self.secrets.token_digest(value.partner_id, value.event_id)
                credential = Credential(digest=digest, cause=value.event_id, role="A")
                self.connections.known[value.partner_id] = connection(ConnectionState.AWAITING_REGISTER, credentials=[credential])

        self.appender.then = then


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem document of an answer, checked for its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["type"] == "about:blank"
    assert found["title"]
    assert found["detail"]
    return found
