"""The table of leaves."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import copy_rows, stored_time
from services.datashare.log.domain import Leaf
from services.datashare.schema import metadata
from services.kit.db import UtcTime

leaf = sa.Table(
    "leaf",
    metadata,
    sa.Column("leaf_id", sa.String(64), primary_key=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("salt", sa.LargeBinary(16), nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    # In the tree, from 0; NULL until the sequencer has placed it.
    sa.Column("position", sa.BigInteger),
)

_IS_PLACED = leaf.c.position.is_not(None)

# New leaves have no position, so that writing them does not touch this index.
sa.Index(
    "uq_leaf_position",
    leaf.c.position,
    unique=True,
    postgresql_where=_IS_PLACED,
    sqlite_where=_IS_PLACED,
)


class LeafStore:
    """Leaves in one transaction; they are only ever added.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def append(self, leaves: Sequence[Leaf]) -> None:
        """Add leaves, not yet sequenced."""
        await copy_rows(
            self._conn,
            leaf,
            [
                (
                    added.leaf_id,
                    stored_time(self._conn, added.created_at),
                    added.kind,
                    added.salt,
                    added.hash,
                    None,
                )
                for added in leaves
            ],
        )
