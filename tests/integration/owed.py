"""The law of delivery, judged by what a partner received and by what the topics say was owed (semantics 8.1).

- The partner's set of accepted message ids is exactly what was owed: all of `derms.outbound` but what is recorded as refused,
  expired or dropped.
- Within a group and action they come in their order, and never again once the next one was sent.
- Each id comes at most as often as its recorded attempts explain; in each life of dispatch that ended in a kill, once more.
- What the partner made of them is what the rows said.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.simulator import SimulatedProvider
from gateway.simulator_reply import Reply
from schemas.oscp.v20 import PATHS, Action
from schemas.outbound import FINAL_OUTCOMES, Delivery, OutboundMessage, Outcome

EXCHANGE = frozenset({Action.REGISTER.value, Action.HANDSHAKE.value, Action.HANDSHAKE_ACKNOWLEDGE.value, Action.HEARTBEAT.value})
_ACTIONS = {path: action.value for action, path in PATHS.items()}
_ENERGY_WH = 1e-3
Key = tuple[str, str, datetime]
"""Asset, direction, start of the quarter."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the partner had it: `at` in wall seconds, `clock` as its clock read; `taken`: taken in, whatever the answer was."""

    at: float
    clock: datetime
    action: str
    message_id: str
    group_id: str
    status: int
    taken: bool


@dataclass
class Witness:
    """Writes down every request that reaches a simulated partner."""

    provider: SimulatedProvider
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        reception = self.provider.reception
        answer = reception.answer

        def witnessed(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
            reply = answer(method, path, headers, body)
            taken = reply.status < 300 and (reply.manner is None or reply.manner.takes)
            action, group_id = _ACTIONS.get(path, path), str(json.loads(body).get("group_id", "")) if body else ""
            now, message_id = time.monotonic(), headers.get("x-request-id", "")
            self.requests.append(Request(now, self.provider.clock.now(), action, message_id, group_id, reply.status, taken))
            return reply

        reception.answer = witnessed  # type: ignore[method-assign]

    def owed_ones(self) -> list[Request]:
        """All but registrations, acknowledgements and heartbeats."""
        return [each for each in list(self.requests) if each.action not in EXCHANGE]

    def beats(self) -> list[Request]:
        """The heartbeats."""
        return [each for each in list(self.requests) if each.action == Action.HEARTBEAT]


@dataclass
class Books:
    """What the topics say of one partner: what is owed, in its order, and what became of it."""

    messages: dict[str, OutboundMessage] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)
    bodies: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    last: dict[str, Delivery] = field(default_factory=dict)
    attempts: dict[str, dict[str, datetime]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(cls, partner_id: str, messages: Iterable[OutboundMessage], deliveries: Iterable[Delivery]) -> "Books":
        """From the values of both topics, in their order."""
        books = cls()
        for message in messages:
            if message.partner_id == partner_id and message.action not in EXCHANGE:
                books.messages.setdefault(message.message_id, message)
                books.copies[message.message_id] += 1
                books.bodies[message.message_id].add(message.body)
        for delivery in deliveries:
            if delivery.message_id in books.messages:
                books.last[delivery.message_id] = delivery
                if delivery.url:
                    books.attempts[delivery.message_id][delivery.event_id] = delivery.at
        return books

    def open(self) -> list[str]:
        """What is owed and has no final outcome yet."""
        return [each for each in self.messages if each not in self.last or self.last[each].outcome not in FINAL_OUTCOMES]

    def given_up(self) -> dict[str, Outcome]:
        """What is recorded as refused, expired or dropped."""
        final = FINAL_OUTCOMES - {Outcome.DELIVERED}
        return {each: delivery.outcome for each, delivery in self.last.items() if delivery.outcome in final}


def broken(books: Books, requests: list[Request], deaths: Sequence[datetime] = ()) -> list[str]:
    """What of the law does not hold, in words. `deaths`: when dispatch died, as the clock read; each time it may have known of an
    answer that it could not record any more."""
    words: list[str] = []
    accepted = {each.message_id for each in requests if each.taken}
    given_up = books.given_up()
    owed = set(books.messages) - set(given_up)
    words += [f"owed and never accepted: {each} ({books.last.get(each)})" for each in sorted(owed - accepted)]
    words += [f"accepted and never owed: {each}" for each in sorted(accepted - set(books.messages))]
    words += [f"delivered by the books, not by the partner's: {each}" for each in sorted(_delivered(books) - accepted)]
    words += [f"no final outcome: {each}" for each in books.open()]
    words += [f"{each} has {len(bodies)} bodies" for each, bodies in books.bodies.items() if len(bodies) > 1]

    place = {message_id: number for number, message_id in enumerate(books.messages)}
    newest: dict[tuple[str, str], int] = {}
    for each in requests:
        lane, number = (each.group_id, each.action), place.get(each.message_id, -1)
        if number < newest.get(lane, -1):
            words.append(f"{each.message_id} came after a later one of {lane}")
        newest[lane] = max(number, newest.get(lane, -1))

    for (message_id, life), count in Counter((each.message_id, _life(each.clock, deaths)) for each in requests if each.taken).items():
        recorded = sum(_life(at, deaths) == life for at in books.attempts[message_id].values())
        explained = recorded + (life < len(deaths))
        if count > explained:
            words.append(f"{message_id} was accepted {count} times in one life of dispatch, {explained} can be explained")
    return words


def unrecorded(books: Books, requests: list[Request]) -> int:
    """How many acceptances no recorded attempt explains: what the deaths of dispatch cost."""
    taken = Counter(each.message_id for each in requests if each.taken)
    return sum(max(0, count - len(books.attempts[message_id])) for message_id, count in taken.items())


def _life(at: datetime, deaths: Sequence[datetime]) -> int:
    return sum(at > death for death in deaths)


def _delivered(books: Books) -> set[str]:
    return {each for each, delivery in books.last.items() if delivery.outcome is Outcome.DELIVERED}


def untrue(truth: Mapping[Key, float], provider: SimulatedProvider) -> list[str]:
    """Where the energies the partner added up differ from what the rows said, in words."""
    heard = provider.ledger.energies
    words = [f"never told: {key} {wh:g} Wh" for key, wh in truth.items() if key not in heard]
    words += [f"told and not so: {key}" for key in heard if key not in truth]
    words += [
        f"{key} is {wh:g} Wh and was told as {heard[key]:g}" for key, wh in truth.items() if abs(heard.get(key, wh) - wh) > _ENERGY_WH
    ]
    return words


def faults_found(provider: SimulatedProvider, *, beats: bool = True) -> list[Any]:
    """What the partner itself finds wrong; without `beats` not that one is late."""
    report = provider.report()
    problems = [each for each in report["problems"] if beats or not each.startswith("Heartbeat: none came")]
    return [*problems, *(f"still owed: {each}" for each in report["owed"].items())]
