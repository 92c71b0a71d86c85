"""Calls that wait together are done together.

While a batch runs, new items queue; the next batch takes all that wait, so that batches grow with
load and a lone call never waits for company. Items whose deadline passed are dropped before the
batch; a cancelled item never cancels others; results and failures are per item.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.kit.errors import DeadlineExceededError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    deadline: float
    future: "asyncio.Future[Result]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Coalescer(Generic[Item, Result]):
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
        self._run = run
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
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiting.future

    async def _work(self) -> None:
        # Let the callers that are ready in this turn of the loop join the first batch.
        await asyncio.sleep(0)
        while self._queue:
            batch = self._take()
            if batch:
                await self._serve(batch)
        self._idle += 1

    def _take(self) -> list[_Waiting[Item, Result]]:
        now = asyncio.get_running_loop().time()
        batch: list[_Waiting[Item, Result]] = []
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.future.done():
                continue
            if waiting.deadline <= now:
                waiting.future.set_exception(
                    DeadlineExceededError(
                        "DEADLINE_EXCEEDED", "the deadline passed: allow more time"
                    )
                )
                continue
            batch.append(waiting)
        return batch

    async def _serve(self, batch: list[_Waiting[Item, Result]]) -> None:
        results: list[Result | Exception]
        try:
            results = await self._run([waiting.item for waiting in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, every waiting caller gets it
            results = [error] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
