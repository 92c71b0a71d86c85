"""Wrapping, unwrapping and remembering data keys.

Invariants: an unwrapped key is remembered under its owner and the very bytes that wrapped it, which
whoever asks has read in its own transaction. So a destroyed key is never used again, whatever is
remembered; and it is forgotten after `KEPT_FOR`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from services.datashare.sealing.domain import (
    KEY_BYTES,
    DataKey,
    RandomBytes,
    SubjectTokens,
    Wrapped,
)
from services.kit.clock import Clock

T = TypeVar("T")

KEPT_FOR: Final = timedelta(minutes=10)
_MOST_KEPT: Final = 20_000
_AT_ONCE: Final = 32


class KeyEncryption(Protocol):
    """Holds the key-encryption keys: a file (`keyring.FileKeyRing`), or a key management service.

    An adapter to a KMS calls its Encrypt and Decrypt with the owner as the encryption context, and
    raises `UnavailableError` when it does not answer; see docs/adr/0010-sealing.md. The contract is
    tests/contract/datashare/test_key_encryption.py.
    """

    @property
    def current(self) -> str:
        """Id of the key-encryption key that wraps now, 1 to 64 characters."""
        ...

    async def wrap(self, key: bytes, owner: str) -> Wrapped:
        """Return a data key wrapped for its owner by the current key.

        Raises:
            UnavailableError: try again.
        """
        ...

    async def unwrap(self, wrapped: Wrapped, owner: str) -> bytes:
        """Return a data key.

        Raises:
            MissingKekError: it is wrapped by a key that is not at hand.
            SealBrokenError: it is not what was wrapped, or was wrapped for another owner.
            UnavailableError: try again.
        """
        ...


class Vault:
    """The data keys of a process.

    Args:
        encryption: wraps them.
        tokens: name registration numbers.
        sealed_types: record types whose payloads and summaries are sealed.
        clock: when remembered keys are to be forgotten.
        random_bytes: keys and nonces.
    """

    def __init__(
        self,
        encryption: KeyEncryption,
        tokens: SubjectTokens,
        sealed_types: frozenset[str],
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self.encryption = encryption
        self.tokens = tokens
        self.sealed_types = sealed_types
        self._clock = clock
        self._random_bytes = random_bytes
        # In the order of being remembered, so that what is too old is at the front.
        self._kept: dict[tuple[str, Wrapped], tuple[datetime, DataKey]] = {}

    def now(self) -> datetime:
        """Return the time."""
        return self._clock.now()

    async def make(self, owners: Iterable[str]) -> dict[str, Wrapped]:
        """Return a new data key for each owner.

        Raises:
            UnavailableError: the keys cannot be wrapped now.
        """

        async def one(owner: str) -> Wrapped:
            material = self._random_bytes(KEY_BYTES)
            wrapped = await self.encryption.wrap(material, owner)
            self._keep(owner, wrapped, DataKey(material, self._random_bytes))
            return wrapped

        return await _for_each(owners, one)

    async def open(self, stored: Mapping[str, Wrapped]) -> dict[str, DataKey]:
        """Return the data keys that were just read from the database, by owner.

        Raises:
            MissingKekError: one is wrapped by a key that is not at hand.
            UnavailableError: the keys cannot be unwrapped now.
        """
        self._forget()
        found = {}
        missing = []
        for owner, wrapped in stored.items():
            kept = self._kept.get((owner, wrapped))
            if kept:
                found[owner] = kept[1]
            else:
                missing.append(owner)

        async def one(owner: str) -> DataKey:
            material = await self.encryption.unwrap(stored[owner], owner)
            key = DataKey(material, self._random_bytes)
            self._keep(owner, stored[owner], key)
            return key

        return found | await _for_each(missing, one)

    async def rewrap(self, stored: Mapping[str, Wrapped]) -> dict[str, Wrapped]:
        """Return the same data keys wrapped by the current key-encryption key.

        Raises:
            MissingKekError: one is wrapped by a key that is not at hand.
            UnavailableError: the keys cannot be wrapped or unwrapped now.
        """

        async def one(owner: str) -> Wrapped:
            return await self.encryption.wrap(
                await self.encryption.unwrap(stored[owner], owner), owner
            )

        return await _for_each(stored, one)

    def _keep(self, owner: str, wrapped: Wrapped, key: DataKey) -> None:
        self._kept[owner, wrapped] = (self._clock.now(), key)
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def _forget(self) -> None:
        oldest = self._clock.now() - KEPT_FOR
        while self._kept:
            first = next(iter(self._kept))
            if self._kept[first][0] > oldest:
                return
            del self._kept[first]


async def _for_each(owners: Iterable[str], work: Callable[[str], Awaitable[T]]) -> dict[str, T]:
    """Return what the work gives for each owner; some at once, as each may ask over a network."""
    wanted = list(owners)
    done: dict[str, T] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        done |= zip(part, await asyncio.gather(*map(work, part)), strict=True)
    return done
