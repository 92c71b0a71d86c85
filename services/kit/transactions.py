"""How a use case sees the database: transactions that give it the stores it names, and retries.

Nothing that is read or written outside a transaction counts; a transaction holds wholly or not at
all. `services.kit.db` has the real ones.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

T = TypeVar("T")
Work_co = TypeVar("Work_co", covariant=True)


class Snapshots(Protocol[Work_co]):
    """Opens transactions that read."""

    def read(self) -> AbstractAsyncContextManager[Work_co]:
        """Give the stores on a snapshot."""
        ...


class Transactions(Snapshots[Work_co], Protocol[Work_co]):
    """Opens transactions."""

    def begin(self) -> AbstractAsyncContextManager[Work_co]:
        """Give the stores in a write transaction, which is committed unless an error leaves it."""
        ...


class Retry(Protocol):
    """Runs work again that lost a race against another transaction."""

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work returns in the end.

        Args:
            work: opens its own transaction each time; has no effect outside it.
        """
        ...
