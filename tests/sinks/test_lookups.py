"""Lookups: a resolver that hangs for one host holds up no other, and is asked once however many wait."""

import asyncio
import socket
import threading
from typing import Any

import pytest
import uvloop

from sinks.errors import Unavailable
from sinks.lookups import MOST_AT_ONCE, Lookups


class Resolver:
    """Answers at once, but not for hosts that begin with `slow`, until it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()

    def __call__(self, host: str, port: int) -> list[Any]:
        self.asked.append(host)
        if host.startswith("slow"):
            assert self.let_go.wait(20)
        if host.startswith("no"):
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest):
    with asyncio.Runner(loop_factory=request.param) as found:
        yield found


def test_a_name_nobody_answers_for_keeps_no_other_from_being_found(runner: asyncio.Runner):
    resolver = Resolver()
    lookups = Lookups(resolver)

    async def scene() -> None:
        for _ in range(30):  # given up again and again, as by heartbeats each second
            for host in ("slow-1.example", "slow-2.example", "slow-3.example"):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(lookups.find(host, 443), 0.001)
        found = await asyncio.wait_for(lookups.find("good.example", 443), 5)
        assert found[0][4] == ("192.0.2.1", 443)
        resolver.let_go.set()

    runner.run(scene())
    assert sorted(resolver.asked) == ["good.example", "slow-1.example", "slow-2.example", "slow-3.example"]


def test_all_who_wait_get_the_one_answer_and_those_after_it_for_a_while(runner: asyncio.Runner):
    resolver = Resolver()
    lookups = Lookups(resolver)

    async def scene() -> None:
        waiting = [asyncio.create_task(lookups.find("slow.example", 1)) for _ in range(20)]
        waiting[3].cancel()
        await asyncio.sleep(0)
        resolver.let_go.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(each, list) for each in found) == 19
        assert await lookups.find("slow.example", 1) == found[0]

    runner.run(scene())
    assert resolver.asked == ["slow.example"]


def test_a_name_that_is_not_there_is_asked_for_again(runner: asyncio.Runner):
    resolver = Resolver()
    lookups = Lookups(resolver)

    async def scene() -> None:
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                await lookups.find("no.example", 443)

    runner.run(scene())
    assert resolver.asked == ["no.example"] * 2


def test_a_loop_that_has_ended_meanwhile_takes_nothing_from_the_next_one():
    resolver = Resolver()
    lookups = Lookups(resolver)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lookups.find("slow.example", 443), 0.001)

    asyncio.run(give_up())

    async def go_on() -> None:
        later = asyncio.create_task(lookups.find("slow.example", 443))
        await asyncio.sleep(0)
        resolver.let_go.set()
        assert await asyncio.wait_for(later, 5)

    asyncio.run(go_on())
    assert resolver.asked == ["slow.example"]


def test_so_many_names_wait_and_no_more():
    resolver = Resolver()
    lookups = Lookups(resolver)

    async def scene() -> None:
        waiting = [asyncio.create_task(lookups.find(f"slow-{number}.example", 443)) for number in range(MOST_AT_ONCE)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="too many names"):
            await lookups.find("good.example", 443)
        resolver.let_go.set()
        await asyncio.gather(*waiting)

    asyncio.run(scene())
