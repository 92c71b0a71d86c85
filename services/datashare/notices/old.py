"""Notices that are kept no longer.

Of each party only the oldest go, up to the first that is still kept: so one position tells from
where on everything is there, and a cursor from before it is refused.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.notices.endpoints import webhook
from services.datashare.notices.keeping import Keeping
from services.datashare.notices.store import acknowledgement, notice, pruned
from services.kit.db import insert_into


class OldNotices:
    """Notices that are kept no longer, in one transaction.

    Args:
        conn: the transaction.
        keeping: how long they are.
    """

    def __init__(self, conn: AsyncConnection, keeping: Keeping) -> None:
        self._conn = conn
        self._keeping = keeping

    async def due(self, day: int) -> int:
        """Return how many there are on a day; days since 1970-01-01 in China."""
        old = self._old(day).subquery()
        return await self._conn.scalar(sa.select(sa.func.count()).select_from(old)) or 0

    async def delete(self, day: int, limit: int) -> int:
        """Delete some of them and return how many; 0 is that none is left.

        Args:
            day: as of `due`.
            limit: most of them.
        """
        some = self._old(day).limit(limit).subquery()
        gone = await self._conn.execute(
            sa.delete(notice)
            .where(notice.c.position.in_(sa.select(some.c.position)))
            .returning(notice.c.party_id, notice.c.position)
        )
        last: dict[str, int] = {}
        rows = gone.all()
        for party_id, position in rows:
            last[party_id] = max(position, last.get(party_id, 0))
        if last:
            insert = insert_into(self._conn, pruned)
            await self._conn.execute(
                insert.on_conflict_do_update(
                    index_elements=["party_id"], set_={"position": insert.excluded.position}
                ),
                [{"party_id": name, "position": at} for name, at in sorted(last.items())],
            )
        return len(rows)

    def _old(self, day: int) -> sa.Select[tuple[int]]:
        """Return the positions of those that are due, in their order."""
        dealt_with, longest = self._keeping.ends(day)
        done = sa.or_(
            *(
                notice.c.position
                <= sa.select(table.c.position)
                .where(table.c.party_id == notice.c.party_id)
                .scalar_subquery()
                for table in (acknowledgement, webhook)
            )
        )
        due = sa.or_(
            notice.c.occurred_at < longest,
            sa.and_(notice.c.occurred_at < dealt_with, sa.func.coalesce(done, sa.false())),
        )
        kept = (
            sa.select(notice.c.party_id, sa.func.min(notice.c.position).label("first"))
            .where(sa.not_(due))
            .group_by(notice.c.party_id)
            .subquery()
        )
        return (
            sa.select(notice.c.position)
            .outerjoin(kept, kept.c.party_id == notice.c.party_id)
            .where(due, sa.or_(kept.c.first.is_(None), notice.c.position < kept.c.first))
            .order_by(notice.c.position)
        )
