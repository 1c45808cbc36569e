"""What the operations API and the pages work with: one object handed to every route. The composition root fills it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from gateway.auth import Operators, Right
from gateway.guard import Caller, demand, demand_own_page, identify
from gateway.past import Past
from gateway.picture import Picture
from gateway.readiness import Check, Readiness
from gateway.sessions import Sealer, Sessions, SignInLinks
from pipelines.records import Out
from schemas.clock import Clock
from schemas.config import ConfigChange, Configuration
from schemas.connection import Connection
from schemas.facts import Value
from schemas.topics import Topic


class Secrets(Sealer, Protocol):
    """The part of `sinks.secrets.Secrets` that is needed here."""

    def token(self, partner_id: str, cause: str) -> str:
        """Our token for a partner (semantics 6.2)."""

    def token_digest(self, partner_id: str, cause: str) -> str:
        """Its digest."""


class Pictures(Protocol):
    """The live picture; `gateway.projection.Projection`."""

    def current(self) -> Picture:
        """A picture that stands still."""


class Configurations(Protocol):
    """The configuration in force; `pipelines.views.ConfigView`."""

    def current(self) -> Configuration:
        """The configuration now."""


class Connections(Protocol):
    """The compacted connections; `pipelines.views.ConnectionsView`."""

    def current(self) -> Mapping[str, Connection]:
        """Each partner's connection."""

    async def catch_up(self, timeout_s: float) -> None:
        """Read to the topic's present end."""


class Appender(Protocol):
    """Appends to Kafka; `sinks.kafka.AsyncAppender`. Returns once the broker acknowledged, raises Unavailable."""

    async def append(self, topic: Topic, key: str, value: Value) -> None:
        """Append one value."""

    async def append_many(self, items: Sequence[Out]) -> None:
        """Append several, in order for each key."""


@dataclass(frozen=True, slots=True)
class Desk:
    """See `gateway.operations.operations_app` for what each is."""

    pictures: Pictures
    config: Configurations
    config_changes: Callable[[], Mapping[str, ConfigChange]]
    connections: Connections
    appender: Appender
    secrets: Secrets
    clock: Clock
    wall: Clock
    operators: Operators
    sessions: Sessions
    links: SignInLinks
    checks: Mapping[str, Check] = field(default_factory=dict)
    processes: Callable[[], Mapping[str, Any]] | None = None
    attribution: str | None = None
    past: Past | None = None
    writes_circuits: bool = False
    readiness: Readiness = field(default_factory=Readiness)
    applying: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the configuration is changed: one change at a time is compared with what holds."""


async def desk_of(request: Request) -> Desk:
    """The desk of the application a request came to."""
    desk: Desk = request.app.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(desk_of)]


def caller_of(request: Request) -> Caller | None:
    """Who sends the request, if it is known."""
    desk: Desk = request.app.state.desk
    return identify(request, desk.operators, desk.sessions)


def needs(right: Right) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets through only who has `right` (401, 403), and only from our own page (403)."""

    async def caller(request: Request) -> Caller:
        found = demand(caller_of(request), right)
        demand_own_page(request, found)
        return found

    return caller


Reader = Annotated[Caller, Depends(needs(Right.READ))]
Producer = Annotated[Caller, Depends(needs(Right.TELEMETRY))]
Actor = Annotated[Caller, Depends(needs(Right.ACT))]
Configurer = Annotated[Caller, Depends(needs(Right.CONFIGURE))]
