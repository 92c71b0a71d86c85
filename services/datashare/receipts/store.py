"""The table of the platform's keys. A row is never changed nor taken out."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.receipts.domain import PlatformKey, PublicKey, Suite
from services.datashare.schema import metadata
from services.kit.db import UtcTime, insert_into

platform_key = sa.Table(
    "platform_key",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("public_jwk", sa.String(1024), nullable=False),
    sa.Column("suite", sa.String(16), nullable=False),
    sa.Column("since", UtcTime, nullable=False),
)


class PlatformKeyStore:
    """The platform's keys in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, key: PlatformKey) -> bool:
        """Add a key unless it is there; tell whether it was added."""
        result = await self._conn.execute(
            insert_into(self._conn, platform_key)
            .values(
                key_id=key.key.key_id,
                public_jwk=key.key.public_jwk,
                suite=key.key.suite,
                since=key.since,
            )
            .on_conflict_do_nothing()
        )
        return bool(result.rowcount)

    async def all(self) -> Sequence[PlatformKey]:
        """Return every key, oldest first."""
        query = sa.select(platform_key).order_by(platform_key.c.since, platform_key.c.key_id)
        return [
            PlatformKey(PublicKey(row.key_id, row.public_jwk, Suite(row.suite)), row.since)
            for row in await self._conn.execute(query)
        ]
