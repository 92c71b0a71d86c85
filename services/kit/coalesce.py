"""Calls that wait together are done together.

While a batch runs, new items queue; the next batch takes all that wait, so that batches grow with
load and a lone call never waits for company. Items whose deadline passed are dropped before the
batch; a cancelled item never cancels others; results and failures are per item. However a batch
ends, each of its items is settled and its worker goes on.

Where items take very different times, a `StreamCoalescer` keeps the quick ones from waiting for the
slow: each result is handed over when it is there, and a batch that lasts does not hold up the next.
It ends when the last of those that still wait for it gives up.
Where a batch works in two places one after the other, a `StagedCoalescer` begins the next one in
the first place while the one before is in the second: both work, and batches stay large.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from services.kit.errors import DeadlineExceededError, InternalError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    deadline: float
    future: "asyncio.Future[Result]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, result: Result | Exception) -> None:
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class _Gatherer(ABC, Generic[Item, Result]):
    """What both kinds share: the queue, and who works on it."""

    def __init__(self, max_batch: int, workers: int) -> None:
        self._max_batch = max_batch
        self._idle = workers
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item, deadline: float) -> Result:
        """Return the result of `item`.

        Args:
            item: what to do.
            deadline: by the event loop's clock, seconds.

        Raises:
            DeadlineExceededError: the deadline passed while it waited.
        """
        waiting: _Waiting[Item, Result] = _Waiting(item, deadline)
        self._queue.append(waiting)
        if self._idle:
            self._idle -= 1
            self._start(self._work())
        return await waiting.future

    @abstractmethod
    async def _serve(self, batch: list[_Waiting[Item, Result]]) -> None:
        """Settle what waits; return when the next batch may start."""

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self) -> None:
        try:
            # Let the callers that are ready in this turn of the loop join the first batch.
            await asyncio.sleep(0)
            while self._queue:
                batch = self._take()
                if batch:
                    await self._serve(batch)
        finally:
            if self._queue:  # this one was cancelled, but somebody waits
                self._start(self._work())
            else:
                self._idle += 1

    def _take(self) -> list[_Waiting[Item, Result]]:
        now = asyncio.get_running_loop().time()
        batch: list[_Waiting[Item, Result]] = []
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.future.done():
                continue
            if waiting.deadline <= now:
                waiting.settle(
                    DeadlineExceededError(
                        "DEADLINE_EXCEEDED", "the deadline passed: allow more time"
                    )
                )
                continue
            batch.append(waiting)
        return batch


class Coalescer(_Gatherer[Item, Result]):
    """Runs single items in batches.

    Args:
        run: does a batch; returns one result or exception per item, in their order. If it raises,
            every item fails with that.
        max_batch: most items in one batch.
        workers: batches that may run at the same time.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[list[Result | Exception]]],
        *,
        max_batch: int,
        workers: int,
    ) -> None:
        super().__init__(max_batch, workers)
        self._run = run

    async def _serve(self, batch: list[_Waiting[Item, Result]]) -> None:
        await _settle(batch, self._run([waiting.item for waiting in batch]))


class StagedCoalescer(_Gatherer[Item, Result]):
    """Runs single items in batches that make room for the next one before they end.

    Args:
        run: does a batch, as that of a `Coalescer`; calls what it is given beside the items once
            the next batch may begin.
        max_batch: most items in one batch.
        batches: most that run at the same time, those included that made room.
    """

    def __init__(
        self,
        run: Callable[[list[Item], Callable[[], None]], Awaitable[list[Result | Exception]]],
        *,
        max_batch: int,
        batches: int,
    ) -> None:
        super().__init__(max_batch, workers=1)
        self._run = run
        self._room = asyncio.Semaphore(batches)

    async def _serve(self, batch: list[_Waiting[Item, Result]]) -> None:
        await self._room.acquire()
        going_on = asyncio.Event()
        done = self._run([waiting.item for waiting in batch], going_on.set)
        running = self._start(_settle(batch, done))
        running.add_done_callback(lambda _: self._room.release())
        running.add_done_callback(lambda _: going_on.set())
        await going_on.wait()
        # Before the next batch is taken, so that what comes meanwhile is in it.
        async with self._room:
            pass


class StreamCoalescer(_Gatherer[Item, Result]):
    """Runs single items in batches whose results come one by one.

    Args:
        run: does a batch; gives each item's index with its result or exception, in any order. If it
            raises, the items without a result fail with that.
        max_batch: most items in one batch.
        workers: batches that may run at the same time.
        patience: seconds after which a batch that still runs no longer counts as one of those.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], AsyncIterator[tuple[int, Result | Exception]]],
        *,
        max_batch: int,
        workers: int,
        patience: float,
    ) -> None:
        super().__init__(max_batch, workers)
        self._run = run
        self._patience = patience

    async def _serve(self, batch: list[_Waiting[Item, Result]]) -> None:
        running = self._start(self._collect(batch))

        def given_up(future: "asyncio.Future[Result]") -> None:
            if future.cancelled() and all(waiting.future.done() for waiting in batch):
                running.cancel()

        for waiting in batch:
            waiting.future.add_done_callback(given_up)
        await asyncio.wait((running,), timeout=self._patience)

    async def _collect(self, batch: list[_Waiting[Item, Result]]) -> None:
        failure: Exception = _unanswered()
        try:
            async for index, result in self._run([waiting.item for waiting in batch]):
                batch[index].settle(result)
        except Exception as error:  # noqa: BLE001 - whatever it is, every waiting caller gets it
            failure = error
        finally:
            _settle_rest(batch, failure)


async def _settle(
    batch: "list[_Waiting[Item, Result]]", done: Awaitable[list[Result | Exception]]
) -> None:
    """Settle each item by what a batch gives."""
    failure: Exception = _unanswered()
    try:
        results = await done
        # Which item one too few or too many belongs to cannot be known.
        if len(results) == len(batch):
            for waiting, result in zip(batch, results, strict=True):
                waiting.settle(result)
    except Exception as error:  # noqa: BLE001 - whatever it is, every waiting caller gets it
        failure = error
    finally:
        _settle_rest(batch, failure)


def _unanswered() -> InternalError:
    return InternalError("INTERNAL", "a service left a call without an answer")


def _settle_rest(batch: "list[_Waiting[Item, Result]]", failure: Exception) -> None:
    for waiting in batch:
        waiting.settle(failure)
