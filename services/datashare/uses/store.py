"""The table of uses: counts that are only added, to be summed up when somebody asks.

A batch of releases adds a row for each provider, type, purpose and recipient in it, however many
releases it has: no counter is shared that releases would wait for.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import copy_rows
from services.datashare.schema import metadata
from services.datashare.uses.app import Place
from services.datashare.uses.domain import Counted, Use
from services.kit.ids import Ids

record_use = sa.Table(
    "record_use",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("purpose", sa.String(64), primary_key=True),
    # Of the transaction that counted, and the recipient.
    sa.Column("batch_id", sa.String(64), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    # Empty of before it was kept.
    sa.Column("recipient_id", sa.String(64), nullable=False, server_default=sa.text("''")),
    sqlite_with_rowid=False,
)


class UseStore:
    """Uses in one transaction.

    Args:
        conn: the transaction.
        ids: makes ids of batches.
    """

    def __init__(self, conn: AsyncConnection, ids: Ids) -> None:
        self._conn = conn
        self._ids = ids

    async def append(self, counts: Sequence[Counted]) -> None:
        """Add what was used in this transaction; once in it."""
        if not counts:
            return
        recipients = sorted({each.recipient_id for each in counts})
        batches = {recipient_id: self._ids.new("use") for recipient_id in recipients}
        rows = [
            (
                provider_id,
                use.day,
                use.record_type,
                use.purpose,
                batches[recipient_id],
                use.releases,
                recipient_id,
            )
            for provider_id, use, recipient_id in counts
        ]
        await copy_rows(self._conn, record_use, rows)

    async def page(
        self,
        provider_id: str,
        *,
        first: int | None,
        last: int | None,
        after: Place | None,
        limit: int,
    ) -> Sequence[Use]:
        """Return uses of what a provider supplied, newest first.

        Args:
            provider_id: whose.
            first: first day, days since 1970-01-01; None is any.
            last: last day; None is any.
            after: the use behind which the page begins; None is the first page.
            limit: most uses.
        """
        columns = (record_use.c.day, record_use.c.record_type, record_use.c.purpose)
        day, record_type, purpose = columns
        # PostgreSQL adds up big integers to a numeric.
        total = sa.cast(sa.func.sum(record_use.c["count"]), sa.BigInteger)
        query = (
            sa.select(*columns, total)
            .where(record_use.c.provider_id == provider_id)
            .group_by(*columns)
            .order_by(day.desc(), record_type, purpose)
            .limit(limit)
        )
        if first is not None:
            query = query.where(day >= first)
        if last is not None:
            query = query.where(day <= last)
        if after is not None:
            on, behind_type, behind_purpose = after
            behind = sa.or_(
                record_type > behind_type,
                sa.and_(record_type == behind_type, purpose > behind_purpose),
            )
            query = query.where(sa.or_(day < on, sa.and_(day == on, behind)))
        return [Use(*row) for row in await self._conn.execute(query)]
