"""The table of subjects."""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.schema import metadata
from services.kit.db import insert_into
from services.kit.ids import Ids

subject = sa.Table(
    "subject",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("uscc", sa.String(18), nullable=False, unique=True),
)


class SubjectStore:
    """Subjects in one transaction.

    Args:
        conn: the transaction.
        ids: makes subject ids.
    """

    def __init__(self, conn: AsyncConnection, ids: Ids) -> None:
        self._conn = conn
        self._ids = ids

    async def resolve(self, uscc: str) -> str | None:
        """Return the subject_id of a checked code."""
        return (await self._resolve_many([uscc])).get(uscc)

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name a subject."""
        rows = await self._conn.execute(
            sa.select(subject.c.subject_id).where(subject.c.subject_id.in_(sorted(subject_ids)))
        )
        return set(rows.scalars())

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> dict[str, str]:
        """Return the subject_id of every checked code, made now where there was none.

        Two transactions that make the same subject at once get the same id: the second waits for
        the first. Rows are made in sorted order, so that they cannot wait for each other.
        """
        wanted = sorted(set(usccs))
        found = await self._resolve_many(wanted)
        missing = [uscc for uscc in wanted if uscc not in found]
        if missing:
            await self._conn.execute(
                insert_into(self._conn, subject).on_conflict_do_nothing(
                    index_elements=[subject.c.uscc]
                ),
                [{"subject_id": self._ids.new("sub"), "uscc": uscc} for uscc in missing],
            )
            found |= await self._resolve_many(missing)
        return found

    async def _resolve_many(self, usccs: list[str]) -> dict[str, str]:
        rows = await self._conn.execute(
            sa.select(subject.c.uscc, subject.c.subject_id).where(subject.c.uscc.in_(usccs))
        )
        return {row.uscc: row.subject_id for row in rows}
