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
    """Do a write in a transaction of its own, and again where that lost a race; see `once`."""

    async def attempt() -> T:
        async with transactions.begin() as unit:
            return await once(unit.requests, key, clock.now(), codec, lambda: work(unit))

    return await retry(attempt)


async def once(
    requests: Requests,
    key: RequestKey,
    at: datetime,
    codec: Codec[T],
    work: Callable[[], Awaitable[T]],
) -> T:
    """Do a write, or return what it returned the first time.

    Args:
        requests: in the transaction of the write.
        key: the write as its caller named it.
        at: now.
        codec: of the response.
        work: the write itself; what it raises is not kept.

    Raises:
        AlreadyExistsError: REQUEST_ID_REUSED.
    """
    stored = await requests.claim(key, at)
    if stored is not None:
        require_same(key, stored.fingerprint)
        return codec.decode(stored.response)
    response = await work()
    await requests.complete(key, codec.encode(response))
    return response
