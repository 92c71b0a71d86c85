"""The outbox table.

On PostgreSQL a writer takes an advisory lock before it draws its positions and holds it to the end
of its transaction: positions are then committed in their order, and a reader behind a cursor never
sees a position appear before its cursor. SQLite has one writer.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.changes.domain import Change, ChangeKind, Entry
from services.datashare.schema import metadata
from services.kit.db import UtcTime

change = sa.Table(
    "change",
    metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("consent_id", sa.String(64), nullable=False),
    sa.Column("participant_id", sa.String(64), nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("record_type", sa.String(64), nullable=False),
    sa.Column("dispute_id", sa.String(64), nullable=False, server_default=sa.text("''")),
    sqlite_autoincrement=True,  # a position is never used again
)

_LOCK = sa.select(sa.func.pg_advisory_xact_lock(0x70756875))


class ChangeStore:
    """The outbox in one transaction; changes are only ever added.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def append(self, changes: Sequence[Change]) -> None:
        """Add changes; do this late, as other writers of changes wait until the end."""
        if not changes:
            return
        if self._conn.dialect.name == "postgresql":
            await self._conn.execute(_LOCK)
        await self._conn.execute(
            sa.insert(change),
            [
                {
                    "kind": added.kind,
                    "changed_at": added.changed_at,
                    "subject_id": added.subject_id,
                    "consent_id": added.consent_id,
                    "participant_id": added.participant_id,
                    "key_id": added.key_id,
                    "record_type": added.record_type,
                    "dispute_id": added.dispute_id,
                }
                for added in changes
            ],
        )

    async def after(self, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` changes behind a position, in the order of commit."""
        rows = await self._conn.execute(
            sa.select(change)
            .where(change.c.position > position)
            .order_by(change.c.position)
            .limit(limit)
        )
        return [
            Entry(
                row.position,
                Change(
                    kind=ChangeKind(row.kind),
                    changed_at=row.changed_at,
                    subject_id=row.subject_id,
                    consent_id=row.consent_id,
                    participant_id=row.participant_id,
                    key_id=row.key_id,
                    record_type=row.record_type,
                    dispute_id=row.dispute_id,
                ),
            )
            for row in rows
        ]
