"""The keys under which the platform signs and has signed.

The key in use is written down at the start and, where the database was away then, at the first
question for keys: with its leaf, so that nobody dates one back. Keys are never taken out.
"""

from collections.abc import Sequence
from typing import Protocol

from services.datashare.log.domain import LeafKind, Leaves, Sealer, rfc3339
from services.datashare.receipts.domain import PlatformKey, PlatformKeyRows, Signer
from services.kit.clock import Clock
from services.kit.transactions import Transactions


class Work(Protocol):
    """What these use cases need in a transaction."""

    @property
    def platform_keys(self) -> PlatformKeyRows:
        """The platform's keys."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...


class PlatformKeys:
    """The platform's keys.

    Args:
        transactions: opens transactions.
        clock: the time.
        sealer: makes leaves.
        signer: what signs now.
    """

    def __init__(
        self, *, transactions: Transactions[Work], clock: Clock, sealer: Sealer, signer: Signer
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._sealer = sealer
        self._signer = signer

    async def register(self) -> None:
        """Write down the key that signs now, unless that was done."""
        added = PlatformKey(self._signer.key, self._clock.now())
        async with self._transactions.begin() as work:
            if await work.platform_keys.add(added):
                content = {
                    "action": "platform",
                    "at": rfc3339(added.since),
                    "key_id": added.key.key_id,
                    "public_jwk": added.key.public_jwk,
                    "suite": added.key.suite,
                }
                leaf = self._sealer.seal(LeafKind.SIGNING_KEY, content, added.since)
                await work.leaves.append([leaf])

    async def list(self) -> Sequence[PlatformKey]:
        """Return every key, oldest first; the one that signs now is among them."""
        found = await self._all()
        if self._signer.key not in [known.key for known in found]:
            await self.register()
            found = await self._all()
        return found

    async def _all(self) -> Sequence[PlatformKey]:
        async with self._transactions.read() as work:
            return await work.platform_keys.all()
