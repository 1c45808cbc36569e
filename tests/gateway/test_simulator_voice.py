"""The simulated provider's mouth where the Flexibility Provider tells it another token while a request is on its way."""

import asyncio
from typing import Any

import pytest

from gateway.simulator_ledger import Ledger
from gateway.simulator_reception import Peer
from gateway.simulator_switches import Switches
from gateway.simulator_voice import Message, Voice
from schemas.clock import FrozenClock
from schemas.oscp.v20 import Action, MeasurementConfiguration
from sinks.http import Answer
from tests.builders import T0

OLD, NEW = Peer("https://fp.example/oscp/fp/2.0", "old"), Peer("https://fp.example/oscp/fp/2.0", "new")


class Line:
    """In place of the network: takes the tokens of `good` alone, and writes down what came."""

    def __init__(self, *good: Peer) -> None:
        self.good = {f"Token {peer.token}" for peer in good}
        self.came: list[tuple[str, str]] = []

    async def request(self, method: str, url: str, *, headers: dict[str, str], **_: Any) -> Answer:
        self.came.append((headers["Authorization"], headers["X-Request-ID"]))
        known = headers["Authorization"] in self.good
        return Answer(204 if known else 403, {}, b"" if known else b'{"message":"the token is not valid"}', 1)


def told(action: Action, line: Line, newest: Peer, switches: Switches | None = None) -> Ledger:
    ledger = Ledger("VEC-0001", FrozenClock(T0), 300.0, frozenset({MeasurementConfiguration.INTERMITTENT}))

    async def story() -> None:
        voice = Voice(ledger, lambda: switches or Switches(), lambda: newest)
        await voice.close()
        voice._client = line  # type: ignore[assignment]
        await asyncio.wait_for(voice.tell(Message(action, {}, "request-1"), OLD), 10)

    asyncio.run(story())
    return ledger


def test_what_another_token_overtook_goes_again_with_that_and_is_no_problem() -> None:
    line = Line(NEW)
    ledger = told(Action.HANDSHAKE, line, NEW)
    assert line.came == [("Token old", "request-1"), ("Token new", "request-1")]
    assert ledger.problems == []


@pytest.mark.parametrize("other", [False, True])
def test_it_knows_which_of_its_ids_it_used_for_two_messages(other: bool) -> None:
    line = Line(NEW)
    ledger = told(Action.HANDSHAKE, line, NEW, Switches(repeat=1, other_body=other))
    assert [request_id for _, request_id in line.came] == ["request-1"] * 3  # refused, taken, repeated
    assert ledger.reused == ({"request-1": ""} if other else {})


def test_a_registration_that_was_overtaken_has_happened() -> None:
    line = Line(NEW)
    assert told(Action.REGISTER, line, NEW).problems == []
    assert len(line.came) == 1


@pytest.mark.parametrize("newest", [OLD, NEW])
def test_the_newest_token_refused_is_a_problem_and_not_tried_for_ever(newest: Peer) -> None:
    line = Line()
    assert told(Action.HANDSHAKE, line, newest).problems == ["our Handshake was answered 403: the token is not valid"]
    assert len(line.came) == (1 if newest is OLD else 2)
