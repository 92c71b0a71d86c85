import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from services.kit.coalesce import Coalescer, StagedCoalescer, StreamCoalescer
from services.kit.errors import DeadlineExceededError, InternalError

FAR = 1e9


class Doubler:
    """Doubles numbers, keeps the batches it saw, fails for negative ones."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        self.began.set()
        await self.gate.wait()
        return [ValueError(str(item)) if item < 0 else 2 * item for item in items]


async def test_items_that_wait_together_are_one_batch_and_get_their_own_results() -> None:
    doubler = Doubler()
    coalescer = Coalescer(doubler.run, max_batch=8, workers=1)
    results = await asyncio.gather(*(coalescer.submit(n, FAR) for n in range(5)))
    assert results == [0, 2, 4, 6, 8]
    assert doubler.batches == [[0, 1, 2, 3, 4]]


async def test_what_arrives_while_a_batch_runs_is_the_next_batch() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    coalescer = Coalescer(doubler.run, max_batch=8, workers=1)
    first = asyncio.create_task(coalescer.submit(1, FAR))
    await doubler.began.wait()
    later = [asyncio.create_task(coalescer.submit(n, FAR)) for n in (2, 3)]
    await asyncio.sleep(0)
    doubler.gate.set()
    assert [await first, *[await task for task in later]] == [2, 4, 6]
    assert doubler.batches == [[1], [2, 3]]


async def test_no_batch_is_larger_than_the_most() -> None:
    doubler = Doubler()
    coalescer = Coalescer(doubler.run, max_batch=2, workers=1)
    await asyncio.gather(*(coalescer.submit(n, FAR) for n in range(5)))
    assert [len(batch) for batch in doubler.batches] == [2, 2, 1]


async def test_a_failure_is_the_item_s_own() -> None:
    coalescer = Coalescer(Doubler().run, max_batch=8, workers=1)
    results = await asyncio.gather(
        *(coalescer.submit(n, FAR) for n in (1, -2, 3)), return_exceptions=True
    )
    assert results[0] == 2
    assert isinstance(results[1], ValueError)
    assert results[2] == 6


async def test_a_batch_that_raises_fails_every_item_and_the_next_one_runs() -> None:
    calls = 0

    async def run(items: list[int]) -> list[int | Exception]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("down")
        return list(items)

    coalescer = Coalescer(run, max_batch=8, workers=1)
    results = await asyncio.gather(
        *(coalescer.submit(n, FAR) for n in (1, 2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [OSError, OSError]
    assert await coalescer.submit(3, FAR) == 3


async def test_a_cancelled_item_does_not_cancel_others() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    coalescer = Coalescer(doubler.run, max_batch=8, workers=1)
    tasks = [asyncio.create_task(coalescer.submit(n, FAR)) for n in (1, 2)]
    await doubler.began.wait()
    tasks[0].cancel()
    doubler.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await tasks[1] == 4


async def test_an_item_whose_deadline_passed_is_dropped_before_the_batch() -> None:
    doubler = Doubler()
    coalescer = Coalescer(doubler.run, max_batch=8, workers=1)
    past = asyncio.get_running_loop().time() - 1
    results = await asyncio.gather(
        coalescer.submit(1, past), coalescer.submit(2, FAR), return_exceptions=True
    )
    assert isinstance(results[0], DeadlineExceededError)
    assert results[1] == 4
    assert doubler.batches == [[2]]


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_too_few_or_too_many_results_fail_the_batch_and_not_the_next(count: int) -> None:
    async def run(items: list[int]) -> list[int | Exception]:
        return [0] * (count if len(items) == 2 else len(items))

    coalescer = Coalescer(run, max_batch=8, workers=1)
    async with asyncio.timeout(1):
        found = await asyncio.gather(
            coalescer.submit(1, FAR), coalescer.submit(2, FAR), return_exceptions=True
        )
        assert [type(each) for each in found] == [InternalError, InternalError]
        assert await coalescer.submit(3, FAR) == 0


async def test_a_batch_that_is_cancelled_fails_its_items_and_not_the_next() -> None:
    async def run(items: list[int]) -> list[int | Exception]:
        if items == [1]:
            queued.append(asyncio.create_task(coalescer.submit(2, FAR)))
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        return list(items)

    queued: list[asyncio.Task[int]] = []
    coalescer: Coalescer[int, int] = Coalescer(run, max_batch=8, workers=1)
    async with asyncio.timeout(1):
        with pytest.raises(InternalError):
            await coalescer.submit(1, FAR)
        assert await queued[0] == 2
        assert await coalescer.submit(3, FAR) == 3


class TwoStages:
    """Keeps what began and ended; each batch makes room when told, and ends when told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.rooms: dict[int, Callable[[], None]] = {}
        self.ends: dict[int, asyncio.Event] = {}

    async def run(self, items: list[int], room: Callable[[], None]) -> list[int | Exception]:
        self.log.append(f"+{items}")
        self.rooms[items[0]] = room
        end = self.ends.setdefault(items[0], asyncio.Event())
        await end.wait()
        self.log.append(f"-{items}")
        return [ValueError(str(item)) if item < 0 else 2 * item for item in items]


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_batch_that_makes_room_lets_the_next_begin_and_ends_later() -> None:
    stages = TwoStages()
    coalescer: StagedCoalescer[int, int] = StagedCoalescer(stages.run, max_batch=8, batches=2)
    tasks = [asyncio.create_task(coalescer.submit(1, FAR))]
    await _turns()
    tasks += [asyncio.create_task(coalescer.submit(n, FAR)) for n in (2, -3)]
    await _turns()
    assert stages.log == ["+[1]"]
    stages.rooms[1]()
    await _turns()
    assert stages.log == ["+[1]", "+[2, -3]"]
    # Two run: a third waits until one of them has ended, though there is room in the first stage.
    tasks.append(asyncio.create_task(coalescer.submit(4, FAR)))
    stages.rooms[2]()
    await _turns()
    assert stages.log == ["+[1]", "+[2, -3]"]
    stages.ends[2].set()
    await _turns()
    assert stages.log == ["+[1]", "+[2, -3]", "-[2, -3]", "+[4]"]
    stages.ends[1].set()
    stages.ends[4].set()
    async with asyncio.timeout(1):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [2, 4, 8]
    assert isinstance(results[2], ValueError)


