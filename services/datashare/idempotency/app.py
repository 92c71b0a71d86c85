"""Doing a write once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol, TypeVar

from services.datashare.idempotency.domain import RequestKey, StoredRequest, require_same

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
