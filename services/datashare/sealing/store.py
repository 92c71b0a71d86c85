"""The table of data keys.

Invariants: a subject has at most one data key for ever; a destroyed one stays as a row without its
wrapped bytes, so that no other is made for what was sealed before. Whoever seals holds the key's
row: a key is destroyed before or after such a transaction, never in it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import insert_free, stored_time
from services.datashare.schema import metadata
from services.datashare.sealing.app import Vault
from services.datashare.sealing.domain import DataKey, Place, Wrapped
from services.kit.db import UtcTime
from services.kit.errors import UnavailableError

subject_key = sa.Table(
    "subject_key",
    metadata,
    sa.Column("subject_id", sa.String(80), primary_key=True),
    sa.Column("kek_id", sa.String(64), nullable=False),
    sa.Column("wrapped", sa.LargeBinary),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("destroyed_at", UtcTime),
)


class Seals:
    """Sealing in one transaction.

    Args:
        conn: the transaction.
        vault: the process's data keys.
    """

    def __init__(self, conn: AsyncConnection, vault: Vault) -> None:
        self._conn = conn
        self._vault = vault
        self._held: dict[str, DataKey] = {}

    @property
    def types(self) -> frozenset[str]:
        """Record types whose payloads and summaries are sealed."""
        return self._vault.sealed_types

    def token(self, uscc: str) -> bytes:
        """Return what a checked registration number is found by."""
        return self._vault.tokens.of(uscc)

    async def seal(self, owner: str, place: Place, content: bytes) -> bytes:
        """Return sealed bytes, for tables that are not of records or summaries.

        Args:
            owner: a subject's id, or of what is not of one `domain.provider_owner`.
            place: a kind that nothing else has, then what names the row for ever.
            content: what is sealed.

        Raises:
            UnavailableError: keys cannot be had now, or the subject was erased just now.
        """
        return (await self.hold([owner]))[owner].seal(place, content)

    async def open(self, owner: str, place: Place, sealed: bytes) -> bytes | None:
        """Return what was sealed; None when the owner's key is destroyed.

        Raises:
            UnavailableError: keys cannot be had now.
            SealBrokenError: it was altered, or moved from where it belongs.
        """
        key = (await self.keys([owner])).get(owner)
        return key.open(place, sealed) if key else None

    async def keys(self, owners: Iterable[str]) -> dict[str, DataKey]:
        """Return the data keys to read with, of those owners that have one.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        return await self._keys(owners, hold=False)

    async def hold(self, owners: Iterable[str]) -> dict[str, DataKey]:
        """Return the data key of every owner to write with, made now where there was none.

        None of them is destroyed before the end of this transaction.

        Raises:
            UnavailableError: keys cannot be had now, or an owner was erased just now.
        """
        wanted = sorted(set(owners) - self._held.keys())
        if wanted:
            found = await self._keys(wanted, hold=True)
            missing = [owner for owner in wanted if owner not in found]
            if missing:
                # One that is destroyed has a row, so it is not made again.
                await self.add(await self._vault.make(missing))
                found |= await self._keys(missing, hold=True)
            if len(found) < len(wanted):
                raise UnavailableError(
                    "UNAVAILABLE",
                    "a subject was erased while this came in: send it again, and see its answer",
                )
            self._held |= found
        return self._held

    async def make(self, owners: Iterable[str]) -> tuple[dict[str, Wrapped], dict[str, DataKey]]:
        """Return new data keys, which `add` stores once it is clear that they are needed.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        wrapped = await self._vault.make(owners)
        return wrapped, await self._vault.open(wrapped)

    async def add(self, made: Mapping[str, Wrapped]) -> None:
        """Store data keys of owners that have none; others keep theirs."""
        now = stored_time(self._conn, self._vault.now())
        rows = [
            (owner, wrapped.kek_id, wrapped.content, now, None)
            for owner, wrapped in sorted(made.items())
        ]
        await insert_free(self._conn, subject_key, rows)

    async def destroy(self, subject_id: str, at: datetime) -> None:
        """Destroy a subject's data key: nobody reads what is sealed under it from now on."""
        mine = subject_key.c.subject_id == subject_id
        # Against `hold`, which an update of these columns alone would not wait for.
        await self._conn.execute(sa.select(subject_key.c.subject_id).where(mine).with_for_update())
        await self._conn.execute(
            sa.update(subject_key).where(mine).values(kek_id="", wrapped=None, destroyed_at=at)
        )
        self._held.pop(subject_id, None)

    async def _keys(self, owners: Iterable[str], *, hold: bool) -> dict[str, DataKey]:
        wanted = sorted(set(owners))
        if not wanted:
            return {}
        query = (
            sa.select(subject_key.c.subject_id, subject_key.c.kek_id, subject_key.c.wrapped)
            .where(subject_key.c.subject_id.in_(wanted), subject_key.c.destroyed_at.is_(None))
            .order_by(subject_key.c.subject_id)
        )
        if hold:
            query = query.with_for_update(read=True, key_share=True)
        rows = await self._conn.execute(query)
        return await self._vault.open(
            {row.subject_id: Wrapped(row.kek_id, bytes(row.wrapped)) for row in rows}
        )
