import asyncio
from collections.abc import AsyncIterator

from services.kit.coalesce import StreamCoalescer
from services.kit.errors import InternalError, UnavailableError


def deadline() -> float:
    return asyncio.get_running_loop().time() + 5


async def test_each_result_is_handed_over_when_it_is_there() -> None:
    go_on = asyncio.Event()

    async def run(items: list[str]) -> AsyncIterator[tuple[int, str | Exception]]:
        yield items.index("quick"), "first"
        await go_on.wait()
        yield items.index("slow"), "second"

    coalescer = StreamCoalescer(run, max_batch=8, workers=1, patience=5)
    slow = asyncio.create_task(coalescer.submit("slow", deadline()))
    assert await coalescer.submit("quick", deadline()) == "first"
    assert not slow.done()
    go_on.set()
    assert await slow == "second"


async def test_a_batch_that_lasts_does_not_hold_up_the_next() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def run(items: list[str]) -> AsyncIterator[tuple[int, str | Exception]]:
        if "slow" in items:
            begun.set()
            await go_on.wait()
        for index, item in enumerate(items):
            yield index, item.upper()

    coalescer = StreamCoalescer(run, max_batch=8, workers=1, patience=0.01)
    slow = asyncio.create_task(coalescer.submit("slow", deadline()))
    await begun.wait()
    assert await coalescer.submit("next", deadline()) == "NEXT"
    assert not slow.done()
    go_on.set()
    assert await slow == "SLOW"


async def test_while_a_batch_runs_what_waits_gathers_into_one() -> None:
    batches: list[list[int]] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def run(items: list[int]) -> AsyncIterator[tuple[int, int | Exception]]:
        batches.append(items)
        begun.set()
        await go_on.wait()
        for index, item in enumerate(items):
            yield index, item

    coalescer = StreamCoalescer(run, max_batch=4, workers=1, patience=5)
    first = asyncio.create_task(coalescer.submit(0, deadline()))
    await begun.wait()
    others = [asyncio.create_task(coalescer.submit(n, deadline())) for n in range(1, 7)]
    await asyncio.sleep(0)  # each has said what it wants
    go_on.set()
    assert await asyncio.gather(first, *others) == [0, 1, 2, 3, 4, 5, 6]
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_items_without_a_result_fail_and_the_others_do_not() -> None:
    async def run(items: list[str]) -> AsyncIterator[tuple[int, str | Exception]]:
        yield 0, "done"
        yield 1, UnavailableError("UNAVAILABLE", "no")
        if "break" in items:
            raise ConnectionError

    coalescer = StreamCoalescer(run, max_batch=8, workers=1, patience=5)
    done, failed, left = await asyncio.gather(
        *(coalescer.submit(item, deadline()) for item in ("a", "b", "c")), return_exceptions=True
    )
    assert done == "done"
    assert isinstance(failed, UnavailableError)
    assert isinstance(left, InternalError)

    *_, broken = await asyncio.gather(
        *(coalescer.submit(item, deadline()) for item in ("a", "b", "break")),
        return_exceptions=True,
    )
    assert isinstance(broken, ConnectionError)


async def test_a_batch_that_is_cancelled_fails_its_items_and_not_the_next() -> None:
    async def run(items: list[str]) -> AsyncIterator[tuple[int, str | Exception]]:
        for index, item in enumerate(items):
            if item == "bad":
                raise asyncio.CancelledError
            yield index, item

    coalescer = StreamCoalescer(run, max_batch=8, workers=1, patience=5)
    async with asyncio.timeout(1):
        found = await asyncio.gather(
            coalescer.submit("good", deadline()),
            coalescer.submit("bad", deadline()),
            return_exceptions=True,
        )
        assert found[0] == "good"
        assert isinstance(found[1], InternalError)
        assert await coalescer.submit("next", deadline()) == "next"
