"""Whose call goes on next."""

import asyncio
from collections import Counter

import pytest

from services.gateway.turns import CrowdedError, Turns, TurnsConfig

FAR = 1e9


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nobody_waits_while_there_is_room() -> None:
    turns = Turns(TurnsConfig(busy=4, capacity=8, modest=1))
    for _ in range(4):
        await turns.enter("a", 1, FAR)
    assert (turns.running, turns.waiting) == (4, 0)


async def test_where_all_ask_much_all_may() -> None:
    turns = Turns(TurnsConfig(busy=2, capacity=64, modest=1))
    entering = [asyncio.create_task(turns.enter(n, 1, FAR)) for _ in range(10) for n in "abcd"]
    await asyncio.wait(entering, timeout=1)
    for _ in range(8):
        turns.leave("a")
        turns.leave("b")
        turns.leave("c")
        turns.leave("d")
        await settle()
    assert all(entry.done() for entry in entering)


async def test_a_flood_gets_what_is_modest_while_another_asks_little() -> None:
    turns = Turns(TurnsConfig(busy=4, capacity=64, modest=3))
    await turns.enter("quiet", 1, FAR)
    flood = [asyncio.create_task(turns.enter("flood", 1, FAR)) for _ in range(30)]
    await settle()
    assert turns.running == 4
    async with asyncio.timeout(1):
        await turns.enter("quiet", 1, FAR)
    assert (turns.running, turns.waiting) == (5, 27)
    for entry in flood:
        entry.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert turns.waiting == 0


async def test_waiting_calls_take_turns_by_participant_and_weight() -> None:
    turns = Turns(TurnsConfig(busy=1, capacity=1, modest=1))
    await turns.enter("first", 1, FAR)
    order: list[str] = []

    async def call(name: str, weight: float) -> None:
        await turns.enter(name, weight, FAR)
        order.append(name)
        turns.leave(name)

    calls = [asyncio.create_task(call("flood", 1)) for _ in range(20)]
    await settle()
    calls += [asyncio.create_task(call("quiet", 1)) for _ in range(3)]
    calls += [asyncio.create_task(call("double", 2)) for _ in range(6)]
    await settle()
    turns.leave("first")
    await asyncio.gather(*calls)
    assert Counter(order[:12]) == {"flood": 3, "quiet": 3, "double": 6}
    assert turns.running == turns.waiting == 0


async def test_without_room_to_wait_the_longest_queue_loses_its_last() -> None:
    turns = Turns(TurnsConfig(busy=1, capacity=1, modest=1, waiting=4))
    await turns.enter("first", 1, FAR)
    flood = [asyncio.create_task(turns.enter("flood", 1, FAR)) for _ in range(4)]
    await settle()
    with pytest.raises(CrowdedError):
        await turns.enter("flood", 1, FAR)
    quiet = asyncio.create_task(turns.enter("quiet", 1, FAR))
    await settle()
    assert [entry.done() for entry in flood] == [False, False, False, True]
    assert isinstance(flood[3].exception(), CrowdedError)
    turns.leave("first")
    await settle()
    turns.leave("flood")
    await quiet
    for entry in flood[1:3]:
        entry.cancel()


async def test_a_call_waits_no_longer_than_its_patience() -> None:
    turns = Turns(TurnsConfig(busy=1, capacity=1, modest=1, patience=0.01))
    await turns.enter("a", 1, FAR)
    with pytest.raises(CrowdedError):
        await turns.enter("a", 1, FAR)
    turns.leave("a")
    assert (turns.running, turns.waiting) == (0, 0)
    await turns.enter("a", 1, FAR)


async def test_a_turn_that_comes_as_its_call_is_cancelled_is_given_back() -> None:
    turns = Turns(TurnsConfig(busy=1, capacity=1, modest=1))
    await turns.enter("a", 1, FAR)
    entering = asyncio.create_task(turns.enter("b", 1, FAR))
    await settle()
    turns.leave("a")
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    assert turns.running == 0
