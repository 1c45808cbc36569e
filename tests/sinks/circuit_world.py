"""Changes of circuits, a platform over real sockets and a writer to it, for tests of the write-through."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import unquote

from pydantic import SecretStr

from schemas.capacity import CircuitCapacity, PieceKind
from schemas.clock import SystemClock
from schemas.connection import Event
from schemas.facts import Value
from schemas.topics import Topic
from sinks.circuit_history import Found
from sinks.circuit_requests import LegacyPlatform
from sinks.circuits import CircuitWriter
from sinks.errors import Unavailable
from sinks.settings import CircuitsSettings
from tests.builders import T0
from tests.sinks.partner_server import Answering, FakePartner, Request, fake_partner

NOTHING_BEFORE = Found([], None)


def change(minute: float, import_w: float = 1000.0, circuit_id: str = "feeder-17", suffix: str = "", **more: Any) -> CircuitCapacity:
    """A change that takes effect some minutes after `T0`."""
    when = T0 + timedelta(minutes=minute)
    plain = {
        "event_id": f"{circuit_id} {minute:g}{suffix}", "at": when, "circuit_id": circuit_id, "scope_id": "mg-1",
        "available_import_w": import_w, "available_export_w": None, "effective_from": when, "kind": PieceKind.FORECAST,
    }  # fmt: skip
    return CircuitCapacity.model_validate({**plain, **more})


def key_of(request: Request) -> str:
    return request.headers["idempotency-key"]


def circuit_of(request: Request) -> str:
    return unquote(request.path.rpartition("/")[2])


def until(condition: Callable[[], Any], what: str = "", within_s: float = 10.0) -> Any:
    """Wait for a condition and return its value."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)
    return found


@dataclass
class Told:
    """Stands in for `derms.events`; `away` refuses everything."""

    events: list[Event] = field(default_factory=list)
    away: bool = False

    async def append(self, topic: Topic, key: str, value: Value) -> None:
        if self.away:
            raise Unavailable("the broker is away")
        assert isinstance(value, Event)
        assert (topic.name, key) == ("derms.events", value.subject_id)
        self.events.append(value)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Gate:
    """Requests wait here until they are let through; `came` counts those that did."""

    def __init__(self, reply: Answering = lambda request: 204) -> None:
        self.reply, self.came, self.most, self._inside = reply, 0, 0, 0
        self._open, self._lock = threading.Event(), threading.Lock()

    def __call__(self, request: Request) -> Any:
        with self._lock:
            self.came += 1
            self._inside += 1
            self.most = max(self.most, self._inside)
        assert self._open.wait(20)
        with self._lock:
            self._inside -= 1
        return self.reply(request)

    def open(self) -> None:
        self._open.set()


def script(answers: Mapping[str, list[Any]]) -> Answering:
    """The answers of each circuit one after the other, the last one for ever."""
    left = {name: list(each) for name, each in answers.items()}

    def answer(request: Request) -> Any:
        mine = left.get(circuit_of(request), [204])
        return mine.pop(0) if len(mine) > 1 else mine[0]

    return answer


class NoWaiting:
    """In a Random's place: every back-off is over at once, or after a fixed part of its bound."""

    def __init__(self, part: float = 0.0) -> None:
        self.part, self.bounds = part, list[float]()

    def uniform(self, low: float, high: float) -> float:
        self.bounds.append(high)
        return high * self.part


@contextmanager
def writing(
    url: str, told: Told, *, found: Found | None = NOTHING_BEFORE, token: str | None = None, **more: Any
) -> Iterator[CircuitWriter]:
    """A writer at work, which knows what there was before (`found`; None: not yet)."""
    settings = CircuitsSettings(url=url, token=SecretStr(token) if token else None)
    arguments: dict[str, Any] = {
        "platform": partial(LegacyPlatform, settings),
        "append": told.append,
        "wanted": lambda: frozenset({"feeder-17", "feeder-18"}),
        "name_of": lambda circuit_id: f"Harbour ({circuit_id})",
        "clock": SystemClock(),
        "chance": NoWaiting(),
    }
    writer = CircuitWriter(**{**arguments, **more})
    writer.start()
    try:
        if found is not None:
            writer.learn(found)
        yield writer
    finally:
        writer.stop()


__all__ = ["FakePartner", "Request", "fake_partner"]