async def test_a_batch_that_ends_without_making_room_lets_the_next_begin() -> None:
    async def run(items: list[int], room: Callable[[], None]) -> list[int | Exception]:
        if items == [1]:
            raise ValueError("broken")
        return list(items)

    coalescer: StagedCoalescer[int, int] = StagedCoalescer(run, max_batch=1, batches=2)
    async with asyncio.timeout(1):
        results = await asyncio.gather(
            *(coalescer.submit(n, FAR) for n in range(1, 6)), return_exceptions=True
        )
    assert isinstance(results[0], ValueError)
    assert results[1:] == [2, 3, 4, 5]


async def test_a_streamed_batch_ends_when_the_last_who_waits_for_it_gives_up() -> None:
    ended = asyncio.Event()

    async def run(items: list[int]) -> AsyncIterator[tuple[int, int]]:
        try:
            yield 0, items[0]
            await asyncio.Event().wait()
        finally:
            ended.set()

    coalescer: StreamCoalescer[int, int] = StreamCoalescer(
        run, max_batch=8, workers=1, patience=0.01
    )
    loop = asyncio.get_running_loop()
    calls = [asyncio.create_task(coalescer.submit(item, loop.time() + 10)) for item in range(3)]
    assert await calls[0] == 0
    calls[1].cancel()
    await asyncio.sleep(0.05)
    assert not ended.is_set()
    calls[2].cancel()
    await asyncio.wait_for(ended.wait(), 5)
