"""What a gateway knows of tokens is never older than another gateway waits before it says that one is dead (semantics 6.3)."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from gateway.oscp_auth import FRESH_S, Doorkeeper
from gateway.oscp_refusals import Refusal
from gateway.rate import Buckets
from pipelines.views import FixedView
from tests.builders import configuration
from tests.gateway.oscp_side import TOKEN, Connections, Side, connection


class Wall:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def doorkeeper(connections: Any, wall: Wall) -> Doorkeeper:
    async def at_once(seconds: float) -> None:
        return None

    return Doorkeeper(FixedView(configuration()), connections, Buckets(wall), at_once, wall)


def request() -> Request:
    headers = [(b"authorization", f"Token {TOKEN}".encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)})


def test_a_token_that_was_ended_elsewhere_is_dead_here_before_that_is_answered_there() -> None:
    connections, wall = Connections(connection("vector", TOKEN)), Wall()
    keeper = doorkeeper(connections, wall)

    async def story() -> None:
        assert (await keeper.admit(request())).partner.id == "vector"
        connections.next = {"vector": connection("vector")}
        wall.now += FRESH_S  # what was known a moment ago still counts
        await keeper.admit(request())
        wall.now += 0.001
        with pytest.raises(Refusal) as refusal:
            await keeper.admit(request())
        assert refusal.value.status == 403

    asyncio.run(story())


def test_the_broker_is_asked_now_and_then_and_by_one_for_all() -> None:
    connections, wall = Connections(connection("vector", TOKEN)), Wall()
    keeper = doorkeeper(connections, wall)

    async def many(number: int) -> None:
        await asyncio.gather(*(keeper.admit(request()) for _ in range(number)))

    asyncio.run(many(50))
    assert connections.asked == 1
    asyncio.run(many(50))
    assert connections.asked == 1
    wall.now += 1
    asyncio.run(many(50))
    assert connections.asked == 2


def test_a_partner_that_is_known_is_not_turned_away_while_the_broker_does_not_answer() -> None:
    connections, wall = Connections(connection("vector", TOKEN)), Wall()
    connections.away = True
    keeper = doorkeeper(connections, wall)
    assert asyncio.run(keeper.admit(request())).partner.id == "vector"
    assert asyncio.run(keeper.admit(request())).partner.id == "vector"
    assert connections.asked == 1  # nor does every one of its requests wait for the broker


def test_put_and_delete_are_answered_so_much_later_than_their_effect_is_seen() -> None:
    side = Side(connection("vector", TOKEN))

    def ended(message: Any) -> None:
        side.connections.known = {"vector": connection("vector", TOKEN, taken=[message.repeat_key])}

    side.broker.effect = ended

    async def story() -> float:
        began = asyncio.get_running_loop().time()
        answer = await side.send("DELETE", "/register")
        assert answer.status_code == 204
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(story()) >= FRESH_S


def test_while_requests_come_the_connections_are_read_ahead_and_none_waits() -> None:
    connections, wall = Connections(connection("vector", TOKEN)), Wall()
    keeper = doorkeeper(connections, wall)

    async def story() -> None:
        await keeper.admit(request())
        asked = connections.asked
        wall.now += FRESH_S * 0.6
        reading = connections.catch_up
        let_go = asyncio.Event()

        async def slow(timeout_s: float) -> None:
            await let_go.wait()
            await reading(timeout_s)

        connections.catch_up = slow  # type: ignore[method-assign]
        await asyncio.wait_for(keeper.admit(request()), 1)  # although the reading that it began has not ended
        let_go.set()
        await asyncio.sleep(0.01)
        assert connections.asked == asked + 1
        wall.now += FRESH_S * 0.6  # more than FRESH_S since the first reading, less since the second began
        await asyncio.wait_for(keeper.admit(request()), 1)

    asyncio.run(story())
