import asyncio
import io

import pytest
from rich.console import Console

from services.sandbox.members import CONCURRENCY, each
from services.sandbox.stages import Stages


def test_stages_say_how_long_they_took_in_the_order_of_their_ends() -> None:
    with Stages(Console(file=io.StringIO())) as stages:
        with stages.stage("first", "First", 2) as advance:
            advance(1)
        with stages.stage("second", "Second"):
            pass
        with pytest.raises(OSError, match="broken"), stages.stage("third", "Third"):
            raise OSError("broken")
    assert list(stages.seconds) == ["first", "second"]
    assert all(seconds >= 0 for seconds in stages.seconds.values())


async def test_work_on_many_keeps_their_order_and_a_bound() -> None:
    running = most = done = 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (number % 3))
        running -= 1
        return number * number

    def advance(steps: int) -> None:
        nonlocal done
        done += steps

    results = await each(range(100), work, advance)
    assert results == [number * number for number in range(100)]
    assert most == CONCURRENCY
    assert done == 100


async def test_the_first_failure_among_many_ends_the_others() -> None:
    finished = []

    async def work(number: int) -> None:
        if number == 3:
            raise KeyError("no")
        await asyncio.sleep(0.01)
        finished.append(number)

    with pytest.raises(KeyError, match="no"):
        await each(range(1000), work, lambda _: None)
    await asyncio.sleep(0.05)
    assert len(finished) < CONCURRENCY
