"""Doing a write once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol, TypeVar

from services.datashare.idempotency.domain import RequestKey, StoredRequest, require_same
from services.kit.clock import Clock
from services.kit.transactions import Retry, Transactions

T = TypeVar("T")


class Requests(Protocol):
    """The request ids that were used."""

    async def claim(self, key: RequestKey, at: datetime) -> StoredRequest | None:
        """Take a request_id, or return what it already stands for.

        Waits for a transaction that took it and has not ended.
        """
        ...

    async def complete(self, key: RequestKey, response: bytes) -> None:
        """Keep the response to a claimed request_id."""
        ...


class Codec(Protocol[T]):
    """Turns a response into bytes and back."""

    def encode(self, response: T) -> bytes:
        """Return the bytes of a response."""
        ...

    def decode(self, stored: bytes) -> T:
        """Return the response of its bytes."""
        ...


class Work(Protocol):
    """What a write needs in its transaction to happen once."""

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


W = TypeVar("W", bound=Work)


async def write_once(
    transactions: Transactions[W],
    retry: Retry,
    key: RequestKey,
    clock: Clock,
    codec: Codec[T],
    work: Callable[[W], Awaitable[T]],
) -> T:
    """Do a write in a transaction of its own, or return what it returned the first time.

    Args:
        transactions: opens it.
        retry: runs it again where it lost a race.
        key: the write as its caller named it.
        clock: the time.
        codec: of the response.
        work: the write itself; what it raises is not kept.

    Raises:
        AlreadyExistsError: REQUEST_ID_REUSED.
    """

    async def attempt() -> T:
        async with transactions.begin() as unit:
            stored = await unit.requests.claim(key, clock.now())
            if stored is not None:
                require_same(key, stored.fingerprint)
                return codec.decode(stored.response)
            response = await work(unit)
            await unit.requests.complete(key, codec.encode(response))
            return response

    return await retry(attempt)
