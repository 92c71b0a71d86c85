"""Counts what a sandbox holds."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.store import access
from services.datashare.participants.store import participant
from services.datashare.records.store import record
from services.datashare.subjects.store import subject


class CountStore:
    """Counts in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def participants(self) -> int:
        """Return the number of accounts."""
        return await self._count(participant)

    async def firms(self) -> int:
        """Return the number of subjects."""
        return await self._count(subject)

    async def records(self) -> int:
        """Return the number of versions of records."""
        return await self._count(record)

    async def accesses(self, since: datetime) -> int:
        """Return the number of releases since a time."""
        return await self._count(access, access.c.accessed_at >= since)

    async def _count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(*where)
        return await self._conn.scalar(query) or 0
