"""Callers take turns: what one has waiting does not keep another waiting."""

import asyncio
from collections import Counter

import pytest

from gateway.turns import Turns


def ran(work) -> list[str]:
    order: list[str] = []

    async def one(turns: Turns, caller: str) -> None:
        await turns.take(caller)
        order.append(caller)

    async def main() -> None:
        turns = Turns()
        await asyncio.gather(*(one(turns, caller) for caller in work))
        assert not turns._waiting
        await asyncio.sleep(0)
        assert not turns._busy

    asyncio.run(main())
    return order


def test_every_caller_gets_a_turn_before_any_gets_another():
    order = ran(["flood"] * 100 + ["calm"] + ["other"])
    assert order.index("calm") <= 3
    assert order.index("other") <= 3
    assert Counter(order) == {"flood": 100, "calm": 1, "other": 1}


def test_a_caller_alone_goes_at_once_and_in_order():
    assert ran(["a"]) == ["a"]
    assert ran(["a"] * 5) == ["a"] * 5


def test_only_one_turn_is_given_in_a_round_of_the_loop():
    async def main() -> None:
        turns, given = Turns(), 0

        async def one() -> None:
            nonlocal given
            await turns.take("a")
            given += 1

        tasks = [asyncio.create_task(one()) for _ in range(10)]
        most, before = 0, 0
        while given < 10:
            await asyncio.sleep(0)
            most, before = max(most, given - before), given
        assert most <= 1
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_who_goes_away_while_it_waits_costs_nobody_a_turn():
    async def main() -> None:
        turns, order = Turns(), list[str]()

        async def one(caller: str) -> None:
            await turns.take(caller)
            order.append(caller)

        tasks = [asyncio.create_task(one(caller)) for caller in "aabb"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.wait(tasks)
        assert order == ["a", "b"]
        await one("c")  # and the next one finds it free

    asyncio.run(main())


def test_a_caller_has_few_places_and_others_have_their_own():
    async def main() -> None:
        turns, most, now = Turns(at_once=2), Counter[str](), Counter[str]()

        async def one(caller: str) -> None:
            async with turns.place(caller):
                now[caller] += 1
                most[caller] = max(most[caller], now[caller])
                await asyncio.sleep(0.001)
                now[caller] -= 1

        await asyncio.gather(*(one(caller) for caller in ["flood"] * 20 + ["calm"] * 2))
        assert most == {"flood": 2, "calm": 2}
        assert not turns._places

    asyncio.run(main())


def test_who_waits_too_long_for_a_place_is_told_and_leaves_none_behind():
    async def main() -> None:
        turns, let_go = Turns(at_once=1, within_s=0.02), asyncio.Event()

        async def keeps() -> None:
            async with turns.place("a"):
                await let_go.wait()

        keeper = asyncio.create_task(keeps())
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with turns.place("a"):
                raise AssertionError("there was no place")
        let_go.set()
        await keeper
        async with turns.place("a"):
            pass
        with pytest.raises(ValueError, match="of the work's own"):
            async with turns.place("a"):
                raise ValueError("of the work's own")
        assert not turns._places

    asyncio.run(main())
